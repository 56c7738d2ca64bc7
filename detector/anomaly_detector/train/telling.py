"""Tell InfluxDB what came of a training: a point of the measurement `anomaly_retraining` (docs/influx.md).

Nothing depends on it: what cannot be written is said on standard error, and the training ends as it would have.
"""

import asyncio
import os
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from anomaly_detector.config import InfluxServer
from anomaly_detector.influx.client import InfluxClient
from anomaly_detector.influx.lineprotocol import Field, line
from anomaly_detector.train.errors import DataError, TrainingError
from anomaly_detector.train.event import read_event

MEASUREMENT = "anomaly_retraining"
_MOST_WORDS = 1_000


def tell(options: Namespace, ended: Mapping[str, Any] | TrainingError) -> None:
    """Write the point of a training that ended with this result or error. Raises InfluxError.

    The bucket is that of ANOMALY_INFLUXDB_URL, _ORG and _BUCKET, with the token in the file `token` of _DIR.
    """
    point = _failed(options, ended) if isinstance(ended, TrainingError) else _succeeded(options, ended)
    folder = os.environ.get("ANOMALY_INFLUXDB_DIR")
    server = InfluxServer(
        url=os.environ["ANOMALY_INFLUXDB_URL"].rstrip("/"),
        org=os.environ.get("ANOMALY_INFLUXDB_ORG", ""),
        bucket=os.environ.get("ANOMALY_INFLUXDB_BUCKET", ""),
        token_file=str(Path(folder, "token")) if folder else None,
    )

    async def write() -> None:
        async with aiohttp.ClientSession() as session:
            await InfluxClient(session, server).write([point])

    asyncio.run(write())


def _succeeded(options: Namespace, result: Mapping[str, Any]) -> str:
    """Return the point of a training that registered a version, whether or not that got the alias."""
    kept = result["alias"] is not None and not result["aliasMoved"]
    return _point(
        options,
        "NotBetter" if kept else "Succeeded",
        version=result["version"],
        message=result["verdict"],
        run_id=result["runId"],
        alias=result["alias"],
        alias_moved=result["aliasMoved"],
        rows=result["data"]["rows"],
        data_sha256=result["data"]["sha256"],
        seconds=result["seconds"],
        **{f"metric_{name}": float(value) for name, value in result["metrics"].items()},
    )


def _failed(options: Namespace, error: TrainingError) -> str:
    """Return the point of a training that registered nothing."""
    return _point(options, "Failed", version="", message=str(error), exit_code=error.exit_code)


def _point(options: Namespace, outcome: str, *, version: str, message: str, **fields: Field) -> str:
    environ = os.environ.get
    tags = {
        "namespace": environ("ANOMALY_NAMESPACE", ""),
        "model": environ("ANOMALY_MODEL", ""),
        "version": version,
        "role": "training",
        "pod": environ("ANOMALY_POD_NAME", ""),
    }
    event = _event(getattr(options, "event", None))
    common: dict[str, Field] = {
        "outcome": outcome,
        "message": message[:_MOST_WORDS],
        "registered_model": options.model,
        "compared_with": getattr(options, "compare_with", None),
        "trigger": getattr(options, "trigger", None),
        "reason": event.get("reason"),
        "event_id": event.get("id"),
    }
    return line(MEASUREMENT, tags, common | fields, time.time_ns()) or ""  # never: it has an outcome


def _event(given: str | None) -> dict[str, str]:
    """Return the texts of an event; of one that cannot be read none, the training has said so."""
    try:
        body = read_event(given).body if given else {}
    except DataError:
        return {}
    return {name: value for name, value in body.items() if isinstance(value, str)}

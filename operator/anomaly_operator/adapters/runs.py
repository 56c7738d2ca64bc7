"""MLflow's REST API for runs: one run for each version that serves, linked to the version, with a record a period."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from anomaly_detector.report import PREFIX
from anomaly_operator.adapters.registry import Registry, RegistryError
from anomaly_operator.domain import importance
from anomaly_operator.domain.importance import Importance, Period
from anomaly_operator.domain.times import rfc3339

SERVING = PREFIX + "serving"
REGISTERED_MODEL, VERSION = PREFIX + "registered-model", PREFIX + "version"
TOP = PREFIX + "top-anomalies"
_PROXIED = "mlflow-artifacts:/"
_LONGEST_TAG = 5000
_ROWS = "rows"
_ARTIFACTS = "/api/2.0/mlflow-artifacts"
_DEFAULT_EXPERIMENT = "0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A version that an AnomalyModel serves."""

    namespace: str
    name: str
    """Of the AnomalyModel."""
    model: str
    """Registered model."""
    version: str
    run_id: str
    """Of the training."""
    source: str
    """`models:/m-...` or `runs:/...`."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run that holds records of a version."""

    run_id: str
    artifacts: str
    recorded: int | None
    """Number of the newest period that it has a record of."""


class Runs(Registry):
    """Records of versions that serve; use as an asynchronous context manager."""

    async def find(self, uri: str, served: Served) -> Run | None:
        """Return the run of a version, None if there is none yet. Raises RegistryError."""
        wanted = f"tags.`{SERVING}` = '{served.namespace}/{served.name}' and tags.`{VERSION}` = '{served.version}'"
        body = {"experiment_ids": [await self._experiment(uri, served)], "filter": wanted}
        for found in (await self._request("POST", uri, "/runs/search", body=body)).get("runs") or ():
            # A name may hold what the filter's grammar does not take, so it is compared here.
            tags = (found.get("data") or {}).get("tags") or ()
            if {"key": REGISTERED_MODEL, "value": served.model} in tags:
                return _run(found)
        return None

    async def create(self, uri: str, served: Served, now: float) -> Run:
        """Create the run of a version beside its training run. Raises RegistryError."""
        tags = {
            SERVING: f"{served.namespace}/{served.name}",
            REGISTERED_MODEL: served.model,
            VERSION: served.version,
            **({"mlflow.parentRunId": served.run_id} if served.run_id else {}),
        }
        body = {
            "experiment_id": await self._experiment(uri, served),
            "run_name": f"serving {served.namespace}/{served.name}",
            "start_time": int(now * 1000),
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        return _run((await self._request("POST", uri, "/runs/create", body=body)).get("run") or {})

    async def link(self, uri: str, served: Served, run: Run) -> None:
        """Link run and version both ways: the model as the run's input, the run's id as a tag. Raises RegistryError."""
        if served.source.startswith("models:/m-"):
            inputs = {"run_id": run.run_id, "models": [{"model_id": served.source.removeprefix("models:/")}]}
            await self._request("POST", uri, "/runs/log-inputs", body=inputs)
        key = f"{SERVING}-run.{served.namespace}.{served.name}"
        await self.set_version_tag(uri, served.model, served.version, key, run.run_id)

    async def record(self, uri: str, run: Run, period: Period, found: Importance) -> None:
        """Write one period's record: first the anomalies, then the metrics, which say that it is there.

        Raises RegistryError.
        """
        await self._anomalies(uri, run, period, found)
        at = int(period.end * 1000)
        values = [
            {"key": key, "value": value, "timestamp": at, "step": period.number}
            for key, value in importance.metrics(found).items()
        ]
        await self._request("POST", uri, "/runs/log-batch", body={"run_id": run.run_id, "metrics": values})
        ended = {"run_id": run.run_id, "status": "FINISHED", "end_time": at}
        await self._request("POST", uri, "/runs/update", body=ended)

    async def _anomalies(self, uri: str, run: Run, period: Period, found: Importance) -> None:
        """Write the top anomalies as an artifact where the server takes artifacts, else as a tag as far as they fit."""
        record = {"from": rfc3339(period.start), "to": rfc3339(period.end), "anomalies": list(found.anomalies)}
        if run.artifacts.startswith(_PROXIED):
            path = quote(f"{run.artifacts.removeprefix(_PROXIED).lstrip('/')}/anomalies/{record['from']}.json")
            await self._request("PUT", uri, f"/artifacts/{path}", api=_ARTIFACTS, body=record)
            return
        short = [{name: value for name, value in one.items() if name != "explanation"} for one in found.anomalies]
        while len(text := json.dumps({**record, "anomalies": short})) > _LONGEST_TAG:
            short.pop()
        body = {"run_id": run.run_id, "key": TOP, "value": text}
        await self._request("POST", uri, "/runs/set-tag", body=body)

    async def _experiment(self, uri: str, served: Served) -> str:
        """Return the experiment of the training run; the default one where that run is gone."""
        if not served.run_id:
            return _DEFAULT_EXPERIMENT
        try:
            answer = await self._request("GET", uri, "/runs/get", query={"run_id": served.run_id})
        except RegistryError as error:
            if error.reason != "NotFound":
                raise
            return _DEFAULT_EXPERIMENT
        return str(((answer.get("run") or {}).get("info") or {}).get("experiment_id") or _DEFAULT_EXPERIMENT)


def _run(body: Mapping[str, Any]) -> Run:
    info, data = body.get("info") or {}, body.get("data") or {}
    run_id = info.get("run_id")
    if not run_id:
        raise RegistryError("Unreachable", "the registry's answer has no run")
    steps = (metric.get("step") for metric in data.get("metrics") or () if metric.get("key") == _ROWS)
    return Run(str(run_id), str(info.get("artifact_uri") or ""), importance.latest(steps))

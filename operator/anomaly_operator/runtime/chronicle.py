"""Remember decisions outside the cluster: a JSON log line, a metric, and a tag of the version in the registry."""

import asyncio
import json
import logging
from typing import Any

from anomaly_detector.report import PREFIX
from anomaly_operator.adapters.metrics import Metrics
from anomaly_operator.adapters.registry import Registry, RegistryError
from anomaly_operator.domain import codec
from anomaly_operator.domain.records import HistoryEntry
from anomaly_operator.runtime.background import Background
from anomaly_operator.runtime.observe import View
from anomaly_operator.runtime.workqueue import Key

log = logging.getLogger("anomaly_operator.decisions")

PAUSES = (1.0, 5.0, 30.0, 120.0, 600.0)
"""Seconds between tries to tag a version, while the registry does not answer."""
_LONGEST_TAG = 5000


class Chronicle:
    """Write down decisions, once each."""

    def __init__(
        self,
        registry: Registry,
        background: Background,
        metrics: Metrics,
        *,
        allowed: tuple[str, ...],
        default_uri: str,
    ) -> None:
        self._registry, self._background, self._metrics = registry, background, metrics
        self._allowed, self._default_uri = allowed, default_uri

    def publish(self, key: Key, view: View, entry: HistoryEntry) -> None:
        """Write a decision down; what cannot be done at once is tried again in the background."""
        record = codec.to_json(entry)
        log.info(
            "%s: %s", entry.outcome, entry.message or entry.reason,
            extra={"namespace": key[0], "model": key[1], "decision": record},
        )  # fmt: skip
        self._metrics.decisions.labels(entry.outcome, entry.reason).inc()
        uri = (view.desired.spec.model.tracking_uri or self._default_uri).rstrip("/")
        if entry.version and uri in self._allowed:
            tag = f"{PREFIX}history.{key[0]}.{key[1]}"
            value = _tag_value(record)
            work = self._tag(uri, view.desired.spec.model.name, entry.version, tag, value)
            self._background.start(("tag", key, entry.version, entry.hash or entry.ended_at), work)

    async def _tag(self, uri: str, name: str, version: str, tag: str, value: str) -> None:
        for pause in (*PAUSES, None):
            try:
                await self._registry.set_version_tag(uri, name, version, tag, value)
            except RegistryError as error:
                if pause is None or error.reason != "Unreachable":
                    log.warning("version %s of %s could not be tagged with what became of it: %s", version, name, error)
                    return
                await asyncio.sleep(pause)
            else:
                return


def _tag_value(record: dict[str, Any]) -> str:
    """Return a decision as a tag's value: words are left out before it gets too long; the hash never is."""
    bare = [{name: value for name, value in seen.items() if name != "text"} for seen in record.get("evidence", ())]
    shorter = record | {"evidence": bare}
    for candidate in (record, shorter, shorter | {"message": ""}):
        value = json.dumps(candidate, separators=(",", ":"))
        if len(value) <= _LONGEST_TAG:
            return value
    kept = ("revision", "version", "digest", "outcome", "reason", "endedAt", "hash")
    return json.dumps({name: record[name] for name in kept if name in record}, separators=(",", ":"))

"""Remember decisions outside the cluster: a JSON log line, a metric, and tags in the registry."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from anomaly_operator.adapters.metrics import Metrics
from anomaly_operator.adapters.registry import Registry, RegistryError
from anomaly_operator.domain import codec, registry_tags
from anomaly_operator.domain.records import HistoryEntry
from anomaly_operator.runtime.background import Background
from anomaly_operator.runtime.memory import Memory
from anomaly_operator.runtime.observe import View
from anomaly_operator.runtime.workqueue import Key, Priority, WorkQueue

log = logging.getLogger("anomaly_operator.decisions")

PAUSES = (1.0, 5.0, 30.0, 120.0, 600.0)
"""Seconds until the registry is tried again while it does not answer; the last one for ever."""


@dataclass(frozen=True, slots=True)
class _Missing:
    """What the registry is not known to have, of one AnomalyModel."""

    key: Key
    uri: str
    model: str
    entries: tuple[HistoryEntry, ...]
    retrainings: str
    """Empty if it has them."""


class Chronicle:
    """Log decisions once each, and have the registry hold what `status` remembers, whenever it was away."""

    def __init__(
        self,
        registry: Registry,
        background: Background,
        queue: WorkQueue,
        metrics: Metrics,
        *,
        allowed: tuple[str, ...],
        default_uri: str,
    ) -> None:
        self._registry, self._background, self._queue, self._metrics = registry, background, queue, metrics
        self._allowed, self._default_uri = allowed, default_uri

    def publish(self, key: Key, entry: HistoryEntry) -> None:
        """Log a decision that has just been made, and count it."""
        log.info(
            "%s: %s", entry.outcome, entry.message or entry.reason,
            extra={"namespace": key[0], "model": key[1], "decision": codec.to_json(entry)},
        )  # fmt: skip
        self._metrics.decisions.labels(entry.outcome, entry.reason).inc()

    def keep(self, key: Key, view: View) -> None:
        """Begin to write to the registry what it lacks of a model's memory; nothing if that is under way."""
        memory, status, model = view.memory, view.observed.status, view.desired.spec.model
        uri = (model.tracking_uri or self._default_uri).rstrip("/")
        if uri not in self._allowed or view.observed.deleting or view.desired.unreachable is not None:
            return  # when the registry answers again, that is another look
        text = registry_tags.retrainings_value(status.retrainings) if status.retrainings else ""
        entries = tuple(e for e in status.history if e.version and e.hash not in memory.recorded)
        missing = _Missing(key, uri, model.name, entries, "" if text == memory.recorded_retrainings else text)
        if entries or missing.retrainings:
            self._background.start(("chronicle", key), self._write(missing, memory))

    async def _write(self, missing: _Missing, memory: Memory) -> None:
        delay = 0.0
        try:
            for version in dict.fromkeys(entry.version for entry in missing.entries):
                await self._of_version(missing, memory, [e for e in missing.entries if e.version == version])
            await self._retrainings(missing, memory)
            memory.record_failures = 0
        except RegistryError as error:
            delay = PAUSES[min(memory.record_failures, len(PAUSES) - 1)]
            memory.record_failures += 1
            log.info("the registry will be told in %.0f s what became of %s: %s", delay, missing.model, error)
        # What has come to pass meanwhile, or failed, is seen by another look.
        self._queue.add(missing.key, priority=Priority.ROUTINE, delay=delay)

    async def _of_version(self, missing: _Missing, memory: Memory, entries: Sequence[HistoryEntry]) -> None:
        """Tag a version with what became of it; one that the registry refuses is given up until a restart.

        Raises RegistryError while the registry does not answer.
        """
        namespace, name = missing.key
        version = entries[0].version
        try:
            tags, run_id = await self._registry.version_tags(missing.uri, missing.model, version)
            for entry in entries:
                key = registry_tags.key(namespace, name, entry)
                # A version of this number, but of another model that the spec named before, is not ours to tag.
                ours = not (run_id and entry.run_id) or run_id == entry.run_id
                if ours and key not in tags:
                    value = registry_tags.value(namespace, name, memory.uid, entry)
                    await self._registry.set_version_tag(missing.uri, missing.model, version, key, value)
                memory.recorded.add(entry.hash)
        except RegistryError as error:
            if error.reason == "Unreachable":
                raise
            log.warning("version %s of %s is not tagged with what became of it: %s", version, missing.model, error)
            memory.recorded.update(entry.hash for entry in entries)

    async def _retrainings(self, missing: _Missing, memory: Memory) -> None:
        if not missing.retrainings:
            return
        key = registry_tags.retrainings_key(*missing.key)
        try:
            await self._registry.set_model_tag(missing.uri, missing.model, key, missing.retrainings)
        except RegistryError as error:
            if error.reason == "Unreachable":
                raise
            log.warning("the registered model %s is not tagged with its retrainings: %s", missing.model, error)
        memory.recorded_retrainings = missing.retrainings

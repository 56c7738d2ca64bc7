"""Tell people what happened: Event objects, as `kubectl describe` shows them."""

import asyncio
import logging
import secrets

from anomaly_devcluster import clock
from anomaly_devcluster.client import EVENTS, FAILURES, Client, Object

_PENDING = 1000
_log = logging.getLogger(__name__)


class EventRecorder:
    """Write Events in the background; the same words about the same object are counted, not repeated."""

    def __init__(self, client: Client, component: str) -> None:
        self._client = client
        self._component = component
        self._queue: asyncio.Queue[tuple[Object, str, str, str]] = asyncio.Queue(_PENDING)
        self._written: dict[tuple[str, str, str], Object] = {}

    def normal(self, about: Object, reason: str, message: str) -> None:
        """Record that something happened as it should."""
        self._put(about, "Normal", reason, message)

    def warning(self, about: Object, reason: str, message: str) -> None:
        """Record that something went wrong."""
        self._put(about, "Warning", reason, message)

    def _put(self, about: Object, kind: str, reason: str, message: str) -> None:
        try:
            self._queue.put_nowait((about, kind, reason, message[:1024]))
        except asyncio.QueueFull:
            _log.warning("too many events, dropped: %s %s", reason, message)

    async def run(self) -> None:
        """Write what is recorded, until cancelled."""
        while True:
            about, kind, reason, message = await self._queue.get()
            try:
                await self._write(about, kind, reason, message)
            except FAILURES as error:
                _log.debug("event %s: %s", reason, error)

    async def _write(self, about: Object, kind: str, reason: str, message: str) -> None:
        metadata = about["metadata"]
        key = (metadata.get("uid", metadata["name"]), reason, message)
        if written := self._written.pop(key, None):
            change = {"count": written["count"] + 1, "lastTimestamp": clock.now()}
            self._written[key] = await self._client.patch(EVENTS, written, change)
            return
        namespace = metadata.get("namespace", "default")
        reference = {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion") if key in metadata}
        self._written[key] = await self._client.create(
            EVENTS,
            {
                "metadata": {"name": f"{metadata['name']}.{secrets.token_hex(8)}", "namespace": namespace},
                "involvedObject": {"apiVersion": about["apiVersion"], "kind": about["kind"], **reference},
                "type": kind,
                "reason": reason,
                "message": message,
                "count": 1,
                "firstTimestamp": clock.now(),
                "lastTimestamp": clock.now(),
                "source": {"component": self._component},
                "reportingComponent": self._component,
            },
        )
        while len(self._written) > _PENDING:
            del self._written[next(iter(self._written))]

"""Copies of users' requests to the other color, off the response path, and how its answers compare.

Rows go by name, so that a revision that orders its features otherwise sees the same values. What does not fit into
the queue, or meets an open circuit, is dropped and counted: copies cost users nothing.
"""

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import orjson
from numpy.typing import NDArray

from anomaly_detector.circuit import Breaker
from anomaly_detector.courier import Courier, NoAnswerError, NobodyThereError
from anomaly_detector.protocols import Scored
from anomaly_detector.protocols.rows import dumps
from anomaly_detector.report import Shadow

log = logging.getLogger(__name__)

QUEUE = 256
QUEUED_VALUES = 2**21
"""Numbers in the rows that wait: 16 MiB, however large the requests are."""
WORKERS = 4
TRACE_HEADERS = ("traceparent", "tracestate", "x-request-id")
_OK = 200


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """One request to repeat."""

    rows: NDArray[np.float64]
    own: Scored | None
    """None where the own model failed; then there is nothing to compare."""
    headers: Mapping[str, str]


@dataclass(slots=True)
class Comparison:
    """Sums over the copies since the role, or the other color's revision, last changed."""

    sent: int = 0
    answered: int = 0
    failed: int = 0
    dropped: int = 0
    rows: int = 0
    agreeing: int = 0
    difference: float = 0.0
    own_anomalies: int = 0
    other_anomalies: int = 0
    revision: str | None = None

    def compare(self, own: Scored, labels: NDArray[np.bool_], scores: NDArray[np.float64]) -> None:
        """Add the answers to one request."""
        self.rows += len(labels)
        self.agreeing += int((own.anomalous == labels).sum())
        self.difference += float((scores - own.scores).sum())
        self.own_anomalies += int(own.anomalous.sum())
        self.other_anomalies += int(labels.sum())

    def report(self) -> Shadow:
        """Return them as a report has them."""
        return Shadow(
            sent=self.sent,
            answered=self.answered,
            failed=self.failed,
            dropped=self.dropped,
            rows=self.rows,
            labelAgreement=round(self.agreeing / self.rows, 6) if self.rows else None,
            meanScoreDifference=round(self.difference / self.rows, 6) if self.rows else None,
            ownAnomalies=self.own_anomalies,
            otherAnomalies=self.other_anomalies,
            otherRevision=self.revision,
        )


@dataclass(slots=True)
class ShadowTraffic:
    """Sends copies to `url`, the other color's Service."""

    url: str
    features: tuple[str, ...]
    comparison: Comparison = field(default_factory=Comparison)
    _queue: asyncio.Queue[Copy] = field(default_factory=lambda: asyncio.Queue(QUEUE))
    _values: int = 0
    _breaker: Breaker = field(default_factory=Breaker)

    def reset(self) -> None:
        """Begin to count anew."""
        self.comparison = Comparison()

    def offer(self, copy: Copy, percent: float) -> None:
        """Queue a copy with a chance of `percent`; drop it if there is no room."""
        if percent <= 0 or random.random() * 100 >= percent:
            return
        values = self._values + copy.rows.size
        too_large = self._values > 0 and values > QUEUED_VALUES
        if too_large or self._queue.full() or not self._breaker.allows(time.monotonic()):
            self.comparison.dropped += 1
            return
        self._values = values
        self._queue.put_nowait(copy)

    async def run(self) -> None:
        """Send what is queued, until cancelled."""
        async with asyncio.TaskGroup() as workers:
            for _ in range(WORKERS):
                workers.create_task(self._work(Courier(f"{self.url}/predict")))

    async def _work(self, courier: Courier) -> None:
        try:
            while True:
                copy = await self._queue.get()
                self._values -= copy.rows.size
                try:
                    await self._send(courier, copy)
                except Exception:
                    log.exception("a copy was lost")
                    self.comparison.failed += 1
        finally:
            await courier.close()

    async def _send(self, courier: Courier, copy: Copy) -> None:
        comparison = self.comparison
        body = dumps({"features": self.features, "rows": copy.rows})
        try:
            answer = await courier.post(body, {"x-anomaly-source": "shadow", **copy.headers})
        except NobodyThereError:  # no word about the other model
            comparison.dropped += 1
            self._breaker.note(success=False, now=time.monotonic())
            return
        except NoAnswerError as error:
            comparison.failed += 1
            self._breaker.note(success=False, now=time.monotonic())
            log.debug("copy failed: %s", error)
            return
        comparison.sent += 1
        self._breaker.note(success=True, now=time.monotonic())
        comparison = self._of_revision(answer.headers.get("x-anomaly-revision"))
        if answer.status != _OK:
            comparison.failed += 1
            return
        comparison.answered += 1
        if copy.own is not None:
            self._compare(comparison, copy.own, answer.body)

    def _of_revision(self, revision: str | None) -> Comparison:
        """Return the present comparison, a new one when another revision has taken the other color."""
        known = self.comparison.revision
        if known is not None and revision != known:
            self.comparison = Comparison(sent=1)
        self.comparison.revision = revision
        return self.comparison

    def _compare(self, comparison: Comparison, own: Scored, content: bytes) -> None:
        try:
            predictions = orjson.loads(content)["predictions"]
            labels = np.array([prediction["anomaly"] for prediction in predictions], dtype=bool)
            scores = np.array([prediction["score"] for prediction in predictions], dtype=np.float64)
        except (ValueError, KeyError, TypeError):
            comparison.failed += 1
            return
        if len(labels) == len(own.scores):
            comparison.compare(own, labels, scores)


def trace_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that tie a copy to its request."""
    return {name: headers[name] for name in TRACE_HEADERS if name in headers}

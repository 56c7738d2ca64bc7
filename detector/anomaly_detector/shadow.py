"""Copies of users' requests to the other color, off the response path, and how its answers compare.

Rows go by name, so that a revision that orders its features otherwise sees the same values. What does not fit into
the queue, or meets an open circuit, is dropped and counted: copies cost users nothing.
"""

import asyncio
import json
import logging
import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson
from numpy.typing import NDArray

from anomaly_detector import http1
from anomaly_detector.circuit import Breaker
from anomaly_detector.courier import Courier, NoAnswerError, NobodyThereError, UnreadAnswerError
from anomaly_detector.protocols import Scored
from anomaly_detector.protocols.rows import dumps
from anomaly_detector.report import Shadow

log = logging.getLogger(__name__)

QUEUE = 256
QUEUED_VALUES = 2**21
"""Numbers in the rows that wait: 16 MiB, however large the requests are."""
WORKERS = 4
TRACE_HEADERS = ("traceparent", "tracestate", "x-request-id")
_OK, _SERVER_ERROR, _UNAVAILABLE = 200, 500, 503


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """One request to repeat."""

    rows: NDArray[np.float64]
    own: Scored | None
    """None where the own model failed; then there is nothing to compare."""
    headers: Mapping[str, str]
    seconds: float | None = None
    """How long the own answer took; None where that is not to be compared."""


@dataclass(slots=True)
class Comparison:
    """Sums over the copies since the role, or the other color's revision, last changed."""

    answered: int = 0
    failed: int = 0
    refused: int = 0
    dropped: int = 0
    rows: int = 0
    agreeing: int = 0
    scored: int = 0
    """Rows whose scores are numbers on both sides; a model may say NaN, and the other color null."""
    difference: float = 0.0
    own_anomalies: int = 0
    other_anomalies: int = 0
    timed: int = 0
    own_seconds: float = 0.0
    other_seconds: float = 0.0
    revision: str | None = None

    def compare(self, own: Scored, labels: NDArray[np.bool_], scores: NDArray[np.float64]) -> None:
        """Add the answers to one request."""
        differences = scores - own.scores
        differences = differences[np.isfinite(differences)]
        self.rows += len(labels)
        self.agreeing += int((own.anomalous == labels).sum())
        self.scored += len(differences)
        self.difference += float(differences.sum())
        self.own_anomalies += int(own.anomalous.sum())
        self.other_anomalies += int(labels.sum())

    def time(self, own: float, other: float) -> None:
        """Add how many seconds the answers to one request took."""
        self.timed += 1
        self.own_seconds += own
        self.other_seconds += other

    def report(self) -> Shadow:
        """Return them as a report has them."""
        return Shadow(
            sent=self.answered + self.failed + self.refused,
            answered=self.answered,
            failed=self.failed,
            refused=self.refused,
            dropped=self.dropped,
            rows=self.rows,
            labelAgreement=_mean(self.agreeing, self.rows),
            meanScoreDifference=_mean(self.difference, self.scored),
            meanOwnMilliseconds=_mean(self.own_seconds * 1000, self.timed),
            meanOtherMilliseconds=_mean(self.other_seconds * 1000, self.timed),
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
                    self.comparison.dropped += 1
        finally:
            await courier.close()

    async def _send(self, courier: Courier, copy: Copy) -> None:
        body = _written(self.features, copy.rows)
        began = time.perf_counter()
        try:
            answer = await courier.post(body, {"x-anomaly-source": "shadow", **copy.headers})
        except UnreadAnswerError:
            self.comparison.dropped += 1
            return
        except NobodyThereError:
            self.comparison.dropped += 1
            self._breaker.note(success=False, now=time.monotonic())
            return
        except NoAnswerError as error:
            self.comparison.failed += 1
            self._breaker.note(success=False, now=time.monotonic())
            log.debug("copy failed: %s", error)
            return
        seconds = time.perf_counter() - began
        self._breaker.note(success=True, now=time.monotonic())
        self._count(self._of_revision(answer.headers.get("x-anomaly-revision")), copy, answer, seconds)

    def _of_revision(self, revision: str | None) -> Comparison:
        """Return the present comparison, a new one when another revision has taken the other color.

        What names no revision comes from something in between, and says nothing of that.
        """
        known = self.comparison.revision
        if known is not None and revision not in (known, None):
            self.comparison = Comparison()
        self.comparison.revision = revision or known
        return self.comparison

    def _count(self, comparison: Comparison, copy: Copy, answer: http1.Response, seconds: float) -> None:
        if answer.status != _OK:
            failed = answer.status >= _SERVER_ERROR and answer.status != _UNAVAILABLE
            comparison.failed += failed
            comparison.refused += not failed
            return
        try:
            labels, scores = _read(answer.body, len(copy.rows))
        except (ValueError, KeyError, TypeError) as error:
            comparison.failed += 1
            log.debug("not an answer: %r", error)
            return
        comparison.answered += 1
        if copy.own is not None:
            comparison.compare(copy.own, labels, scores)
            if copy.seconds is not None:
                comparison.time(copy.seconds, seconds)


def _written(features: Sequence[str], rows: NDArray[np.float64]) -> bytes:
    """Return the body of a copy. orjson would write infinity as null, which is a missing value."""
    if np.isinf(rows).any():
        return json.dumps({"features": features, "rows": rows.tolist()}, separators=(",", ":")).encode()
    return dumps({"features": features, "rows": rows})


def _read(content: bytes, rows: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return labels and scores of an answer. Raises ValueError, KeyError or TypeError where it is none."""
    predictions = orjson.loads(content)["predictions"]
    if len(predictions) != rows:
        raise ValueError(f"{len(predictions)} predictions for {rows} rows")
    labels = np.array([prediction["anomaly"] for prediction in predictions], dtype=bool)
    return labels, np.array([prediction["score"] for prediction in predictions], dtype=np.float64)


def _mean(total: float, count: int) -> float | None:
    """Return it as a report may have it."""
    mean = total / count if count else math.nan
    return round(mean, 6) if math.isfinite(mean) else None


def trace_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that tie a copy to its request."""
    return {name: headers[name] for name in TRACE_HEADERS if name in headers}

"""Counts and latencies of the last seconds, by source, in constant memory and constant time a request."""

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from anomaly_detector.report import LATENCY_BOUNDS_MS, SOURCES, Counts, Source

SLOTS = 30
GATED_ROWS = 16
"""Requests with more rows are counted, but their latency is not: it says more of the client than of the model."""
_BUCKETS = len(LATENCY_BOUNDS_MS) + 1


@dataclass(slots=True)
class Tally:
    """Sums of one source."""

    served: int = 0
    failed: int = 0
    shed: int = 0
    client_errors: int = 0
    rows: int = 0
    anomalies: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * _BUCKETS)

    def add(self, other: "Tally", sign: int = 1) -> None:
        """Add `sign` times another tally."""
        self.served += sign * other.served
        self.failed += sign * other.failed
        self.shed += sign * other.shed
        self.client_errors += sign * other.client_errors
        self.rows += sign * other.rows
        self.anomalies += sign * other.anomalies
        self.latency = [a + sign * b for a, b in zip(self.latency, other.latency, strict=True)]

    def counts(self) -> Counts:
        """Return them as a report has them."""
        return Counts(served=self.served, failed=self.failed, shed=self.shed, clientErrors=self.client_errors)


class Window:
    """A sliding window of `seconds`, made of slots; a slot leaves as a whole, so it covers at most `seconds`."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._width = seconds / SLOTS
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._totals: dict[Source, Tally] = {source: Tally() for source in SOURCES}
        self._slots: deque[tuple[int, dict[Source, Tally]]] = deque()
        self.since_reset: dict[Source, int] = dict.fromkeys(SOURCES, 0)
        """Requests counted by `served` since the last reset, however long ago."""

    def served(self, source: Source, *, milliseconds: float, rows: int, anomalies: int, failed: bool) -> None:
        """Count a request that was answered; `failed` if 5xx or timed out."""
        self.since_reset[source] += 1
        bucket = bisect_left(LATENCY_BOUNDS_MS, milliseconds)
        for tally in self._current(source):
            tally.served += 1
            tally.failed += failed
            tally.rows += 0 if failed else rows
            tally.anomalies += anomalies
            if rows <= GATED_ROWS:
                tally.latency[bucket] += 1

    def shed(self, source: Source) -> None:
        """Count a request refused because too many were in flight."""
        for tally in self._current(source):
            tally.shed += 1

    def client_error(self, source: Source) -> None:
        """Count a request answered 4xx."""
        for tally in self._current(source):
            tally.client_errors += 1

    def tally(self, source: Source) -> Tally:
        """Return the sums of a source; they change with the next request."""
        self._advance()
        return self._totals[source]

    def _current(self, source: Source) -> tuple[Tally, Tally]:
        number = self._advance()
        if not self._slots or self._slots[-1][0] != number:
            self._slots.append((number, {source: Tally() for source in SOURCES}))
        return self._slots[-1][1][source], self._totals[source]

    def _advance(self) -> int:
        """Drop the slots that have left the window and return the number of the present one."""
        number = int(self._clock() / self._width)
        while self._slots and self._slots[0][0] <= number - SLOTS:
            for source, tally in self._slots.popleft()[1].items():
                self._totals[source].add(tally, -1)
        return number

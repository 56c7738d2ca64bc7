"""How far the points have been scored: which window to read next, and which rows of it are new. Pure: time is given.

Kept outside (in the Lease) is one time, the position: whatever arrived in time before it has its result. A holder that
died may have written results beyond it, so the next one looks at what is there before it scores, window by window.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from anomaly_detector.source.rows import SECOND, Key, Row

FIRST_SPAN, SHORTEST_SPAN, LONGEST_SPAN = 60 * SECOND, SECOND, 86_400 * SECOND
"""How much time a backlog is read by at once: less when there is too much in it, more when there is not."""
GIVE_UP = 600 * SECOND
"""How long a row is tried again that the model fails on. By then a version that fails has been rolled back."""


@dataclass(slots=True)
class Progress:
    """Of one holder. All times and lengths are nanoseconds."""

    position: int
    """Everything before it that arrived in time has its result."""
    lateness: int
    taken_over: int = 0
    """When this holder began: earlier ones wrote no results later than that, but for their clocks."""
    known: int = 0
    """Results of earlier holders are known until then."""
    _read_to: int = 0
    """Ahead of the position while rows before it have to be tried again."""
    _settled: int | None = None
    """Everything before it had arrived when it was last read; unknown to a new holder."""
    _span: int = FIRST_SPAN
    _done: dict[Key, int] = field(default_factory=dict)
    """Time by key, of results from `start` on."""

    @property
    def start(self) -> int:
        """Return from when on points have to be read."""
        settled = self.position - self.lateness if self._settled is None else self._settled
        return min(self.position, settled)

    def stop(self, now: int) -> int:
        """Return until when points are read now; what bears a later time waits until it has come."""
        reached = max(self.position, self._read_to)
        return max(reached, min(now, reached + self._span))

    def unknown(self, stop: int) -> tuple[int, int] | None:
        """Return the time until `stop` in which an earlier holder may have left results that are not known yet.

        Clocks agree within the lateness.
        """
        first, last = max(self.start, self.known), min(stop, self.taken_over + self.lateness)
        return (first, last) if first < last else None

    def narrow(self) -> bool:
        """Read less at once, from the position on if need be; return whether that is possible."""
        if self._span > SHORTEST_SPAN:
            self._span = max(SHORTEST_SPAN, self._span // 4)
            return True
        ahead, self._read_to = self._read_to > self.position, 0
        return ahead

    def fresh(self, rows: Iterable[Row | None], now: int) -> Iterator[Row | None]:
        """Yield the rows that are due and have no result yet; None for each that has, or must wait.

        A row that lacks a feature waits for it as long as a point may be late.
        """
        for row in rows:
            due = row is not None and (row.complete or row.time <= now - self.lateness)
            yield row if row is not None and due and row.key not in self._done else None

    def settle(self, keys: Iterable[Key]) -> None:
        """Note rows that have their results, or never get any."""
        self._done |= {key: key[0] for key in keys}

    def advance(self, stop: int, now: int, failed: Iterable[Row] = ()) -> int:
        """Note that all until `stop` was read at `now`, and which rows are to be tried again; return the position."""
        if stop < now:
            self._span = min(LONGEST_SPAN, self._span * 2)
        self._read_to = stop
        self.position = min([stop, *(row.time for row in failed if row.time > now - GIVE_UP)])
        self._settled = min(stop, now - self.lateness)
        first = self.start
        self._done = {key: time for key, time in self._done.items() if time >= first}
        return self.position

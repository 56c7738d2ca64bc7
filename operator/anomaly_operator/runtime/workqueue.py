"""Which model is looked at next: deduplicated, one at a time per key, by urgency, with delays and back-off.

As in controller-runtime: a key that is added while it is worked on is handed out again afterwards. Time is the event
loop's, so that tests run in virtual time.
"""

import asyncio
import enum
import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass

Key = tuple[str, str]
"""Namespace and name of an AnomalyModel."""

FIRST_DELAY = 0.2
LONGEST_DELAY = 60.0


class Priority(enum.IntEnum):
    """How soon a key is looked at, most urgent first."""

    URGENT = 0
    """May mean a rollback."""
    NORMAL = 1
    ROUTINE = 2
    """Resyncs and polls."""


@dataclass(slots=True)
class _Entry:
    due: float
    priority: Priority
    since: float
    """When it became due."""


class WorkQueue:
    """Keys to look at."""

    def __init__(self, *, jitter: Callable[[float], float] = lambda delay: delay * random.uniform(0.8, 1.2)) -> None:
        self._entries: dict[Key, _Entry] = {}
        self._working: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._ready: list[tuple[int, int, Key]] = []
        self._delayed: list[tuple[float, int, Key]] = []
        self._order = itertools.count()
        self._changed = asyncio.Event()
        self._jitter = jitter

    def add(self, key: Key, *, priority: Priority = Priority.NORMAL, delay: float = 0) -> None:
        """Ask for `key`; of several requests the earliest time and the highest priority count."""
        now = self._now()
        due = now + max(0.0, delay)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(due, priority, since=due)
        elif due < entry.due or priority < entry.priority:
            entry.due, entry.priority = min(due, entry.due), min(priority, entry.priority)
            entry.since = min(entry.since, entry.due)
        else:
            return
        self._file(key, entry, now)

    def retry(self, key: Key, *, at_least: float = 0) -> float:
        """Ask for `key` again after a failure, later each time; returns the delay, seconds."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = max(at_least, self._jitter(min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(failures - 1, 16))))
        self.add(key, delay=delay)
        return delay

    def succeeded(self, key: Key) -> None:
        """Begin the next back-off anew."""
        self._failures.pop(key, None)

    def forget(self, key: Key) -> None:
        """Drop everything about a key that is gone."""
        self._failures.pop(key, None)
        self._entries.pop(key, None)

    async def get(self, *, only: Priority = Priority.ROUTINE) -> tuple[Key, float]:
        """Wait for a key of at least the priority `only` and take it; `done()` must follow.

        Returns the key, and when it became due (loop time).
        """
        while True:
            self._changed.clear()
            taken = self._take(only)
            if taken is not None:
                return taken
            delay = self._delayed[0][0] - self._now() if self._delayed else None
            try:
                async with asyncio.timeout(delay):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, key: Key) -> None:
        """Give back a key that `get()` handed out."""
        self._working.discard(key)
        entry = self._entries.get(key)
        if entry is not None:
            self._file(key, entry, self._now())

    def urgent(self, key: Key) -> bool:
        """Return whether something urgent has been asked for since `key` was taken."""
        entry = self._entries.get(key)
        return entry is not None and entry.priority == Priority.URGENT and entry.due <= self._now()

    def depth(self) -> int:
        """Return how many keys are due and wait."""
        now = self._now()
        return sum(entry.due <= now for key, entry in self._entries.items() if key not in self._working)

    def longest_wait(self) -> float:
        """Return how long the oldest key that is due has been waiting, seconds."""
        now = self._now()
        return max((now - e.since for key, e in self._entries.items() if key not in self._working), default=0.0)

    def _file(self, key: Key, entry: _Entry, now: float) -> None:
        """Put an entry into the heap where it belongs; older references to it are skipped when they come up."""
        if key in self._working:
            return
        if entry.due <= now:
            heapq.heappush(self._ready, (entry.priority, next(self._order), key))
        else:
            heapq.heappush(self._delayed, (entry.due, next(self._order), key))
        self._changed.set()

    def _take(self, only: Priority) -> tuple[Key, float] | None:
        now = self._now()
        while self._delayed and self._delayed[0][0] <= now:
            due, _, key = heapq.heappop(self._delayed)
            entry = self._entries.get(key)
            if entry is not None and entry.due <= due and key not in self._working:
                heapq.heappush(self._ready, (entry.priority, next(self._order), key))
        while self._ready:
            priority, _, key = self._ready[0]
            entry = self._entries.get(key)
            if entry is None or key in self._working or entry.priority != priority or entry.due > now:
                heapq.heappop(self._ready)  # stale
                continue
            if priority > only:
                return None
            heapq.heappop(self._ready)
            del self._entries[key]
            self._working.add(key)
            self._changed.set()  # others may find more
            return key, entry.since
        return None

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

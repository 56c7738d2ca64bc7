"""Work beside the queue that may be slow or fail: bounded, named, and dropped rather than piled up.

Each sort of work has slots of its own: pods are told their roles while a thousand Events wait, or a registry hangs.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


Name = tuple[Any, ...]
"""Which sort of work, and about what."""
CONCURRENT = 128
FEW = {"event": 8}
"""Sorts that need not be many at once: each would take a connection of its own to the API server."""


class Background:
    """Run coroutines, one at a time per name; what comes above the limit is dropped and counted."""

    def __init__(self, *, limit: int = 20_000) -> None:
        self._limit = limit
        self._slots: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(CONCURRENT))
        self._slots |= {sort: asyncio.Semaphore(count) for sort, count in FEW.items()}
        self._tasks: dict[Name, asyncio.Task[None]] = {}
        self.dropped = 0

    def start(self, name: Name, work: Coroutine[Any, Any, None]) -> bool:
        """Start `work` unless something runs under its name or too much runs already; returns whether it started."""
        if name in self._tasks or len(self._tasks) >= self._limit:
            self.dropped += name not in self._tasks
            work.close()
            return False
        task = asyncio.create_task(self._in_turn(self._slots[name[0]], work))
        self._tasks[name] = task
        task.add_done_callback(lambda done: self._ended(name, done))
        return True

    async def _in_turn(self, slots: asyncio.Semaphore, work: Coroutine[Any, Any, None]) -> None:
        try:
            async with slots:
                await work
        finally:
            work.close()

    async def stop(self) -> None:
        """Cancel what runs."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, name: Name, task: asyncio.Task[None]) -> None:
        self._tasks.pop(name, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background work failed", extra={"work": str(name)}, exc_info=error)

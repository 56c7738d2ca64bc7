"""The queues between the pod and InfluxDB: bounded, in batches, with patience, and never in a request's way.

Explanations that are still to be made wait in a queue of their own: however long they take, nothing waits for them.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

import aiohttp
import numpy as np
from numpy.typing import NDArray

from anomaly_detector.config import InfluxConfig
from anomaly_detector.dataplane import EXPLAINED_IN_ANSWER, DataPlane
from anomaly_detector.influx import points
from anomaly_detector.influx.client import InfluxClient, InfluxError, by_halves
from anomaly_detector.observer import Observation
from anomaly_detector.report import Drift, Report

log = logging.getLogger(__name__)

MAX_ROWS, MAX_POINTS, MAX_UNEXPLAINED = 20_000, 20_000, 2_000
BATCH = 500
FLUSH_SECONDS = 1.0
CLOSE_SECONDS = 2.0
RETRY_FIRST, RETRY_LONGEST = 1.0, 60.0
PAUSE_EVERY = 256
"""Rows after which requests get their turn."""


@dataclass(slots=True)
class Outcomes:
    """What became of points."""

    written: int = 0
    dropped: int = 0
    """No room: rows not yet turned into points, points waiting, or explanations that there was no time for."""
    rejected: int = 0
    """InfluxDB would never take them, each by itself."""
    failures: int = 0
    """Writes that are tried again."""


@dataclass(frozen=True, slots=True, eq=False)
class _Unexplained:
    """An anomaly whose explanation is still to be made."""

    key: str
    rows: NDArray[np.float64]
    """It alone, a copy: a view would keep the whole request."""
    scores: NDArray[np.float64]
    tags: Mapping[str, str]
    source: str
    nanoseconds: int


@dataclass(slots=True, kw_only=True)
class InfluxWriter:
    """Writes while a configuration is there. `tags` gives those of this moment."""

    plane: DataPlane
    tags: Callable[[], Mapping[str, str]]
    report: Callable[[], Report]
    heartbeat: Callable[[], float]
    config: InfluxConfig | None
    outcomes: Outcomes = field(default_factory=Outcomes)
    _seen: deque[Observation] = field(default_factory=deque)
    _rows: int = 0
    _points: deque[str] = field(default_factory=deque)
    _unexplained: asyncio.Queue[_Unexplained] = field(default_factory=lambda: asyncio.Queue(MAX_UNEXPLAINED))
    _clock: points.Clock = field(default_factory=points.Clock)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _next_report: float = 0.0
    _retry: float = RETRY_FIRST

    def observe(self, seen: Observation) -> None:
        """Queue the rows of a request; replays are the reference and not written."""
        if self.config is None or seen.source == "replay":
            return
        if self._rows + len(seen.rows) > MAX_ROWS:
            self.outcomes.dropped += len(seen.rows)
            return
        self._seen.append(seen)
        self._rows += len(seen.rows)
        if self._rows >= BATCH:
            self._wake.set()

    def note_drift(self, found: Drift) -> None:
        """Queue the outcome of a drift check."""
        if self.config is not None:
            self._add(points.drift(found, tags=self.tags(), nanoseconds=self._clock(time.time())))

    async def run(self) -> None:
        """Write each second, or sooner when much is waiting, until cancelled; then once more, briefly."""
        async with aiohttp.ClientSession() as session:
            explaining = asyncio.create_task(self._explain())
            try:
                while True:
                    await self._sleep(FLUSH_SECONDS)
                    await asyncio.sleep(await self._flush_or_log(session))
            except asyncio.CancelledError:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._finish(session), CLOSE_SECONDS)
                self.outcomes.dropped += len(self._points) + self._unexplained.qsize()
                raise
            finally:
                explaining.cancel()

    async def _finish(self, session: aiohttp.ClientSession) -> None:
        """Write what is there, then what can be explained in time."""
        await self._flush_or_log(session)
        await self._unexplained.join()
        await self._flush_or_log(session)

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return
        self._wake.clear()

    async def _flush_or_log(self, session: aiohttp.ClientSession) -> float:
        """Flush; a fault in here costs points, never the pod."""
        try:
            return await self._flush(session)
        except Exception:
            log.exception("points were lost")
            return RETRY_FIRST

    async def _flush(self, session: aiohttp.ClientSession) -> float:
        """Write all that waits; return seconds to pause when InfluxDB does not take it."""
        config = self.config
        if config is None:
            return 0.0
        await self._make_points(config)
        while self._points:
            batch = [self._points.popleft() for _ in range(min(BATCH, len(self._points)))]
            try:
                pause = await self._write(session, config, batch)
            except asyncio.CancelledError:
                self._points.extendleft(reversed(batch))  # the last flush of all sends it again; points are idempotent
                raise
            if pause:
                self._points.extendleft(reversed(batch))
                return pause
        return 0.0

    async def _make_points(self, config: InfluxConfig) -> None:
        """Make points of what waits now; what comes meanwhile is for the next time, so that writing gets its turn."""
        features = self.plane.model.contract.features
        for _ in range(len(self._seen)):
            seen, tags = self._seen.popleft(), self.tags()
            self._rows -= len(seen.rows)
            made = points.predictions(seen, features=features, tags=tags, write=config.write, clock=self._clock)
            for number, point in enumerate(made):
                self._add([point])
                if number % PAUSE_EVERY == PAUSE_EVERY - 1:
                    await asyncio.sleep(0)
            self._add_explanations(seen, tags)
        if (now := time.monotonic()) >= self._next_report:
            self._next_report = now + self.heartbeat()
            self._add(points.report(self.report(), tags=self.tags(), nanoseconds=self._clock(time.time())))

    def _add_explanations(self, seen: Observation, tags: Mapping[str, str]) -> None:
        """Add the explanations of the first anomalies; those that the answer did not have are left to `_explain`."""
        scored, source = seen.scored, seen.source
        for row, key in islice(scored.ids.items(), EXPLAINED_IN_ANSWER):
            at = self._clock(seen.at)
            if (said := scored.explanations.get(row)) is not None:
                self._add([points.explanation(key, said, tags=tags, source=source, nanoseconds=at)])
            elif self.plane.explainer is None:
                continue
            elif self._unexplained.full():
                self.outcomes.dropped += 1
            else:
                rows, scores = seen.rows[row : row + 1].copy(), scored.scores[row : row + 1].copy()
                self._unexplained.put_nowait(_Unexplained(key, rows, scores, tags, source, at))

    async def _explain(self) -> None:
        """Explain one anomaly after the other, beside the writes; a fault in here costs one explanation."""
        while True:
            anomaly = await self._unexplained.get()
            tags, source, at = anomaly.tags, anomaly.source, anomaly.nanoseconds
            try:
                found = await self.plane.explain(anomaly.rows, anomaly.scores)
                made = [
                    points.explanation(anomaly.key, said, tags=tags, source=source, nanoseconds=at) for said in found
                ]
            except Exception:
                log.exception("an anomaly was not explained")
                made = []
            self.outcomes.dropped += not made
            self._add(made)
            self._unexplained.task_done()
            await asyncio.sleep(0)  # requests come first

    def _add(self, made: Iterable[str | None]) -> None:
        for point in made:
            if point is None:
                continue
            if len(self._points) >= MAX_POINTS:
                self.outcomes.dropped += 1
            else:
                self._points.append(point)

    async def _write(self, session: aiohttp.ClientSession, config: InfluxConfig, batch: list[str]) -> float:
        """Send one batch; return 0, or the seconds to wait before it is sent again."""
        try:
            refused = await by_halves(InfluxClient(session, config).write, batch)
        except InfluxError as error:
            return self._again(error)
        self.outcomes.written += len(batch) - len(refused)
        self.outcomes.rejected += len(refused)
        if refused:
            log.warning("InfluxDB rejected %d points: %s", len(refused), refused[-1])
        self._retry = RETRY_FIRST
        return 0.0

    def _again(self, error: InfluxError) -> float:
        self.outcomes.failures += 1
        pause = max(self._retry * random.uniform(0.5, 1.0), error.retry_after)
        self._retry = min(self._retry * 2, RETRY_LONGEST)
        log.warning("InfluxDB did not take the points, next try in %.1f s: %s", pause, error)
        return pause

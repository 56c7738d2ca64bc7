"""The queue between the pod and InfluxDB: bounded, in batches, with patience, and never in a request's way."""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import aiohttp
import numpy as np

from anomaly_detector.config import InfluxConfig
from anomaly_detector.dataplane import EXPLAINED_IN_ANSWER, DataPlane
from anomaly_detector.influx import points
from anomaly_detector.influx.client import InfluxClient, InfluxError, RejectedError, TooLargeError
from anomaly_detector.observer import Observation
from anomaly_detector.report import Drift, Report

log = logging.getLogger(__name__)

MAX_ROWS, MAX_POINTS = 20_000, 20_000
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
    """No room: rows not yet turned into points, or points waiting."""
    rejected: int = 0
    """InfluxDB would never take them."""
    failures: int = 0
    """Writes that are tried again."""


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
            try:
                while True:
                    await self._sleep(FLUSH_SECONDS)
                    await asyncio.sleep(await self._flush_or_log(session))
            except asyncio.CancelledError:
                try:
                    await asyncio.wait_for(self._flush(session), CLOSE_SECONDS)
                except TimeoutError:
                    self.outcomes.dropped += len(self._points)
                raise

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
        features = self.plane.model.contract.features
        while self._seen:
            seen, tags = self._seen.popleft(), self.tags()
            self._rows -= len(seen.rows)
            made = points.predictions(seen, features=features, tags=tags, write=config.write, clock=self._clock)
            for number, point in enumerate(made):
                self._add([point])
                if number % PAUSE_EVERY == PAUSE_EVERY - 1:
                    await asyncio.sleep(0)
            await self._explain(seen, tags)
        if (now := time.monotonic()) >= self._next_report:
            self._next_report = now + self.heartbeat()
            self._add(points.report(self.report(), tags=self.tags(), nanoseconds=self._clock(time.time())))

    async def _explain(self, seen: Observation, tags: Mapping[str, str]) -> None:
        """Add the explanations of the first anomalies, made here where the answer had none."""
        for row, key in list(seen.scored.ids.items())[:EXPLAINED_IN_ANSWER]:
            said = seen.scored.explanations.get(row)
            if said is None:
                try:
                    made = await self.plane.explain(seen.rows[row][np.newaxis], seen.scored.scores[row : row + 1])
                except TimeoutError:
                    continue
                said = made[0] if made else None
                await asyncio.sleep(0)
            if said is not None:
                at = self._clock(seen.at)
                self._add([points.explanation(key, said, tags=tags, source=seen.source, nanoseconds=at)])

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
            await InfluxClient(session, config).write(batch)
        except TooLargeError as error:
            if len(batch) == 1:
                return self._reject(batch, error)
            half = len(batch) // 2
            return await self._write(session, config, batch[:half]) or await self._write(session, config, batch[half:])
        except RejectedError as error:
            return self._reject(batch, error)
        except InfluxError as error:
            return self._again(error)
        self.outcomes.written += len(batch)
        self._retry = RETRY_FIRST
        return 0.0

    def _reject(self, batch: list[str], error: InfluxError) -> float:
        self.outcomes.rejected += len(batch)
        log.warning("InfluxDB rejected %d points: %s", len(batch), error)
        return 0.0

    def _again(self, error: InfluxError) -> float:
        self.outcomes.failures += 1
        pause = max(self._retry * random.uniform(0.5, 1.0), error.retry_after)
        self._retry = min(self._retry * 2, RETRY_LONGEST)
        log.warning("InfluxDB did not take the points, next try in %.1f s: %s", pause, error)
        return pause

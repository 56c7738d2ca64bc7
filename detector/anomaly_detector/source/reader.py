"""The loop of the pod that holds the Lease: read, score as users' requests are, write the results, move the position.

Results are written before rows are remembered as done, and the position moves after both: whoever takes over finds
either the result or the point. What it scores again it writes over the same result.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
import numpy as np

from anomaly_detector.accounting import Accounting
from anomaly_detector.config import SourceConfig
from anomaly_detector.dataplane import DataPlane
from anomaly_detector.influx.client import InfluxClient, InfluxError, TooLargeError, by_halves
from anomaly_detector.problems import Problem
from anomaly_detector.protocols import Query, Scored
from anomaly_detector.protocols.rows import finish
from anomaly_detector.source.lease import SourceLease
from anomaly_detector.source.progress import SHORTEST_SPAN, Progress
from anomaly_detector.source.rows import (
    OWN_TAGS,
    SECOND,
    AnswerError,
    Key,
    Row,
    points_query,
    read_points,
    read_results,
    result,
    results_query,
)

log = logging.getLogger(__name__)

ROWS_PER_REQUEST = 16
"""Rows are scored by so many, as users' requests come, so that counts and latencies can be judged like theirs."""
POINTS_PER_WRITE = 512
MOST_BYTES = 16 * 2**20
"""Of an answer; a backlog is read by less time when there is more in it."""
RECORDS_PER_TURN = 64
"""Records after which requests get their turn."""
FAILURES_PER_LOOK = 32
"""Of the model, after which the rest is left for the next look."""
IDLE_SECONDS = 0.5
RETRY_FIRST, RETRY_LONGEST = 1.0, 60.0
_SERVER_ERROR = 500


@dataclass(slots=True)
class Counters:
    """What became of points, since the pod started."""

    written: int = 0
    refused: int = 0
    """The model does not take such values."""
    failed: int = 0
    """The model failed on them; they are tried again."""
    rejected: int = 0
    """InfluxDB would never take their results, each by itself."""
    errors: int = 0
    """Looks that came to nothing."""


class _LostError(Exception):
    """The Lease, or the role, is somebody else's now."""


@dataclass(frozen=True, slots=True, eq=False)
class _Answered:
    """Rows that the model was asked about, with what it said."""

    rows: Sequence[Row]
    query: Query
    scored: Scored


@dataclass(slots=True)
class _Outcome:
    """What became of the rows of one look."""

    waiting: list[_Answered] = field(default_factory=list)
    """Not written yet."""
    failed: list[Row] = field(default_factory=list)
    """The model failed on them; they are tried again."""
    refused: list[Row] = field(default_factory=list)
    """The model does not take them."""
    reason: str = ""
    """Why the last of them was refused."""


@dataclass(slots=True, kw_only=True)
class StreamSource:
    """Reads while a configuration is there and the Lease is held."""

    plane: DataPlane
    accounting: Accounting
    lease: SourceLease
    tags: Callable[[], Mapping[str, str]]
    config: Callable[[], SourceConfig | None]
    clock: Callable[[], int] = time.time_ns
    most_bytes: int = MOST_BYTES
    counters: Counters = field(default_factory=Counters)
    note: str = ""
    """What keeps points from being scored, for people; empty while nothing does."""
    position: int | None = None
    """Of this pod while it reads."""
    _progress: Progress | None = None
    _of: SourceConfig | None = None
    """The configuration that the progress is about."""
    _retry: float = RETRY_FIRST

    async def run(self) -> None:
        """Read, until cancelled. A fault in here costs a look, never the pod."""
        async with aiohttp.ClientSession() as session:
            while True:
                config = self.config()
                if config is None or not self.lease.holds():
                    self._forget()
                    await asyncio.sleep(IDLE_SECONDS)
                    continue
                await asyncio.sleep(await self._look(session, config))

    def _forget(self) -> None:
        self._progress, self._of, self.position, self.note = None, None, None, ""

    async def _look(self, session: aiohttp.ClientSession, config: SourceConfig) -> float:
        """Read once; return the seconds until the next time."""
        try:
            behind = await self._read(InfluxClient(session, config), config)
        except _LostError:
            self._forget()
            return IDLE_SECONDS
        except (InfluxError, AnswerError) as error:
            return self._again(str(error), getattr(error, "retry_after", 0.0))
        except Exception as error:
            log.exception("points could not be read")
            return self._again(f"{type(error).__name__}: {error}", 0.0)
        self.note, self._retry = "", RETRY_FIRST
        return 0.0 if behind else config.interval

    def _again(self, reason: str, retry_after: float) -> float:
        pause = max(self._retry * random.uniform(0.5, 1.0), retry_after)
        self._retry = min(self._retry * 2, RETRY_LONGEST)
        self.counters.errors += 1
        self.note = f"Source: {reason}"[:300]
        log.warning("points are not scored, next try in %.1f s: %s", pause, reason)
        return pause

    async def _read(self, influx: InfluxClient, config: SourceConfig) -> bool:
        """Score what is new and move the position; return whether there is more to be read at once."""
        now = self.clock()
        if self._progress is None or config != self._of:
            self._progress, self._of = await self._begin(config, now), config
        progress = self._progress
        start, stop = progress.start, progress.stop(now)
        features, own = self.plane.model.contract.features, self._own_tags()
        try:
            if (span := progress.unknown(stop)) is not None:
                await self._learn(influx, config, progress, *span)
                progress.known = stop
            text = await influx.query(points_query(config, features, start, stop), most=self.most_bytes)
        except TooLargeError:
            if progress.narrow():
                return True
            raise
        new: dict[Key, Row] = {}
        for number, row in enumerate(progress.fresh(read_points(text, config, features, own), now)):
            if row is not None:
                new.setdefault(row.key, row)
            if number % RECORDS_PER_TURN == RECORDS_PER_TURN - 1:
                await asyncio.sleep(0)
        rows = sorted(new.values(), key=lambda row: row.time)
        failed = await self._score(influx, config, rows, progress)
        self.position = progress.advance(stop, now, failed)
        if not await self.lease.advance(self.position):
            raise _LostError
        return stop < now and not failed

    async def _begin(self, config: SourceConfig, now: int) -> Progress:
        """Take over where the last holder ended."""
        position = self.lease.position
        if position is None:  # the first holder of all: whoever follows shall begin where it did
            position = now
            if not await self.lease.advance(position):
                raise _LostError
        log.info("points are read", extra={"position": position, "bucket": config.bucket})
        return Progress(position, int(config.lateness * SECOND), taken_over=now)

    async def _learn(
        self, influx: InfluxClient, config: SourceConfig, progress: Progress, start: int, stop: int
    ) -> None:
        """Note what an earlier holder has written already, by halves where that is too much at once."""
        own = self._own_tags()
        try:
            text = await influx.query(results_query(config, own, start, stop), most=self.most_bytes)
        except TooLargeError:
            if stop - start <= SHORTEST_SPAN:
                raise
            middle = (start + stop) // 2
            await self._learn(influx, config, progress, start, middle)
            await self._learn(influx, config, progress, middle, stop)
            return
        for number, key in enumerate(read_results(text, own)):
            progress.settle([key])
            if number % RECORDS_PER_TURN == RECORDS_PER_TURN - 1:
                await asyncio.sleep(0)

    def _own_tags(self) -> dict[str, str]:
        tags = self.tags()
        return {name: tags[name] for name in OWN_TAGS}

    async def _score(
        self, influx: InfluxClient, config: SourceConfig, rows: Sequence[Row], progress: Progress
    ) -> list[Row]:
        """Score rows and write their results; return those that are to be tried again."""
        outcome, begin = _Outcome(), 0
        while begin < len(rows) and len(outcome.failed) < FAILURES_PER_LOOK:
            await self._ask(rows[begin : begin + ROWS_PER_REQUEST], outcome)
            begin += ROWS_PER_REQUEST
            if sum(len(each.rows) for each in outcome.waiting) >= POINTS_PER_WRITE:
                await self._write(influx, config, outcome, progress)
            await asyncio.sleep(0)  # requests come first
        await self._write(influx, config, outcome, progress)
        if outcome.refused:
            log.warning("%d points are not scored: %s", len(outcome.refused), outcome.reason)
            progress.settle(row.key for row in outcome.refused)
        self.counters.refused += len(outcome.refused)
        self.counters.failed += len(outcome.failed)
        return [*outcome.failed, *rows[begin:]]

    def _check_held(self) -> None:
        if not self.lease.holds():
            raise _LostError

    async def _ask(self, rows: Sequence[Row], outcome: _Outcome) -> None:
        """Ask the model; where it does not take rows together, each is asked about alone."""
        self._check_held()
        began = time.perf_counter()
        query = Query(rows=np.array([row.values for row in rows], dtype=np.float64))
        try:
            finish(query.rows, self.plane.model.contract, "points")
            parsed = time.perf_counter()
            scored = await self.plane.answer(query)
        except Problem as problem:
            if len(rows) > 1:
                for row in rows:
                    await self._ask([row], outcome)
            elif problem.status < _SERVER_ERROR:
                self.accounting.refused("user")
                outcome.refused += rows
                outcome.reason = str(problem)
            else:
                self.accounting.failed(len(rows), "user", time.perf_counter() - began)
                self.accounting.copy(query, None, {})
                outcome.failed += rows
            return
        ended = time.perf_counter()
        self.accounting.served(query, scored, "user", (began, parsed, ended))
        self.accounting.copy(query, scored, {}, ended - began)
        outcome.waiting.append(_Answered(rows, query, scored))

    async def _write(self, influx: InfluxClient, config: SourceConfig, outcome: _Outcome, progress: Progress) -> None:
        """Write results; only then are the rows done, and seen by drift detection."""
        tags = self.tags()
        points = [
            point
            for each in outcome.waiting
            for place, row in enumerate(each.rows)
            if (point := result(row, each.scored, place, measurement=config.result_measurement,
                                version=tags["version"], pod=tags["pod"])) is not None
        ]  # fmt: skip
        if not points:
            return

        async def send(lines: Sequence[str]) -> None:
            self._check_held()
            await influx.write(lines)

        rejected = await by_halves(send, points)
        self.counters.written += len(points) - len(rejected)
        self.counters.rejected += len(rejected)
        if rejected:
            log.warning("InfluxDB rejected %d results: %s", len(rejected), rejected[-1])
        for each in outcome.waiting:
            progress.settle(row.key for row in each.rows)
            self.accounting.observe(each.query, each.scored, "user")
        outcome.waiting = []

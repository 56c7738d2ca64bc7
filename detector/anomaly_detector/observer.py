"""What happens to rows after they were answered: the rings, the drift window, listeners such as InfluxDB.

What is small is done at once when its answer is out. The rest, and all that comes while a check for drift is going on,
waits in a bounded queue that one task works off; what does not fit is dropped and counted.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from anomaly_detector.drift.detector import DriftDetector
from anomaly_detector.protocols import Scored
from anomaly_detector.report import Drift, Source
from anomaly_detector.rings import ANOMALIES, Anomaly, AnomalyRing, RowRing

log = logging.getLogger(__name__)
QUEUE = 4096
SMALL_ROWS = 64
"""A request with at most so many rows takes microseconds, less than waking the task."""
QUEUED_VALUES = 2**21
"""Numbers in the rows that wait: 16 MiB, however large the requests are."""


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """One answered request."""

    rows: NDArray[np.float64]
    scored: Scored
    source: Source
    at: float = field(default_factory=time.time)
    """Seconds since the epoch."""


class Observer:
    """Works off observations in order."""

    def __init__(self, features: tuple[str, ...], drift: DriftDetector | None) -> None:
        self.rows = RowRing(len(features))
        self.anomalies = AnomalyRing()
        self.detector = drift
        self.drift = Drift()
        """The newest verdict."""
        self.dropped = 0
        self.drift_source: Source = "shadow"
        self.on_check: list[Callable[[Drift], None]] = []
        self.listeners: list[Callable[[Observation], None]] = []
        self._queue: deque[Observation | None] = deque()
        self._values = self._restarts = 0
        self._working = False
        self._wake = asyncio.Event()

    def offer(self, observation: Observation) -> None:
        """Take an observation, at once or into the queue; one alone is taken whatever its size."""
        if len(observation.rows) <= SMALL_ROWS and not self._queue and not self._working:
            if self._observe_or_log(observation):
                self._working = True
                self._wake.set()
            return
        values = self._values + observation.rows.size
        if len(self._queue) >= QUEUE or (self._values and values > QUEUED_VALUES):
            self.dropped += 1
            return
        self._queue.append(observation)
        self._values = values
        self._wake.set()

    def replace_detector(self, detector: DriftDetector) -> None:
        """Watch with another detector from here on."""
        self._restarts += 1
        self.detector = detector
        self.drift = Drift(calibrated=detector.calibrated)

    def restart_drift(self, source: Source) -> None:
        """Forget the drift window and watch the rows of `source` from here on."""
        self._restarts += 1
        self._queue.append(None)
        self.drift_source = source
        self.drift = Drift(calibrated=self.drift.calibrated)
        self._wake.set()

    async def run(self) -> None:
        """Work the queue off, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._working = True
            try:
                await self._work_off()
            finally:
                self._working = False

    async def _work_off(self) -> None:
        if None not in self._queue:  # else what is due belongs to the role before
            await self._check_if_due()
        while self._queue:
            observation = self._queue.popleft()
            if observation is None:
                self._restart()
            else:
                self._values -= observation.rows.size
                if self._observe_or_log(observation):
                    await self._check_if_due()
            await asyncio.sleep(0)  # requests come first

    async def _check_if_due(self) -> None:
        if self.detector is not None and self.detector.due():
            await self._check(self.detector)

    def _restart(self) -> None:
        if self.detector is not None:
            self.detector.reset()
        self.drift = Drift(calibrated=self.drift.calibrated)

    def _observe_or_log(self, seen: Observation) -> bool:
        """Return whether a check for drift is due."""
        try:
            return self._observe(seen)
        except Exception:
            log.exception("an observation was lost")
            return False

    def _observe(self, seen: Observation) -> bool:
        if seen.source == "user":
            self.rows.add(seen.rows, seen.at)
        if seen.source != "replay":
            self._keep_anomalies(seen)
        due = False
        if self.detector is not None and seen.source == self.drift_source:
            self.detector.add(seen.rows, seen.scored.scores, seen.at)
            due = self.detector.due()
        for listener in self.listeners:
            listener(seen)
        return due

    async def _check(self, detector: DriftDetector) -> None:
        """Check for drift between requests; a verdict that a new role or detector overtook is nobody's."""
        began = self._restarts
        try:
            for _ in detector.checking():  # a thread would hold up the requests for as long, and cost more
                await asyncio.sleep(0)
        except Exception:
            log.exception("a check for drift failed")
            return
        if began != self._restarts:
            return
        self.drift = detector.drift
        for tell in self.on_check:
            tell(self.drift)

    def _keep_anomalies(self, seen: Observation) -> None:
        """Keep as many as fit into the ring, each with a row of its own: a view would keep the whole request."""
        scored = seen.scored
        for row, key in islice(scored.ids.items(), max(0, len(scored.ids) - ANOMALIES), None):
            confidence = None if scored.confidence is None else float(scored.confidence[row])
            score, explanation = float(scored.scores[row]), scored.explanations.get(row)
            self.anomalies.add(
                Anomaly(
                    key,
                    datetime.fromtimestamp(seen.at, UTC),
                    seen.source,
                    seen.rows[row].copy(),
                    score,
                    confidence,
                    explanation,
                )
            )

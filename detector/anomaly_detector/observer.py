"""What happens to rows after they were answered: the rings, the drift window, listeners such as InfluxDB.

Requests only append to a bounded queue; one task works it off. What does not fit is dropped and counted.
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
        self._wake = asyncio.Event()

    def offer(self, observation: Observation) -> None:
        """Queue an observation; one alone is taken whatever its size."""
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
            while self._queue:
                observation = self._queue.popleft()
                try:
                    if observation is None:
                        self._restart()
                    else:
                        self._values -= observation.rows.size
                        await self._observe(observation)
                except Exception:
                    log.exception("an observation was lost")
                await asyncio.sleep(0)  # requests come first

    def _restart(self) -> None:
        if self.detector is not None:
            self.detector.reset()
        self.drift = Drift(calibrated=self.drift.calibrated)

    async def _observe(self, seen: Observation) -> None:
        if seen.source == "user":
            self.rows.add(seen.rows, seen.at)
        if seen.source != "replay":
            self._keep_anomalies(seen)
        if self.detector is not None and seen.source == self.drift_source:
            self.detector.add(seen.rows, seen.scored.scores, seen.at)
            if self.detector.due():
                await self._check(self.detector)
        for listener in self.listeners:
            listener(seen)

    async def _check(self, detector: DriftDetector) -> None:
        """Check for drift beside the requests; a verdict that a new role or detector overtook is nobody's."""
        began = self._restarts
        found = await asyncio.to_thread(detector.check, time.time())
        if began != self._restarts:
            return
        self.drift = found
        for tell in self.on_check:
            tell(found)

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

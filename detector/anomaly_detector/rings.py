"""What the pod remembers of users: the newest rows, for retraining, and the newest anomalies."""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_detector.report import Source

ROWS = 20_000
ANOMALIES = 1_000


class RowRing:
    """The newest rows and the times when they arrived, in one array that never grows."""

    def __init__(self, features: int, capacity: int = ROWS) -> None:
        self._rows = np.empty((capacity, features))
        self._times = np.empty(capacity)
        self._written = 0

    def add(self, rows: NDArray[np.float64], at: float) -> None:
        """Append rows that arrived `at`, seconds since the epoch."""
        capacity = len(self._rows)
        rows = rows[-capacity:]
        first = self._written % capacity
        places: slice | NDArray[np.intp] = slice(first, first + len(rows))
        if first + len(rows) > capacity:
            places = np.arange(self._written, self._written + len(rows)) % capacity
        self._rows[places] = rows
        self._times[places] = at
        self._written += len(rows)

    def newest(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return times and rows, oldest first."""
        capacity = len(self._rows)
        kept = min(self._written, capacity)
        places = np.arange(self._written - kept, self._written) % capacity
        return self._times[places], self._rows[places]


@dataclass(slots=True)
class Anomaly:
    """One anomalous row."""

    id: str
    at: datetime
    source: Source
    row: NDArray[np.float64]
    score: float
    confidence: float | None
    explanation: dict[str, Any] | None
    """None until somebody asks, for anomalies beyond those explained in the answer."""


class AnomalyRing:
    """The newest anomalies by id."""

    def __init__(self, capacity: int = ANOMALIES) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[str, Anomaly] = OrderedDict()

    def add(self, anomaly: Anomaly) -> None:
        """Keep it and forget the oldest beyond the capacity."""
        self._kept[anomaly.id] = anomaly
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)

    def get(self, key: str) -> Anomaly | None:
        """Return the one with this id, if it is still kept."""
        return self._kept.get(key)

    def newest(self, limit: int) -> list[Anomaly]:
        """Return up to `limit`, newest first."""
        return [anomaly for _, anomaly in zip(range(limit), reversed(self._kept.values()), strict=False)]

    def top(self, limit: int, start: float, end: float) -> list[Anomaly]:
        """Return up to `limit` of users from `start` until before `end` (seconds), most anomalous first."""
        found = [a for a in self._kept.values() if a.source == "user" and start <= a.at.timestamp() < end]
        return sorted(found, key=lambda anomaly: anomaly.score, reverse=True)[:limit]

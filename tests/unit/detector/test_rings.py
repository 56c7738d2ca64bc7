"""The rings of users' rows and of anomalies."""

from datetime import UTC, datetime

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from anomaly_detector.rings import Anomaly, AnomalyRing, RowRing


@given(st.lists(st.integers(0, 25), max_size=20))
def test_the_newest_rows_stay_in_order(sizes):
    ring, everything = RowRing(2, capacity=10), []
    for at, size in enumerate(sizes):
        rows = np.array([[len(everything) + i, at] for i in range(size)], dtype=float).reshape(size, 2)
        ring.add(rows, float(at))
        everything += rows.tolist()
    times, rows = ring.newest()
    assert rows.tolist() == everything[-10:]
    assert times.tolist() == [row[1] for row in everything[-10:]]


def test_the_oldest_anomaly_is_forgotten_first():
    ring = AnomalyRing(capacity=2)
    for key in "abc":
        ring.add(Anomaly(key, datetime.now(UTC), "user", np.zeros(1), 0.9, None, None))
    assert ring.get("a") is None
    assert [one.id for one in ring.newest(5)] == ["c", "b"]

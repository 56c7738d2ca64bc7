"""The sliding window: what it counts, and what it forgets when."""

from hypothesis import given
from hypothesis import strategies as st

from anomaly_detector.report import LATENCY_BOUNDS_MS
from anomaly_detector.window import Tally, Window


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def one(window, source="user", *, milliseconds=1.0, rows=1, anomalies=0, failed=False):
    window.served(source, milliseconds=milliseconds, rows=rows, anomalies=anomalies, failed=failed)


def test_sources_are_counted_apart():
    window = Window(30, Clock())
    one(window, anomalies=1)
    one(window, "shadow", failed=True)
    window.shed("replay")
    window.client_error("user")
    user, shadow, replay = (window.tally(source).counts() for source in ("user", "shadow", "replay"))
    assert (user.served, user.failed, user.clientErrors) == (1, 0, 1)
    assert (shadow.served, shadow.failed) == (1, 1)
    assert (replay.served, replay.shed) == (0, 1)


def test_what_is_older_than_the_window_is_forgotten():
    clock = Clock()
    window = Window(30, clock)
    one(window, failed=True)
    clock.now += 29
    assert window.tally("user").failed == 1
    clock.now += 1.001
    assert window.tally("user") == Tally()


def test_what_is_counted_since_a_reset_outlives_the_window_and_is_forgotten_with_the_next():
    clock = Clock()
    window = Window(30, clock)
    one(window)
    one(window, failed=True)
    one(window, "shadow")
    window.client_error("user")
    clock.now += 31
    one(window)
    assert window.since_reset == {"user": 3, "shadow": 1, "replay": 0}
    window.reset()
    assert window.since_reset == {"user": 0, "shadow": 0, "replay": 0}


def test_a_bucket_s_upper_bound_belongs_to_it_and_more_than_all_bounds_to_the_last():
    window = Window(30, Clock())
    one(window, milliseconds=LATENCY_BOUNDS_MS[3])
    one(window, milliseconds=1e9)
    latency = window.tally("user").latency
    assert latency[3] == 1
    assert latency[-1] == 1
    assert sum(latency) == 2


def test_large_requests_are_counted_without_their_latency():
    window = Window(30, Clock())
    one(window, rows=17)
    assert window.tally("user").rows == 17
    assert sum(window.tally("user").latency) == 0


def test_rows_of_failed_requests_are_not_scored_rows():
    window = Window(30, Clock())
    one(window, rows=5, failed=True)
    assert (window.tally("user").served, window.tally("user").rows) == (1, 0)


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 20), st.booleans()), max_size=60))
def test_the_sums_are_those_of_the_requests_whose_slot_is_still_in_the_window(steps):
    clock = Clock()
    window = Window(30, clock)
    sent = []
    for pause, rows, failed in steps:
        clock.now += pause
        one(window, rows=rows, failed=failed)
        sent.append((int(clock.now), rows, failed))
    kept = [(rows, failed) for at, rows, failed in sent if at > int(clock.now) - 30]
    tally = window.tally("user")
    assert tally.served == len(kept)
    assert tally.failed == sum(failed for _, failed in kept)
    assert tally.rows == sum(rows for rows, failed in kept if not failed)
    assert sum(tally.latency) == sum(rows <= 16 for rows, _ in kept)

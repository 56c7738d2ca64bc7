"""What is kept of answered requests, and how much of it at most."""

import asyncio

import numpy as np
import pytest

from anomaly_detector.observer import QUEUED_VALUES, SMALL_ROWS, Observation, Observer
from anomaly_detector.protocols import Scored
from anomaly_detector.report import Drift
from anomaly_detector.rings import ANOMALIES
from anomaly_detector.shadow import QUEUED_VALUES as COPIED_VALUES
from anomaly_detector.shadow import Copy, ShadowTraffic

BREACH = Drift(verdict="drift", confidence=1.0, checks=1)


class SlowDetector:
    """A drift detector whose check takes until the test lets it end."""

    calibrated = True
    drift = Drift()

    def __init__(self):
        self.begun = self.may_end = False

    def add(self, rows, scores, at):
        del rows, scores, at

    def due(self):
        return True

    def checking(self):
        self.begun = True
        while not self.may_end:
            yield
        self.drift = BREACH

    def reset(self):
        self.may_end = True


def observation(rows, *, anomalous=(), source="user"):
    ids = {row: f"id-{row}" for row in anomalous}
    labels = np.zeros(len(rows), dtype=bool)
    scored = Scored(scores=np.zeros(len(rows)), anomalous=labels, confidence=None, ids=ids, explanations={})
    return Observation(rows, scored, source, at=1.0)


async def worked_off(observer, *, until):
    running = asyncio.create_task(observer.run())
    try:
        async with asyncio.timeout(30):
            while not until():  # noqa: ASYNC110 - the observer tells nobody that it is done
                await asyncio.sleep(0)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_an_anomaly_keeps_its_own_row_and_not_the_request_it_came_with():
    observer = Observer(("a", "b"), None)
    observer.offer(observation(np.ones((1000, 2)), anomalous=[7]))
    await worked_off(observer, until=lambda: observer.anomalies.get("id-7"))
    kept = observer.anomalies.get("id-7").row
    assert kept.base is None
    assert kept.tolist() == [1.0, 1.0]


async def test_of_a_request_with_more_anomalies_than_are_kept_the_last_stay():
    observer = Observer(("a", "b"), None)
    observer.offer(observation(np.ones((ANOMALIES + 5, 2)), anomalous=range(ANOMALIES + 5)))
    await worked_off(observer, until=lambda: observer.anomalies.get(f"id-{ANOMALIES + 4}"))
    assert observer.anomalies.get("id-4") is None
    assert observer.anomalies.get("id-5") is not None


async def test_small_requests_are_observed_at_once_and_in_order_behind_those_that_wait():
    observer = Observer(("a", "b"), None)
    observer.offer(observation(np.ones((1, 2)), anomalous=[0]))
    assert observer.anomalies.get("id-0") is not None
    observer.offer(observation(np.full((SMALL_ROWS + 1, 2), 2.0)))
    observer.offer(observation(np.full((1, 2), 3.0)))
    assert len(observer.rows.newest()[0]) == 1
    await worked_off(observer, until=lambda: not observer._queue)
    assert observer.rows.newest()[1][:, 0].tolist() == [1.0] + [2.0] * (SMALL_ROWS + 1) + [3.0]


async def test_a_check_that_was_due_before_a_change_of_role_is_not_made():
    detector, told = SlowDetector(), []
    detector.may_end = True
    observer = Observer(("a", "b"), detector)
    observer.drift_source = "user"
    observer.on_check.append(told.append)
    observer.offer(observation(np.ones((1, 2))))
    observer.restart_drift("shadow")
    await worked_off(observer, until=lambda: not observer._queue)
    assert not detector.begun
    assert told == []


async def test_large_requests_wait_in_bounded_memory_and_what_is_worked_off_makes_room():
    observer = Observer(("a", "b"), None)
    large = np.ones((QUEUED_VALUES // 4, 2))
    for _ in range(5):
        observer.offer(observation(large))
    assert observer.dropped == 3
    await worked_off(observer, until=lambda: len(observer.rows.newest()[0]) and not observer._queue)
    observer.offer(observation(large))
    assert observer.dropped == 3


async def test_one_request_larger_than_the_queue_is_still_seen():
    observer = Observer(("a", "b"), None)
    observer.offer(observation(np.ones((QUEUED_VALUES, 2))))
    assert observer.dropped == 0


async def test_copies_of_large_requests_wait_in_bounded_memory():
    shadow = ShadowTraffic("http://127.0.0.1:1", ("a", "b"))
    for _ in range(5):
        shadow.offer(Copy(np.ones((COPIED_VALUES // 4, 2)), None, {}), 100)
    assert shadow.comparison.dropped == 3


@pytest.mark.parametrize("overtaken_by", ["role", "configuration"])
async def test_a_verdict_of_the_role_or_detector_before_is_never_told(overtaken_by):
    detector, told = SlowDetector(), []
    observer = Observer(("a", "b"), detector)
    observer.drift_source = "user"
    observer.on_check.append(told.append)
    observer.offer(observation(np.ones((1, 2))))
    running = asyncio.create_task(observer.run())
    while not detector.begun:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0)
    if overtaken_by == "role":
        observer.restart_drift("shadow")
    else:
        observer.replace_detector(SlowDetector())
    detector.may_end = True
    observer.offer(
        observation(np.ones((1, 2)), anomalous=[0], source="shadow" if overtaken_by == "configuration" else "user")
    )
    while observer.anomalies.get("id-0") is None:  # noqa: ASYNC110 - the observer tells nobody that it is done
        await asyncio.sleep(0)
    assert told == []
    assert observer.drift.verdict == "inconclusive"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

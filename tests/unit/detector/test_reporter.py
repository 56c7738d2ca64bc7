"""When a report is due at once, and which annotations it becomes."""

import asyncio
import json
from dataclasses import replace

import pytest

from anomaly_detector import reporter
from anomaly_detector.config import Config
from anomaly_detector.kube import _held_by_others
from anomaly_detector.problems import Problem
from anomaly_detector.report import DRIFT_CONFIDENCE, ERROR_RATE, REPORT, Counts, Drift, Report
from anomaly_detector.reporter import annotations, is_edge, judge
from anomaly_detector.roles import Assignment, Roles

REPORT_NOW = Report(
    seq=1,
    time="2026-01-01T00:00:00+00:00",
    bootId="b",
    startedAt="2026-01-01T00:00:00+00:00",
    counts={"user": Counts(served=200, failed=3), "shadow": Counts(served=10, failed=10), "replay": Counts(served=10)},
)
CONFIG = Config(error_rate_max=0.01, drift_max_confidence=0.5)


def verdict(*, failed=0, served=0, drift=None, config=CONFIG, role=("active", 1)):
    return judge(counts=(failed, served), drift=drift or Drift(), config=config, role=role)


def test_scalars_describe_users_while_active_and_copies_and_replays_otherwise():
    roles = Roles()
    assert annotations(REPORT_NOW, roles.gated_sources)[ERROR_RATE] == "0.5"
    roles.assign(Assignment(role="active", epoch=1))
    assert annotations(REPORT_NOW, roles.gated_sources)[ERROR_RATE] == "0.015"


def test_a_scalar_that_says_nothing_has_no_key():
    nothing = replace(REPORT_NOW, counts={}, drift=Drift(verdict="inconclusive", confidence=0.8))
    assert annotations(nothing, ("user",)).keys() == {REPORT}
    known = replace(nothing, drift=Drift(verdict="ok", confidence=0.4))
    assert annotations(known, ("user",))[DRIFT_CONFIDENCE] == "0.4"


@pytest.mark.parametrize(
    ("failed", "served", "over"), [(0, 0, False), (1, 100, False), (2, 100, True), (1, 1, True), (0, 5, False)]
)
def test_an_error_rate_is_over_its_limit_only_beyond_it(failed, served, over):
    assert verdict(failed=failed, served=served).errors_over is over


def test_gates_that_are_off_are_never_crossed():
    off = Config(error_rate_max=None, drift_max_confidence=None)
    all_bad = verdict(failed=5, served=5, drift=Drift(verdict="drift", confidence=1.0), config=off)
    assert (all_bad.errors_over, all_bad.drift_over) == (False, False)


def test_edges_are_crossings_in_either_direction_and_changes_of_role():
    good, bad = verdict(served=100), verdict(failed=5, served=100)
    drifting = verdict(served=100, drift=Drift(verdict="drift", confidence=0.6))
    assert is_edge(None, good)
    assert is_edge(good, bad)
    assert is_edge(bad, good)
    assert is_edge(good, drifting)
    assert is_edge(good, replace(good, role=("active", 2)))
    assert not is_edge(bad, verdict(failed=9, served=100))
    assert not is_edge(good, verdict(failed=1, served=200))


def test_reports_of_older_and_of_newer_detectors_are_read():
    older = json.loads(REPORT_NOW.to_json())
    for name in ("ownUserAnswers", "passedOn"):
        del older[name]
    for name in ("refused", "meanOwnMilliseconds", "meanOtherMilliseconds"):
        del older["shadow"][name]
    assert Report.from_json(json.dumps(older)) == REPORT_NOW
    newer = json.loads(REPORT_NOW.to_json())
    newer["shadow"]["yetUnknown"] = newer["yetUnknown"] = {"a": 1}
    assert Report.from_json(json.dumps(newer)) == REPORT_NOW


def test_the_keys_of_a_conflict_are_read_from_its_causes():
    answer = """{"kind": "Status", "code": 409, "message": "Apply failed with 1 conflict", "details": {"causes": [
      {"reason": "FieldManagerConflict", "message": "conflict with \\"kubectl-annotate\\"",
       "field": ".metadata.annotations.anomalymodel.dev/error-rate"}]}}"""
    assert _held_by_others(answer) == {ERROR_RATE}
    assert _held_by_others("no json") == set()
    assert _held_by_others('{"details": null, "message": "the object has been modified"}') == set()


def test_an_older_epoch_is_refused_and_a_repeated_one_changes_nothing():
    roles, told = Roles(), []
    roles.on_change.append(told.append)
    roles.assign(Assignment(role="active", epoch=5))
    since = roles.since
    roles.assign(Assignment(role="active", epoch=5))
    roles.assign(Assignment(role="active", epoch=6, shadow_percent=100))
    assert roles.since == since
    assert [assignment.role for assignment in told] == ["active"]
    with pytest.raises(Problem) as refused:
        roles.assign(Assignment(role="standby", epoch=5))
    assert refused.value.status == 409
    assert roles.current.role == "active"


class Target:
    """Takes every report and says when it was written."""

    def __init__(self):
        self.written, self.more = [], asyncio.Event()

    async def apply(self, annotations):
        self.written.append(annotations)
        self.more.set()
        return frozenset()

    async def until(self, condition):
        async with asyncio.timeout(30):
            while not condition(self.written):
                self.more.clear()
                await self.more.wait()


async def test_an_edge_is_reported_at_once_although_further_failures_are_told_ever_more_seldom(monkeypatch):
    monkeypatch.setattr(reporter, "GROWTH", 1e9)  # the second report of failures makes the pause LONGEST_PAUSE
    monkeypatch.setattr(reporter, "LONGEST_PAUSE", 3600.0)
    now, target = [verdict(failed=5, served=100)], Target()
    one = reporter.Reporter(
        target, build=lambda: REPORT_NOW, look=lambda: now[0], sources=lambda: ("user",), config=lambda: CONFIG
    )
    running = asyncio.create_task(one.run())
    await target.until(lambda written: len(written) == 1)
    now[0] = verdict(failed=6, served=100)
    one.wake()
    await target.until(lambda written: len(written) == 2)
    now[0] = verdict(failed=6, served=100, role=("draining", 2))
    one.wake()
    await target.until(lambda written: len(written) == 3)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_failures_during_a_pause_are_told_when_it_ends_although_no_request_comes_any_more(monkeypatch):
    monkeypatch.setattr(reporter, "POLL_SECONDS", 3600.0)
    monkeypatch.setattr(reporter, "GROWTH", 2.0)
    now, target = [verdict(failed=1, served=1)], Target()
    one = reporter.Reporter(
        target, build=lambda: REPORT_NOW, look=lambda: now[0], sources=lambda: ("user",), config=lambda: CONFIG
    )
    running = asyncio.create_task(one.run())
    for failed in (2, 3, 4):
        await target.until(lambda written, failed=failed: len(written) == failed - 1)
        now[0] = verdict(failed=failed, served=failed)
        one.wake()
    await target.until(lambda written: len(written) == 4)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

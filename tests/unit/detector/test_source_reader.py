"""The loop that scores points: against a double of InfluxDB, with a double of the Lease."""

import asyncio
import time

import pytest
from prometheus_client import CollectorRegistry
from tests.plugins.influx_double import InfluxDouble

from anomaly_detector.accounting import Accounting
from anomaly_detector.config import SourceConfig
from anomaly_detector.metrics import RequestMetrics
from anomaly_detector.roles import Assignment
from anomaly_detector.source.reader import MOST_BYTES, StreamSource
from anomaly_detector.source.rows import SECOND

START = 1_800_000_000 * SECOND


class LeaseDouble:
    """A Lease that is held, or not, as a test says."""

    def __init__(self, position=START):
        self.held, self.position = True, position

    def holds(self):
        return self.held

    async def advance(self, position):
        if self.held:
            self.position = position
        return self.held


@pytest.fixture
async def influx():
    async with InfluxDouble("127.0.0.1", 0) as double:
        yield double


@pytest.fixture
def make(pod, influx):
    """Return a function that makes another pod's source; they share the bucket."""

    def source(lease, *, version="1", most_bytes=MOST_BYTES, **changes):
        settings = {"interval": 0.01, "lateness": 30.0, "measurement": "m", "query": None} | changes
        config = SourceConfig(
            url=influx.url, org="o", bucket="b", result_measurement="r", fields={}, owner_uid="u", **settings
        )
        return StreamSource(
            plane=pod.serving.plane,
            accounting=Accounting(pod, RequestMetrics(CollectorRegistry())),
            lease=lease,
            tags=lambda: {"namespace": "ml", "model": "m", "version": version, "pod": f"p{version}"},
            config=lambda: config,
            clock=lambda: lease.now,
            most_bytes=most_bytes,
        )

    return source


@pytest.fixture
async def run():
    """Return a function that runs a source until a condition holds, and ends it."""

    async def run_until(source, condition):
        task = asyncio.create_task(source.run())
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end, source.note
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    return run_until


def lease_at(seconds, **values):
    lease = LeaseDouble(**values)
    lease.now = START + seconds * SECOND
    return lease


def fill(influx, seconds, *, host="a", **fields):
    for second in seconds:
        influx.add("m", {"host": host}, fields or {"a": 1.0, "b": float(second)}, START + second * SECOND)


def versions(influx):
    return sorted(fields["version"] for fields in influx.of("r").values())


async def test_points_are_scored_counted_as_users_watched_for_drift_and_written_with_their_tags(make, run, pod, influx):
    fill(influx, range(40))
    lease = lease_at(40)
    await run(make(lease), lambda: lease.position == START + 40 * SECOND)
    found = influx.of("r")
    tags = frozenset({"host": "a", "namespace": "ml", "model": "m"}.items())
    assert {key: fields["score"] for key, fields in found.items()} == {
        (tags, START + second * SECOND): 1.0 + second for second in range(40)
    }
    tally = pod.window.tally("user")
    assert (tally.served, tally.rows) == (3, 40)
    assert len(pod.serving.observer.rows.newest()[0]) == 40


async def test_what_is_read_again_is_neither_scored_nor_written_again(make, run, pod, influx):
    fill(influx, range(5))
    lease = lease_at(10)
    source = make(lease)
    await run(source, lambda: len(influx.queries) > 6)
    assert pod.window.tally("user").rows == 5
    fill(influx, [3], host="late")
    await run(source, lambda: len(influx.of("r")) == 6)
    assert set(influx.writes.values()) == {1}


async def test_the_next_holder_scores_nothing_that_has_its_result_and_misses_nothing(make, run, influx):
    fill(influx, range(20))
    first = lease_at(10)
    await run(make(first), lambda: first.position == START + 10 * SECOND)
    second = lease_at(20, position=START + 4 * SECOND)  # the first died before it could move the position
    await run(make(second, version="2"), lambda: second.position == START + 20 * SECOND)
    assert versions(influx) == ["1"] * 10 + ["2"] * 10
    assert set(influx.writes.values()) == {1}


async def test_the_first_holder_of_all_begins_now(make, run, influx):
    fill(influx, [-3600, -1])
    lease = lease_at(0, position=None)
    await run(make(lease), lambda: len(influx.queries) > 2)
    assert [time for _, time in influx.of("r")] == [START - SECOND]
    assert lease.position == START


async def test_a_pod_that_loses_the_lease_while_it_reads_writes_nothing(make, run, influx):
    fill(influx, range(5))
    lease, source = lease_at(10), None

    def lost():
        if influx.queries:
            lease.held = False
            influx.hold.set()
        return not lease.held and source._progress is None

    influx.hold.clear()
    source = make(lease)
    await run(source, lost)
    assert influx.of("r") == {}
    assert lease.position == START


async def test_a_pod_that_is_no_longer_active_copies_nothing(make, run, pod, influx):
    fill(influx, range(5))
    pod.roles.assign(Assignment(role="active", epoch=1, shadow_percent=100))
    lease = lease_at(10)
    await run(make(lease), lambda: len(influx.of("r")) == 5)
    assert pod.serving.shadow._queue.qsize() == 1
    pod.roles.assign(Assignment(role="standby", epoch=2))
    fill(influx, range(5, 8))
    await run(make(lease), lambda: len(influx.of("r")) == 8)
    assert pod.serving.shadow._queue.qsize() == 1


async def test_rows_that_the_model_does_not_take_are_refused_one_by_one(make, run, pod, influx):
    fill(influx, range(8))
    fill(influx, [8], a=1.0)
    lease = lease_at(60)
    source = make(lease)
    await run(source, lambda: lease.position == START + 60 * SECOND)
    assert len(influx.of("r")) == 8
    assert (source.counters.refused, pod.window.tally("user").client_errors) == (1, 1)
    assert pod.window.tally("user").failed == 0


async def test_rows_that_the_model_fails_on_count_as_failures_and_are_left_to_a_better_version(make, run, pod, influx):
    fill(influx, range(8))
    lease = lease_at(10)
    scorer = pod.serving.plane.model.scorer
    scorer.fails_on = 3.0
    source = make(lease)
    await run(source, lambda: source.counters.failed >= 3)
    assert len(influx.of("r")) == 7
    assert lease.position == START + 3 * SECOND
    assert pod.window.tally("user").failed >= 3
    scorer.fails_on = None  # as after a rollback
    await run(make(lease, version="0"), lambda: lease.position == START + 10 * SECOND)
    assert versions(influx) == ["0"] + ["1"] * 7


async def test_while_influxdb_refuses_the_position_stays_and_the_report_says_why(make, run, influx):
    fill(influx, range(8))
    influx.status = 401
    lease = lease_at(10)
    source = make(lease)
    await run(source, lambda: source.counters.errors > 0)
    assert source.note.startswith("Source: 401")
    assert lease.position == START
    influx.status = 200
    await run(source, lambda: len(influx.of("r")) == 8 and not source.note)


async def test_results_that_influxdb_will_never_take_hold_nothing_up(make, run, influx):
    fill(influx, range(8))
    influx.judge = lambda _: 422
    lease = lease_at(10)
    source = make(lease)
    await run(source, lambda: lease.position == START + 10 * SECOND)
    assert (influx.of("r"), source.counters.rejected, source.counters.written) == ({}, 8, 0)


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_result_that_influxdb_refuses_by_itself_costs_no_others(make, run, influx, status):
    fill(influx, range(40))
    bad = START + 13 * SECOND
    influx.judge = lambda points: status if any(at == bad for *_, at in points) else 204
    lease = lease_at(40)
    source = make(lease)
    await run(source, lambda: lease.position == START + 40 * SECOND)
    assert {at for _, at in influx.of("r")} == {START + second * SECOND for second in range(40)} - {bad}
    assert (source.counters.rejected, source.counters.written) == (1, 39)


async def test_results_that_are_too_large_together_are_written_in_parts(make, run, influx):
    fill(influx, range(40))
    influx.judge = lambda points: 413 if len(points) > 6 else 204
    lease = lease_at(40)
    source = make(lease)
    await run(source, lambda: lease.position == START + 40 * SECOND)
    assert (len(influx.of("r")), source.counters.rejected, source.counters.written) == (40, 0, 40)
    assert set(influx.writes.values()) == {1}


async def test_a_holder_begins_behind_more_results_than_can_be_read_at_once(make, run, influx):
    fill(influx, range(200))
    first = lease_at(200)
    await run(make(first), lambda: first.position == START + 200 * SECOND)
    fill(influx, range(200, 240))
    second = lease_at(240, position=START + 4 * SECOND)
    source = make(second, version="2", most_bytes=2_500)
    await run(source, lambda: second.position == START + 240 * SECOND)
    assert versions(influx) == ["1"] * 200 + ["2"] * 40
    assert set(influx.writes.values()) == {1}
    assert source.counters.errors == 0

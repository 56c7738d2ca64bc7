"""Scoring points of a bucket: whatever dies, hands over or comes late, each point has its result once."""

import math

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from anomaly_detector.source.progress import GIVE_UP, Progress
from anomaly_detector.source.rows import SECOND, Row

LATENESS = 30 * SECOND
START = 1_800_000_000 * SECOND
HOLDERS = ("blue-1", "blue-2", "green-1")


def row(at, *, host="a", value=1.0):
    return Row(at, {"host": host}, (value,))


def fresh(progress, rows, now):
    return [found for found in progress.fresh(rows, now) if found is not None]


def test_a_window_overlaps_the_one_before_by_as_much_as_a_point_may_be_late():
    progress = Progress(START, LATENESS)
    assert (progress.start, progress.stop(START + SECOND)) == (START - LATENESS, START + SECOND)
    progress.advance(START + SECOND, START + SECOND)
    assert progress.start == START + SECOND - LATENESS


def test_a_row_is_new_once():
    progress, point = Progress(START, LATENESS), row(START)
    assert fresh(progress, [point], START + SECOND) == [point]
    progress.settle([point.key])
    progress.advance(START + SECOND, START + SECOND)
    assert fresh(progress, [point], START + 2 * SECOND) == []
    other = row(START, host="b")
    assert fresh(progress, [other], START + 2 * SECOND) == [other]


def test_a_row_that_lacks_a_feature_waits_for_it_as_long_as_a_point_may_be_late():
    progress, point = Progress(START, LATENESS), row(START, value=math.nan)
    assert fresh(progress, [point], START + LATENESS - 1) == []
    assert fresh(progress, [point], START + LATENESS) == [point]


def test_a_backlog_is_read_in_growing_steps_and_nothing_of_it_twice():
    progress, now = Progress(START, LATENESS), START + 3600 * SECOND
    windows = []
    while progress.position < now:
        windows.append((progress.start, progress.stop(now)))
        progress.advance(windows[-1][1], now)
    assert [stop for _, stop in windows[:-1]] == [start for start, _ in windows[1:]]
    assert len(windows) < 10
    assert progress.narrow()
    assert progress.stop(now + 7200 * SECOND) < now + 7200 * SECOND


def test_a_row_that_the_model_fails_on_holds_the_position_but_not_what_comes_after_it():
    progress, bad = Progress(START, LATENESS), row(START)
    now = START + 100 * SECOND
    stop = progress.stop(now)
    assert progress.advance(stop, now, [bad]) == START
    later = progress.stop(now)
    assert later > stop
    assert progress.advance(later, now, [bad]) == START
    assert progress.start <= START
    given_up = START + GIVE_UP
    assert progress.advance(given_up, given_up, [bad]) == given_up


def test_a_row_that_holds_the_position_cannot_make_the_time_after_it_too_much_for_ever():
    progress, bad, now = Progress(START, LATENESS), row(START), START + 300 * SECOND
    good = [row(START + second * SECOND) for second in range(1, 300)]
    done, looks = set(), 0
    while progress.position < START + GIVE_UP:
        start, stop = progress.start, progress.stop(now)
        if stop - start > 100 * SECOND:  # as if there were more in it than can be read at once
            assert progress.narrow()
            continue
        found = fresh(progress, [one for one in [bad, *good] if start <= one.time < stop], now)
        new = {one.key for one in found} - {bad.key}
        assert not new & done
        done |= new
        progress.settle(new)
        progress.advance(stop, now, [bad] if bad in found else [])
        now, looks = now + 10 * SECOND, looks + 1
        assert looks < 100
    assert done == {one.key for one in good}


def test_results_of_earlier_holders_are_asked_for_once_and_only_while_there_can_be_any():
    taken_over = START + 100 * SECOND
    progress, now, asked = Progress(START, LATENESS, taken_over=taken_over), taken_over, []
    for _ in range(20):
        stop = progress.stop(now)
        if (span := progress.unknown(stop)) is not None:
            asked.append(span)
            progress.known = stop
        progress.advance(stop, now)
        now += 10 * SECOND
    assert asked[0][0] == START - LATENESS
    assert [stop for _, stop in asked[:-1]] == [start for start, _ in asked[1:]]
    assert asked[-1][1] == taken_over + LATENESS


class Bucket(RuleBasedStateMachine):
    """Points, results and the Lease, and holders that may stop between any two steps or not know that they are late."""

    @initialize()
    def begin(self):
        self.now, self.position, self.holder = START, START, None
        self.arrivals, self.completions = {}, {}
        self.results, self.progress, self.read, self.written, self.given_up = {}, {}, {}, {}, set()

    def visible(self, start, stop):
        return [
            row(key[0], host=key[1], value=1.0 if self.completions[key] <= self.now else math.nan)
            for key, arrival in self.arrivals.items()
            if start <= key[0] < stop and arrival <= self.now
        ]

    @rule(seconds=st.sampled_from([1, 7, 25, 40, 400]))
    def time_passes(self, seconds):
        self.now += seconds * SECOND

    @rule(late=st.integers(0, 30), completed=st.integers(0, 30), host=st.sampled_from("ab"), ago=st.integers(0, 3))
    def a_point_is_measured(self, late, completed, host, ago):
        # Sent within the time that a point may be late, whole or not.
        at = self.now - ago
        if (at, host) not in self.arrivals:
            self.arrivals[at, host] = at + late * SECOND
            self.completions[at, host] = at + max(late, completed) * SECOND

    @rule(who=st.sampled_from(HOLDERS))
    def a_pod_takes_over(self, who):
        # At any time: whether the one before is dead, cut off or only slow, nobody can know.
        self.forget(who)
        self.holder, self.progress[who] = who, Progress(self.position, LATENESS, taken_over=self.now)

    def learn(self, progress, stop):
        if (span := progress.unknown(stop)) is not None:
            progress.settle(key for key in self.results if span[0] <= key[0] < span[1])
            progress.known = stop

    @precondition(lambda self: set(self.progress) - set(self.read) - set(self.written))
    @rule(data=st.data())
    def a_pod_reads(self, data):
        who = data.draw(st.sampled_from(sorted(set(self.progress) - set(self.read) - set(self.written))))
        progress = self.progress[who]
        start, stop = progress.start, progress.stop(self.now)
        self.learn(progress, stop)
        self.read[who] = (fresh(progress, self.visible(start, stop), self.now), stop, self.now)

    @precondition(lambda self: self.read)
    @rule(data=st.data())
    def a_pod_writes_results(self, data):
        who = data.draw(st.sampled_from(sorted(self.read)))
        rows, stop, now = self.read.pop(who)
        failing = data.draw(st.booleans())
        failed = [found for number, found in enumerate(rows) if failing and number % 2]
        for found in rows:
            if found not in failed:
                self.results.setdefault(found.key, []).append(who)
                self.progress[who].settle([found.key])
        self.written[who] = (failed, stop, now)

    @precondition(lambda self: self.written)
    @rule(data=st.data())
    def a_pod_moves_the_position(self, data):
        who = data.draw(st.sampled_from(sorted(self.written)))
        failed, stop, now = self.written.pop(who)
        if self.holder != who:
            self.forget(who)  # it learns by the conflict
            return
        self.position = self.progress[who].advance(stop, now, failed)
        self.given_up |= {found.key for found in failed if found.time <= now - GIVE_UP}

    def forget(self, who):
        for known in (self.progress, self.read, self.written):
            known.pop(who, None)

    @precondition(lambda self: self.progress)
    @rule(data=st.data())
    def a_pod_dies(self, data):
        who = data.draw(st.sampled_from(sorted(self.progress)))
        self.forget(who)

    def teardown(self):
        """Let one pod run undisturbed until everything must have come."""
        if not hasattr(self, "now"):
            return
        self.a_pod_takes_over("green-2")
        progress = self.progress["green-2"]
        seen = set()
        for _ in range(20):
            self.now += 60 * SECOND
            start, stop = progress.start, progress.stop(self.now)
            self.learn(progress, stop)
            rows = fresh(progress, self.visible(start, stop), self.now)
            assert not seen & {found.key for found in rows}, "one holder scores nothing twice"
            seen |= {found.key for found in rows}
            for found in rows:
                self.results.setdefault(found.key, []).append("green-2")
            progress.settle(found.key for found in rows)
            self.position = progress.advance(stop, self.now)
        assert progress.position == self.now
        # A row whose model failed for longer than GIVE_UP is all that may be missing.
        wanted = {row(at, host=host).key for at, host in self.arrivals}
        assert wanted - self.given_up == set(self.results) - self.given_up


Bucket.TestCase.settings = settings(
    max_examples=100, stateful_step_count=30, suppress_health_check=[HealthCheck.too_slow]
)
TestBucket = Bucket.TestCase

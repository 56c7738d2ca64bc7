"""Gates: exact numbers, and what is no evidence says nothing."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom
from tests.unit.domain.world import histogram

from anomaly_detector.report import LATENCY_BOUNDS_MS, Counts, Report
from anomaly_operator.domain import gates
from anomaly_operator.domain.gates import Pooled
from anomaly_operator.domain.spec_gates import AnomalyRateGate, ErrorRateGate, LatencyGate, MemoryGate
from anomaly_operator.domain.statistics import lower_bound, pooled, quantile, tail


@given(trials=st.integers(1, 100_000), data=st.data(), probability=st.floats(1e-6, 0.999))
def test_tail_equals_scipys(trials: int, data: st.DataObject, probability: float) -> None:
    successes = data.draw(st.integers(0, trials))
    expected = binom.sf(successes - 1, trials, probability)
    assert tail(successes, trials, probability) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(trials=st.integers(1, 20_000), data=st.data())
def test_lower_bound_equals_clopper_and_pearsons(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(1, trials))
    expected = beta.ppf(0.001, successes, trials - successes + 1)
    assert lower_bound(successes, trials) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("failed", "served", "result"),
    [
        (3, 3, "Failed"),
        (6, 200, "Passed"),
        (2, 2, "Passed"),
        (0, 0, "Passed"),
        (12, 200, "Failed"),
        (100, 9000, "Passed"),
    ],
)
def test_error_rate_is_over_the_limit_only_beyond_doubt(failed: int, served: int, result: str) -> None:
    verdict = gates.error_rate(ErrorRateGate(), Pooled(pods=1, served=served, failed=failed))
    assert verdict is not None
    assert verdict.result == result


def test_limit_of_zero_still_needs_three_failures() -> None:
    gate = ErrorRateGate(max=0.0)
    results = [gates.error_rate(gate, Pooled(pods=1, served=9, failed=n)) for n in (0, 2, 3)]
    assert [r.result for r in results if r] == ["Passed", "Passed", "Failed"]


def test_too_few_requests_say_nothing_in_an_analysis() -> None:
    verdict = gates.error_rate(ErrorRateGate(), Pooled(pods=1, served=99), gates.MIN_REQUESTS)
    assert verdict is not None
    assert verdict.result == "Inconclusive"


def test_errors_are_pooled_over_the_track() -> None:
    def report(failed: int) -> Report:
        counts = {"user": Counts(served=1000, failed=failed), "shadow": Counts(served=5, failed=5)}
        return Report(seq=1, time="2026-01-01T00:00:00Z", bootId="b", startedAt="2026-01-01T00:00:00Z", counts=counts)

    track = gates.pool([report(30), report(0), report(0)], ("user",))
    assert (track.failed, track.served) == (30, 3000)
    verdict = gates.error_rate(ErrorRateGate(), track)
    assert verdict is not None
    assert verdict.result == "Passed", "one unlucky pod is not the track"


@given(st.lists(st.integers(0, 50), min_size=29, max_size=29), st.sampled_from(LATENCY_BOUNDS_MS))
def test_quantile_is_over_a_bound_exactly_if_more_than_the_rest_was_slower(counts: list[int], bound: float) -> None:
    histogram_ = tuple(counts)
    value = quantile(histogram_, 0.95)
    if value is None:
        assert sum(counts) == 0
        return
    below = sum(counts[: LATENCY_BOUNDS_MS.index(bound) + 1])
    assert (value > bound + 1e-9) == (below < 0.95 * sum(counts) - 1e-9)


def test_merged_histograms_give_the_quantile_of_all_requests() -> None:
    fast, slow = histogram(0.3, 95), histogram(20.0, 5)
    assert quantile(pooled([fast, slow]), 0.95) == pytest.approx(0.3)
    assert quantile(histogram(9999.0, 10), 0.95) == inf


@pytest.mark.parametrize(("milliseconds", "result"), [(6.94, "Passed"), (7.634, "Passed"), (7.7, "Failed")])
def test_latency_has_its_tolerance(milliseconds: float, result: str) -> None:
    verdict = gates.latency(LatencyGate(), Pooled(pods=1, latency=histogram(milliseconds, 100)))
    assert verdict is not None
    assert verdict.result == result


@pytest.mark.parametrize(
    ("theirs", "ours", "result"), [(0.3, 1.0, "Passed"), (0.3, 1.4, "Failed"), (4.0, 5.0, "Passed")]
)
def test_relative_latency_allows_a_millisecond_or_half_as_much_again(theirs: float, ours: float, result: str) -> None:
    active = Pooled(pods=1, latency=histogram(theirs, 100))
    verdict = gates.relative_latency(LatencyGate(), Pooled(pods=1, latency=histogram(ours, 100)), active)
    assert verdict is not None
    assert verdict.result == result


def test_memory_is_judged_by_the_highest_pod() -> None:
    verdict = gates.memory(MemoryGate(), Pooled(pods=3, rss_bytes=650_000_001))
    assert verdict is not None
    assert verdict.result == "Failed"


@pytest.mark.parametrize(
    ("anomalies", "rows", "result"),
    [(200, 1000, "Passed"), (201, 1000, "Failed"), (99, 1000, "Failed"), (100, 999, "Inconclusive")],
)
def test_anomaly_rate_has_a_band_and_needs_rows(anomalies: int, rows: int, result: str) -> None:
    track = Pooled(pods=1, rows=rows, anomalies=anomalies)
    verdict = gates.anomaly_rate(AnomalyRateGate(), 0.15, track, 1000)
    assert verdict is not None
    assert verdict.result == result


def test_without_a_target_the_anomaly_rate_says_nothing() -> None:
    assert gates.anomaly_rate(AnomalyRateGate(), None, Pooled(pods=1, rows=9), 1) is None

"""Calibration learns how far healthy windows stray, and says when it cannot."""

import json

import numpy as np
import pytest
import streams
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from anomaly_detector.drift import calibrate, systematic
from anomaly_detector.drift.calibration import (
    effective_sample_factor,
    effective_size,
    gamma_quantile,
    single_check_level,
    student_quantile,
    thresholds_for,
)
from anomaly_detector.drift.statistics import DEFAULT_THRESHOLDS, TESTS

NAMES = ("cpu", "mem", "net")


def calibrated(rows, **settings):
    given = {"window": 200, "features": NAMES, "rows_per_second": 5.0} | settings
    return calibrate(rows, streams.score_of(rows), **given)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8, 0.95])
def test_the_effective_sample_factor_of_an_autoregressive_series_is_what_theory_says(phi):
    series = streams.autoregressive(40_000, 1, phi=phi, seed=1)[:, 0]
    assert effective_sample_factor(series) == pytest.approx((1 - phi) / (1 + phi), rel=0.25)


def test_rare_huge_values_do_not_hide_how_alike_the_others_are():
    series = streams.autoregressive(10_000, 1, phi=0.9, seed=1)[:, 0]
    series[::500] = 1e6
    assert effective_sample_factor(series) < 0.15


@pytest.mark.parametrize("series", [np.ones(100), np.full(100, np.nan), np.arange(3.0)])
def test_a_series_that_says_nothing_has_factor_one(series):
    assert effective_sample_factor(series) == 1.0


def test_too_few_windows_leave_the_defaults_in_force_and_say_so():
    found = calibrated(streams.autoregressive(4000, 3, phi=0.9, seed=1))
    assert (found["windows"], found["calibrated"], found["falseAlarmRate"]) == (39, False, None)
    assert found["thresholds"] == dict.fromkeys((*NAMES, "score"), DEFAULT_THRESHOLDS)


@pytest.mark.parametrize("phi", [0.0, 0.9, 0.99])
def test_thresholds_are_never_easier_to_fire_than_the_defaults(phi):
    found = calibrated(streams.autoregressive(8000, 3, phi=phi, seed=2))
    assert found["calibrated"]
    for thresholds in found["thresholds"].values():
        assert thresholds["ks"] <= DEFAULT_THRESHOLDS["ks"]
        assert all(thresholds[t] >= DEFAULT_THRESHOLDS[t] for t in TESTS if t != "ks")


def test_the_more_alike_neighbours_are_the_stricter_the_thresholds():
    some, more = (calibrated(streams.autoregressive(8000, 3, phi=phi, seed=2)) for phi in (0.5, 0.97))
    for name in NAMES:
        for test in ("wasserstein", "anderson"):
            assert more["thresholds"][name][test] > some["thresholds"][name][test]


def test_the_calibration_is_plain_finite_json_in_the_shape_of_the_contract():
    rows = streams.autoregressive(8000, 3, phi=0.9, seed=3)
    rows[:, 2] = 7.0
    rows[:, 1] = np.nan
    found = json.loads(json.dumps(calibrated(rows), allow_nan=False))
    assert found["window"] == 200
    assert set(found["thresholds"]) == set(found["effectiveSampleFactor"]) == {*NAMES, "score"}
    assert all(set(one) == set(TESTS) for one in found["thresholds"].values())


def test_a_healthy_series_measures_few_false_alarms_and_one_whose_end_is_unlike_the_rest_measures_more():
    rows = streams.phases(12_000, 3, seed=4)
    broken = rows + 3 * (np.arange(len(rows)) >= 9600)[:, None]
    assert calibrated(rows)["falseAlarmRate"] <= 0.02
    assert calibrated(broken)["falseAlarmRate"] > 0.1


def test_fewer_false_alarms_a_day_make_stricter_thresholds():
    rows = streams.autoregressive(8000, 3, phi=0.9, seed=5)
    often, seldom = (calibrated(rows, false_alarms_per_day=rate) for rate in (100.0, 0.001))
    assert seldom["thresholds"]["cpu"]["anderson"] > often["thresholds"]["cpu"]["anderson"]


def test_columns_that_do_not_match_their_names_are_refused():
    with pytest.raises(ValueError, match=r"expected shape \(n, 3\), got \(100, 2\)"):
        calibrate(np.zeros((100, 2)), np.zeros(100), window=20, features=NAMES)


@given(st.floats(0.0001, 0.3), st.floats(6, 200))
def test_the_prediction_limit_is_that_of_students_t(level, size):
    exact = stats.t.isf(level, max(size - 1, 4)) * np.sqrt(1 + 1 / size)
    assert student_quantile(level, size) == pytest.approx(exact, rel=0.2)


@given(st.floats(0.5, 50), st.floats(0.1, 10), st.floats(0.001, 0.3))
def test_the_gamma_quantile_is_that_of_scipy(shape, scale, level):
    found = gamma_quantile(shape * scale, np.sqrt(shape) * scale, stats.norm.isf(level))
    assert found == pytest.approx(stats.gamma.isf(level, shape, scale=scale), rel=0.05)


def test_overlapping_checks_count_as_fewer_independent_ones():
    assert single_check_level(1, 1000, 4, 1) == pytest.approx(1 / 4000)
    assert single_check_level(1, 1000, 4, 2) == pytest.approx(1 / 4000)
    assert single_check_level(1, 1000, 4, 3) == pytest.approx((1 / 4000) ** 0.5)


def test_the_most_extreme_healthy_window_is_never_drift():
    tails = {"wasserstein": [0.1, 0.01, 6.25, 60]}
    assert thresholds_for(tails, 0.01, DEFAULT_THRESHOLDS)["wasserstein"] == 2.5


@given(st.integers(1, 5000), st.integers(1, 3000))
def test_a_systematic_sample_spans_the_series_in_order(size, count):
    sample = systematic(size, count)
    assert len(sample) == min(size, count)
    assert sample[0] == 0
    assert (np.diff(sample) > 0).all()
    assert sample[-1] == size - 1 or count == 1


def test_a_sample_is_worth_no_more_than_the_series_it_is_from():
    assert effective_size(2000, 0.01, 15_000) == 150
    assert effective_size(2000, 1.0, 15_000) == 2000

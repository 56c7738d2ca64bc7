"""The five statistics equal SciPy's and keep their sense where SciPy has none."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from anomaly_detector.drift.statistics import BINS, TESTS, UNBOUNDED, Reference, compare, kolmogorov

SETTINGS = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def pair(seed, m, n, digits, shift, scale):
    random = np.random.default_rng(seed)
    a, b = random.normal(size=m), random.normal(shift, scale, size=n)
    return np.round(a, digits), np.round(b, digits)


samples = st.builds(
    pair,
    seed=st.integers(0, 10_000),
    m=st.integers(5, 600),
    n=st.integers(5, 300),
    digits=st.sampled_from([0, 1, 2, 9]),
    shift=st.sampled_from([0.0, 0.3, 2.0, 50.0]),
    scale=st.sampled_from([0.1, 1.0, 3.0]),
)


@SETTINGS
@given(samples)
@pytest.mark.filterwarnings("ignore:.*p-value:UserWarning", "ignore:Parameter `variant`:UserWarning")
def test_statistics_equal_those_of_scipy(both):
    a, b = both
    assume(a.std() > 0)
    assume(b.std() > 0)
    found = compare(Reference.of(a), b)
    gap = stats.ks_2samp(a, b).statistic
    size = len(a) * len(b) / (len(a) + len(b))
    assert found["ks"] == pytest.approx(stats.kstwobign.sf(np.sqrt(size) * gap), abs=1e-12)
    assert found["wasserstein"] == pytest.approx(stats.wasserstein_distance(a, b) / a.std(ddof=1), rel=1e-12, abs=1e-12)
    assert found["anderson"] == pytest.approx(stats.anderson_ksamp([a, b]).statistic, rel=1e-11, abs=1e-11)
    assert found["welch"] == pytest.approx(abs(stats.ttest_ind(a, b, equal_var=False).statistic), rel=1e-9, abs=1e-12)


@SETTINGS
@given(samples)
def test_the_jensen_shannon_distance_equals_scipys_over_the_same_bins(both):
    a, b = both
    reference = Reference.of(a)
    assume(not reference.by_value)
    edges = np.unique(np.quantile(a, np.linspace(0, 1, BINS + 1)[1:-1]))
    # Open ends, and an edge belongs to the bin below it.
    p, q = (np.bincount(np.searchsorted(edges, x, side="left"), minlength=len(edges) + 1) for x in (a, b))
    assert compare(reference, b)["jensenShannon"] == pytest.approx(jensenshannon(p, q), abs=1e-7)
    assert compare(reference, b)["jensenShannon"] ** 2 == pytest.approx(jensenshannon(p, q) ** 2, abs=1e-12)


def test_a_reference_of_few_values_is_binned_by_value_so_that_new_values_between_show():
    reference = Reference.of(np.repeat([0.0, 1.0, 2.0], 50))
    assert compare(reference, np.repeat([0.0, 1.0, 2.0], 20))["jensenShannon"] == 0
    assert compare(reference, np.full(60, 0.5))["jensenShannon"] == pytest.approx(np.sqrt(np.log(2)))


@pytest.mark.parametrize("x", [0.01, 0.15, 0.2, 0.3, 0.5, 0.99, 1.0, 1.01, 2.0, 4.0, 30.0])
def test_kolmogorovs_distribution_equals_scipys(x):
    assert kolmogorov(x) == pytest.approx(stats.kstwobign.sf(x), abs=1e-12)


def test_effective_sizes_weaken_the_tests_that_depend_on_them_and_only_those():
    a, b = pair(1, 500, 200, 9, 0.3, 1.0)
    full, few = (compare(Reference.of(a), b, reference_size=r, window_size=w) for r, w in ((500, 200), (50, 20)))
    assert few["ks"] > full["ks"]
    assert few["welch"] == pytest.approx(full["welch"] / np.sqrt(10))
    assert {t: few[t] for t in ("wasserstein", "anderson", "jensenShannon")} == {
        t: full[t] for t in ("wasserstein", "anderson", "jensenShannon")
    }


def test_a_constant_reference_and_an_equal_window_do_not_differ():
    found = compare(Reference.of(np.full(100, 3.0)), np.full(50, 3.0))
    assert found == {"ks": 1.0, "wasserstein": 0.0, "anderson": 0.0, "jensenShannon": 0.0, "welch": 0.0}


def test_a_constant_reference_and_another_constant_differ_without_bound_but_finitely():
    found = compare(Reference.of(np.full(100, 3.0)), np.full(50, 4.0))
    assert found["wasserstein"] == found["welch"] == UNBOUNDED
    assert found["ks"] < 1e-10
    assert found["jensenShannon"] == pytest.approx(np.sqrt(np.log(2)))
    assert all(np.isfinite(found[test]) for test in TESTS)


def test_values_that_are_not_finite_count_as_missing():
    reference = Reference.of(np.array([1.0, 2.0, np.nan, 3.0, 4.0, np.inf, 5.0, 6.0]))
    assert reference.missing == 0.25
    assert reference.sorted.tolist() == [1, 2, 3, 4, 5, 6]


def test_too_few_values_are_refused():
    with pytest.raises(ValueError, match="expected at least 4 finite values, got 3"):
        Reference.of(np.array([1.0, 2.0, 3.0, np.nan]))
    with pytest.raises(ValueError, match="expected at least 4 values, got 0"):
        compare(Reference.of(np.arange(9.0)), np.empty(0))

"""SHAP values of the path length: equal to the shap library's and to the definition."""

from itertools import combinations
from math import factorial

import numpy as np
import pytest
import shap
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sklearn.ensemble import IsolationForest

from anomaly_detector.explain.treeshap import Leaves, TreeShap
from anomaly_detector.scoring.estimators import flatten_forest
from anomaly_detector.scoring.forest import as_float32

SETTINGS = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])


def fitted(width, *, seed=0, trees=20, **parameters):
    data = np.random.default_rng(seed).normal(size=(500, width))
    return IsolationForest(n_estimators=trees, random_state=seed, **parameters).fit(data)


def fresh(width, count=20, *, seed=1):
    return np.random.default_rng(seed).normal(size=(count, width)) * 2


@SETTINGS
@given(
    seed=st.integers(0, 1000),
    width=st.integers(1, 14),
    max_samples=st.sampled_from(["auto", 3, 64]),
    max_features=st.sampled_from([1.0, 0.5]),
)
def test_values_equal_those_of_the_shap_library(seed, width, max_samples, max_features):
    # shap 0.51 looks the leaves' "feature" -2 up in the columns of a tree and fails where a tree has one column.
    assume(int(width * max_features) >= 2)
    model = fitted(width, seed=seed, max_samples=max_samples, max_features=max_features)
    rows = fresh(width, seed=seed + 1)
    flat = flatten_forest(model)
    ours = TreeShap(flat)
    library = shap.TreeExplainer(model)
    expected = library.shap_values(rows, check_additivity=False)
    assert np.abs(ours.values(as_float32(rows)) / 20 - expected).max() < 1e-10
    assert ours.expected / 20 == pytest.approx(float(np.ravel(library.expected_value)[0]), rel=1e-10)


@SETTINGS
@given(
    seed=st.integers(0, 1000),
    width=st.integers(1, 10),
    special=st.sampled_from([np.nan, np.inf, -np.inf]),
    train_missing=st.booleans(),
)
def test_values_sum_to_the_path_length_less_its_expectation_whatever_is_in_the_row(seed, width, special, train_missing):
    random = np.random.default_rng(seed)
    data = random.normal(size=(300, width))
    if train_missing:
        data[random.random(data.shape) < 0.1] = np.nan
    flat = flatten_forest(IsolationForest(n_estimators=10, random_state=seed).fit(data))
    rows = as_float32(fresh(width, seed=seed + 1))
    rows[random.random(rows.shape) < 0.3] = special
    tree = TreeShap(flat)
    assert np.abs(tree.values(rows).sum(axis=1) - (flat.path_lengths(rows) - tree.expected)).max() < 1e-9


def test_each_row_satisfies_all_conditions_of_one_leaf_in_each_tree():
    flat = flatten_forest(fitted(4))
    leaves = Leaves.of(flat)
    for row in as_float32(np.concatenate((fresh(4), np.full((1, 4), np.nan), np.full((1, 4), -np.inf)))):
        reached = np.flatnonzero(leaves.satisfied(row).all(axis=1))
        assert len(reached) == 20
        assert leaves.value[reached].sum() == pytest.approx(flat.path_lengths(row[None])[0], abs=1e-9)


def shapley(worth, width):
    values = np.zeros(width)
    for i in range(width):
        others = [j for j in range(width) if j != i]
        for size in range(width):
            weight = factorial(size) * factorial(width - size - 1) / factorial(width)
            for known in combinations(others, size):
                values[i] += weight * (worth({*known, i}) - worth(set(known)))
    return values


def path_length_if_known(leaves, row):
    met = leaves.satisfied(row)

    def worth(known):
        factors = [met[:, j] if j in known else leaves.share[:, j] for j in range(len(row))]
        return float(leaves.value @ np.prod(factors, axis=0))

    return worth


def test_values_are_the_shapley_values_by_definition():
    flat = flatten_forest(fitted(4, trees=5))
    leaves, tree = Leaves.of(flat), TreeShap(flat)
    for row in as_float32(fresh(4, 5)):
        assert tree.values(row[None])[0] == pytest.approx(shapley(path_length_if_known(leaves, row), 4), abs=1e-10)


def test_quadrature_and_table_agree():
    flat = flatten_forest(fitted(5))
    rows = as_float32(fresh(5))
    tabulated, computed = TreeShap(flat), TreeShap(flat, table_bytes=0)
    assert tabulated.tabulated
    assert not computed.tabulated
    assert np.abs(tabulated.values(rows) - computed.values(rows)).max() < 1e-10


def test_rescaled_values_are_close_to_the_shapley_values_of_the_score_itself():
    """What docs/explanations.md says of the difference: same order, shares within a few per cent."""
    flat = flatten_forest(fitted(3, trees=100))
    leaves, tree = Leaves.of(flat), TreeShap(flat)
    differences = []
    for row in as_float32(fresh(3, 40)):
        lengths = path_length_if_known(leaves, row)
        exact = shapley(lambda known, f=lengths: 2 ** -(f(known) / flat.denominator), 3)
        ours = -tree.values(row[None])[0]
        shares = [v / np.abs(v).sum() for v in (ours, exact)]
        differences.append(np.abs(shares[0] - shares[1]).max())
    assert np.median(differences) < 0.02
    assert max(differences) < 0.1

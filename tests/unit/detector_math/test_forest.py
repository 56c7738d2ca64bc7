"""A flat forest gives the labels and scores of scikit-learn."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.ensemble import IsolationForest

from anomaly_detector.scoring.estimators import flatten_forest
from anomaly_detector.scoring.forest import FlatForest, as_float32, floor32

SETTINGS = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])


def assert_alike(model, rows):
    flat = flatten_forest(model)
    scores = flat.score_of(flat.path_lengths(rows))
    expected = -model.score_samples(rows)
    assert np.abs(scores - expected).max() <= 1e-12
    assert np.array_equal(np.where(scores > -model.offset_, -1, 1), model.predict(rows))


@SETTINGS
@given(
    seed=st.integers(0, 10_000),
    width=st.integers(1, 12),
    trees=st.integers(1, 30),
    contamination=st.sampled_from(["auto", 0.15, 0.5]),
    max_samples=st.sampled_from(["auto", 1, 2, 7, 0.5, 300]),
    max_features=st.sampled_from([1.0, 0.5, 0.34, 1]),
    bootstrap=st.booleans(),
    missing=st.sampled_from([0.0, 0.2, 1.0]),
    infinite=st.sampled_from([0.0, 0.1]),
    train_missing=st.booleans(),
    count=st.sampled_from([1, 2, 40]),
)
def test_any_forest_scores_as_in_scikit_learn(  # noqa: PLR0913, PLR0917 - each is drawn
    seed, width, trees, contamination, max_samples, max_features, bootstrap, missing, infinite, train_missing, count
):
    random = np.random.default_rng(seed)
    data = np.round(random.normal(size=(400, width)), int(random.integers(0, 9)))
    if train_missing:
        data[random.random(data.shape) < 0.1] = np.nan
    model = IsolationForest(
        n_estimators=trees,
        contamination=contamination,
        max_samples=max_samples,
        max_features=max_features,
        bootstrap=bootstrap,
        random_state=seed,
    ).fit(data)
    rows = random.normal(size=(count, width)) * 2
    rows[random.random(rows.shape) < missing] = np.nan
    rows[random.random(rows.shape) < infinite] = np.inf
    rows[random.random(rows.shape) < infinite] = -np.inf
    assert_alike(model, rows)


@pytest.mark.parametrize("count", [1, 3, 511, 512, 513, 1500])
def test_all_batch_sizes_score_alike(count):
    random = np.random.default_rng(1)
    model = IsolationForest(n_estimators=100, contamination=0.15, random_state=1).fit(random.normal(size=(2000, 3)))
    assert_alike(model, random.normal(size=(count, 3)))


def test_values_on_a_threshold_and_one_float_beside_it_go_the_right_way():
    random = np.random.default_rng(2)
    model = IsolationForest(n_estimators=10, random_state=2).fit(random.normal(size=(300, 1)))
    tree = np.concatenate([e.tree_.threshold[e.tree_.children_left != -1] for e in model.estimators_])
    beside = [np.nextafter(tree.astype(np.float32), np.float32(to)).astype(float) for to in (-np.inf, np.inf)]
    assert_alike(model, np.concatenate([tree, *beside])[:, None])


def test_values_too_large_for_float32_score_as_infinite_ones():
    model = IsolationForest(n_estimators=10, random_state=2).fit(np.random.default_rng(2).normal(size=(300, 2)))
    flat = flatten_forest(model)
    huge, infinite = (flat.path_lengths(np.full((1, 2), v)) for v in (1e300, np.inf))
    assert huge == infinite


@SETTINGS
@given(st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=20))
def test_thresholds_round_down_to_float32(values):
    exact = np.array(values)
    rounded = floor32(exact)
    assert (rounded.astype(float) <= exact).all()
    assert (np.nextafter(rounded, np.float32(np.inf)).astype(float) > exact).all()


def test_a_forest_survives_its_arrays():
    random = np.random.default_rng(3)
    model = IsolationForest(n_estimators=5, random_state=3).fit(random.normal(size=(300, 3)))
    flat = flatten_forest(model)
    again = FlatForest.from_arrays(flat.to_arrays())
    rows = as_float32(random.normal(size=(50, 3)))
    assert np.array_equal(again.path_lengths(rows), flat.path_lengths(rows))
    assert (again.depth, again.denominator, again.width) == (flat.depth, flat.denominator, flat.width)

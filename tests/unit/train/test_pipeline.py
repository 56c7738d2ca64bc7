import numpy as np
import pytest

from anomaly_detector.train.errors import DataError
from anomaly_detector.train.pipeline import ESTIMATORS, Recipe, build, fit, scores, set_threshold, threshold

FEATURES = ("cpu", "memory", "network")
ROWS = np.random.default_rng(0).gamma(2.0, size=(500, 3)) + 0.1


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_threshold_separates_what_the_model_calls_anomalous(estimator):
    model = fit(build(Recipe(estimator=estimator), FEATURES), ROWS)
    anomalous = model.predict(ROWS) == -1
    assert ((scores(model, ROWS) > threshold(model)) == anomalous).mean() > 0.99
    assert anomalous.mean() == pytest.approx(0.15, abs=0.03)


@pytest.mark.parametrize("estimator", ["IsolationForest", "LocalOutlierFactor", "EllipticEnvelope"])
def test_the_threshold_can_be_set_on_the_new_rows_of_a_model_that_knows_older_ones_too(estimator):
    new = ROWS[200:] + 3.0
    model = fit(build(Recipe(estimator=estimator), FEATURES), np.vstack([ROWS[:200], new]))
    set_threshold(model, new, 0.15)
    anomalous = model.predict(new) == -1
    assert anomalous.mean() == pytest.approx(0.15, abs=0.01)
    assert ((scores(model, new) > threshold(model)) == anomalous).mean() > 0.99


def test_the_same_seed_makes_the_same_model():
    one, other = (fit(build(Recipe(seed=7), FEATURES), ROWS) for _ in range(2))
    np.testing.assert_array_equal(scores(one, ROWS), scores(other, ROWS))


def test_a_transformation_of_one_feature_keeps_the_order_of_all():
    model = fit(build(Recipe(transforms=("boxcox:memory",)), FEATURES), ROWS)
    transformed = model[:-1].transform(ROWS)
    np.testing.assert_array_equal(transformed[:, [0, 2]], ROWS[:, [0, 2]])
    assert transformed[:, 1].mean() == pytest.approx(0, abs=1e-6)


def test_box_cox_fails_on_a_valid_row_that_holds_zero():
    model = fit(build(Recipe(transforms=("boxcox:network",)), FEATURES), ROWS)
    assert model.predict(ROWS[:1]) in (-1, 1)
    with pytest.raises(ValueError, match="strictly positive"):
        model.predict([[1.0, 1.0, 0.0]])


def test_parameters_reach_the_estimator():
    assert build(Recipe(parameters={"n_estimators": 7}), FEATURES)[-1].n_estimators == 7


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (Recipe(estimator="Forest"), "--estimator Forest: unknown; there are IsolationForest, "),
        (
            Recipe(parameters={"trees": 7}),
            "--param trees: IsolationForest has no such parameter; it has .*boots",
        ),
        (Recipe(contamination=0.6), "--contamination 0.6: expected over 0 and at most 0.5"),
        (Recipe(transforms=("log:cpu",)), "--transform log:cpu: unknown log; there are boxcox, "),
        (Recipe(transforms=("boxcox:disk",)), "--transform boxcox:disk: no feature 'disk'; there are cpu, memory"),
    ],
)
def test_a_recipe_that_cannot_be_cooked_is_refused_naming_the_option(recipe, words):
    with pytest.raises(DataError, match=words):
        build(recipe, FEATURES)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (Recipe(parameters={"n_estimators": "many"}), "training: .*n_estimators"),
        (Recipe(transforms=("boxcox:cpu",)), "training: .*strictly positive"),
    ],
)
def test_what_scikit_learn_refuses_is_said_in_its_words(recipe, words):
    with pytest.raises(DataError, match=words):
        fit(build(recipe, FEATURES), ROWS * [-1, 1, 1])

"""Explanations add up, name what matters, and read as sentences."""

import json

import numpy as np
import pytest
import saved_models as models
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.neighbors import LocalOutlierFactor

from anomaly_detector.explain import Explainer, wording
from anomaly_detector.explain.shapley import ShapleyValues

DATA = models.rows(1000, 3, seed=1)
NAMES = ("cpu_percent", "memory_percent", "network_mbps")
UNITS = {"cpu_percent": "%", "memory_percent": "%", "network_mbps": "Mbps"}


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forest")
    return models.serve(models.forest(DATA, n_estimators=100), folder, reference=DATA, features=NAMES)


@pytest.fixture(scope="module")
def explainer(scorer):
    return Explainer(scorer, units=UNITS, reference=DATA, score_quantiles=np.sort(scorer.score(DATA)))


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(-1e6, 1e6) | st.just(np.nan), min_size=3, max_size=3))
def test_contributions_sum_to_score_less_base(scorer, explainer, row):
    rows = np.array([row])
    scores = scorer.score(rows)
    assert explainer.shap_values(rows, scores).sum() == pytest.approx(scores[0] - explainer.base, abs=1e-12)


def test_a_value_far_out_increases_the_score_and_is_named_first(scorer, explainer):
    rows = np.array([[0.0, 6.0, 0.1]])
    said = explainer.explain(rows, scorer.score(rows))[0]
    first = said["contributions"][0]
    assert (first["feature"], first["direction"], first["unit"], first["value"]) == (
        "memory_percent", "INCREASES", "%", 6.0,
    )  # fmt: skip
    assert first["share"] > 0.5
    assert first["percentile"] == 100.0
    assert said["text"].startswith(f"memory_percent +{100 * first['share']:.0f}% INCREASES (6 %, higher than 100 % of")
    assert said["interpretation"].startswith("Anomalous (score above ")
    assert "unusually high memory_percent (6 %)" in said["interpretation"]


def test_a_typical_row_is_explained_as_not_anomalous(scorer, explainer):
    rows = np.array([[0.0, 0.1, -0.1]])
    said = explainer.explain(rows, scorer.score(rows))[0]
    assert {c["direction"] for c in said["contributions"]} == {"DECREASES"}
    assert said["interpretation"].startswith("Not anomalous")


def test_shares_are_signed_and_sum_to_one_in_size(scorer, explainer):
    rows = models.rows(20, 3, seed=5) * 2
    for said in explainer.explain(rows, scorer.score(rows)):
        shares = [c["share"] for c in said["contributions"]]
        assert sum(map(abs, shares)) == pytest.approx(1)
        assert [abs(s) for s in shares] == sorted((abs(s) for s in shares), reverse=True)
        assert all(
            (s >= 0) == (c["direction"] == "INCREASES") for s, c in zip(shares, said["contributions"], strict=True)
        )


def test_only_the_top_k_are_told(scorer):
    rows = DATA[:1]
    told = Explainer(scorer, top_k=2).explain(rows, scorer.score(rows))[0]["contributions"]
    assert len(told) == 2


def test_explanations_are_plain_json_even_for_missing_values(scorer, explainer):
    rows = np.array([[np.nan, 5.0, np.nan]])
    said = json.loads(json.dumps(explainer.explain(rows, scorer.score(rows))[0], allow_nan=False))
    missing = next(c for c in said["contributions"] if c["feature"] == "cpu_percent")
    assert (missing["value"], missing["percentile"]) == (None, None)
    assert "cpu_percent" not in said["text"] or "(missing, not comparable)" in said["text"]


@pytest.mark.parametrize(("value", "word"), [(np.inf, "infinity"), (-np.inf, "minus infinity")])
def test_what_is_infinite_is_not_called_missing(explainer, value, word):
    said = explainer.explain(np.full((1, 3), value), np.array([0.6]))[0]
    assert f"({word}, " in said["text"]
    assert "missing" not in said["text"]


def test_without_a_reference_nothing_is_said_of_rarity(scorer):
    said = Explainer(scorer).explain(DATA[:1], scorer.score(DATA[:1]))[0]
    assert {c["percentile"] for c in said["contributions"]} == {None}
    assert "training data" not in said["text"] + said["interpretation"]


def test_a_forest_of_one_row_a_tree_is_explained_by_zeros(tmp_path):
    constant = models.serve(models.forest(DATA, max_samples=1, contamination="auto"), tmp_path, reference=DATA)
    explained = Explainer(constant, reference=DATA)
    assert explained.shap_values(DATA[:2], constant.score(DATA[:2])) == pytest.approx(np.zeros((2, 3)))


@pytest.mark.parametrize("kind", ["mixing transformer", "other detector"])
def test_other_models_are_explained_by_their_score_against_the_reference(kind, tmp_path):
    made = (
        models.forest(DATA, before=(PCA(3, random_state=0),))
        if kind == "mixing transformer"
        else LocalOutlierFactor(novelty=True).fit(DATA)
    )
    other = models.serve(made, tmp_path, reference=DATA)
    explained = Explainer(other, reference=DATA)
    assert not explained.fast
    rows = np.array([[0.0, 0.0, 7.0], [-6.0, 0.0, 0.0]])
    scores = other.score(rows)
    values = explained.shap_values(rows, scores)
    assert values.sum(axis=1) == pytest.approx(scores - explained.base, abs=1e-9)
    assert values.argmax(axis=1).tolist() == [2, 0]
    with pytest.raises(ValueError, match="needs a reference sample"):
        Explainer(other)


def test_a_forest_too_large_to_lay_out_is_explained_by_its_score(monkeypatch, scorer):
    monkeypatch.setattr("anomaly_detector.explain.treeshap.MOST_CELLS", 1000)
    explained = Explainer(scorer, reference=DATA)
    rows = np.array([[0.0, 6.0, 0.1]])
    values = explained.shap_values(rows, scorer.score(rows))
    assert not explained.fast
    assert values.argmax() == 1
    assert values.sum() == pytest.approx(scorer.score(rows)[0] - explained.base, abs=1e-9)


@pytest.mark.parametrize("width", [1, 3, 6, 7, 12])
def test_shapley_values_of_an_additive_score_are_its_terms(width):
    random = np.random.default_rng(width)
    weights, background, row = random.normal(size=width), random.normal(size=(32, width)), random.normal(size=width)
    explained = ShapleyValues(lambda rows: rows @ weights, background)
    assert explained.values(row) == pytest.approx(weights * (row - background.mean(axis=0)))


def test_shapley_values_split_an_interaction_evenly():
    explained = ShapleyValues(lambda rows: rows[:, 0] * rows[:, 1], np.zeros((4, 3)))
    assert explained.values(np.array([2.0, 3.0, 9.0])) == pytest.approx([3, 3, 0])


def contribution(feature, share, percentile, value=1.0):
    direction = "INCREASES" if share >= 0 else "DECREASES"
    return {"feature": feature, "value": value, "unit": "%", "share": share, "direction": direction} | {
        "percentile": percentile
    }


@pytest.mark.parametrize(
    ("contributions", "anomalous", "sentence"),
    [
        (
            [contribution("cpu", 0.9, 99.97), contribution("net", -0.1, 50.0)],
            True,
            "Anomalous (score above that of 98.5 % of the training data), mainly because of unusually high cpu (1 %).",
        ),
        (
            [contribution("cpu", 0.5, 99.0), contribution("net", 0.4, 1.0), contribution("mem", 0.1, 50.0)],
            True,
            (
                "Anomalous (score above that of 98.5 % of the training data): "
                "unusually high cpu (1 %) together with unusually low net (1 %)."
            ),
        ),
        (
            [contribution("cpu", 0.5, 60.0), contribution("net", 0.5, 30.0)],
            True,
            (
                "Anomalous (score above that of 98.5 % of the training data): "
                "cpu 1 % and net 1 % are each common, but not together."
            ),
        ),
        (
            [contribution("cpu", -0.6, 60.0), contribution("net", 0.4, 30.0)],
            False,
            "Not anomalous (score above that of 98.5 % of the training data): cpu (1 %) speaks for normal.",
        ),
    ],
)
def test_the_interpretation_names_the_combination(contributions, anomalous, sentence):
    assert wording.interpretation(contributions, anomalous=anomalous, confidence=0.985) == sentence

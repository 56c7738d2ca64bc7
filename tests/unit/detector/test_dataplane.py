"""Scoring and explaining without HTTP: what users wait for, what they do not, and what time limits mean."""

import threading

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest

from anomaly_detector.dataplane import (
    EXPLAINED_IN_ANSWER,
    EXPLAINED_ON_DEMAND,
    FLAT,
    SLOWLY_EXPLAINED,
    DataPlane,
    Model,
)
from anomaly_detector.explain import Explainer
from anomaly_detector.problems import Problem
from anomaly_detector.protocols import Contract, Query
from anomaly_detector.scoring import ForestScorer, SklearnScorer
from anomaly_detector.scoring.estimators import flatten_forest

WIDTH = 20
FEATURES = tuple(f"f{place}" for place in range(WIDTH))


def slow_scorer(function):
    return SklearnScorer(
        features=FEATURES, threshold=0.0, kind="any", accepts_missing=True, accepts_infinite=True, function=function
    )


def plane_of(scorer, *, timeout=30):
    contract = Contract(model="m", version="1", features=FEATURES)
    return DataPlane(Model(scorer=scorer, bundle=None, contract=contract), boot_id="b" * 16, timeout=timeout)


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(0).normal(size=(2000, WIDTH))


@pytest.fixture(scope="module")
def flat(data):
    """A forest that scores in microseconds; the tables to explain it by do not fit into memory."""
    scorer = ForestScorer(
        features=FEATURES, threshold=0.0, kind=FLAT, accepts_missing=True, accepts_infinite=True, one_to_one=True,
        forest=flatten_forest(IsolationForest(n_estimators=400, random_state=0).fit(data)), transform=lambda rows: rows,
    )  # fmt: skip
    explainer = Explainer(scorer)
    assert (explainer.prompt, explainer.fast) == (True, False)
    return scorer, explainer


@pytest.fixture
def linear():
    """A model that nothing fast is known for."""
    scorer = slow_scorer(lambda rows: rows.sum(axis=1))
    plane = plane_of(scorer)
    plane.explainer = Explainer(scorer, reference=np.zeros((4, WIDTH)))
    assert not plane.explainer.prompt
    return plane


async def refused(plane, query):
    with pytest.raises(Problem) as raised:
        await plane.answer(query)
    return raised.value.status, raised.value.reason


async def test_every_anomaly_is_explained_in_the_answer_though_the_tables_do_not_fit(flat, data):
    plane = plane_of(flat[0])
    plane.explainer = flat[1]
    query = Query(rows=data[:20])
    assert not plane.answers_at_once(query)
    scored = await plane.answer(query)
    assert list(scored.explanations) == list(range(EXPLAINED_IN_ANSWER))
    assert plane.answers_at_once(Query(rows=data[:20], explain="none"))


async def test_what_takes_long_to_explain_is_explained_for_those_alone_who_ask(linear):
    rows = np.arange(3 * WIDTH, dtype=float).reshape(3, WIDTH)
    scored = await linear.answer(Query(rows=rows))
    assert (len(scored.ids), scored.explanations) == (3, {})
    scored = await linear.answer(Query(rows=rows, explain="all"))
    assert list(scored.explanations) == [0, 1, 2]


@pytest.mark.parametrize("wanted", [{"explain": "all"}, {"shap_values": True}])
async def test_as_many_rows_may_be_explained_as_there_is_time_for(linear, flat, wanted):
    assert await refused(linear, Query(rows=np.ones((SLOWLY_EXPLAINED + 1, WIDTH)), **wanted)) == (413, "TooManyRows")
    plane = plane_of(flat[0])
    plane.explainer = flat[1]
    assert await refused(plane, Query(rows=np.ones((EXPLAINED_ON_DEMAND + 1, WIDTH)), **wanted)) == (413, "TooManyRows")


async def test_explanations_that_the_time_does_not_suffice_for_are_missing_and_no_fault_of_the_model():
    scorer = slow_scorer(lambda rows: rows.sum(axis=1))
    explainer = Explainer(scorer, reference=np.zeros((4, WIDTH)))
    rows = np.ones((5, WIDTH))
    assert len(explainer.explain(rows, scorer.score(rows), until=0.0)) == 0
    assert explainer.shap_values(rows, scorer.score(rows), until=0.0).shape == (0, WIDTH)
    plane = plane_of(scorer, timeout=0.0)
    plane.explainer = explainer
    assert await plane.explain(rows, scorer.score(rows)) == []
    assert plane.failed_explanations == 1
    with pytest.raises(Problem) as raised:
        await plane._shap_values(explainer, rows, scorer.score(rows))
    assert (raised.value.status, raised.value.reason) == (413, "TooSlow")


async def test_an_explainer_that_fails_costs_its_explanations_alone(linear):
    class Failing(Explainer):
        def explain(self, *_):
            raise ArithmeticError("nothing to say")

    linear.explainer = Failing(linear.model.scorer, reference=np.zeros((4, WIDTH)))
    scored = await linear.answer(Query(rows=np.ones((1, WIDTH)), explain="all"))
    assert (list(scored.ids), scored.explanations, linear.failed_explanations) == ([0], {}, 1)


async def test_a_model_that_takes_longer_than_the_time_limit_is_a_504():
    release = threading.Event()
    plane = plane_of(slow_scorer(lambda rows: np.zeros(len(rows)) if release.wait(60) else None), timeout=0.05)
    try:
        assert await refused(plane, Query(rows=np.ones((1, WIDTH)))) == (504, "Timeout")
    finally:
        release.set()
        plane.close()


@pytest.mark.parametrize("score", [np.nan, np.inf])
async def test_a_score_that_is_no_finite_number_is_the_model_s_fault(score):
    plane = plane_of(slow_scorer(lambda rows: np.full(len(rows), score)))
    assert await refused(plane, Query(rows=np.ones((2, WIDTH)))) == (500, "ModelError")


async def test_explanations_that_are_off_cannot_be_asked_for(linear):
    linear.explainer = None
    assert await refused(linear, Query(rows=np.ones((1, WIDTH)), explain="all")) == (409, "ExplanationsOff")

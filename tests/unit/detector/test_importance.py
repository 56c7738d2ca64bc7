"""Mean |SHAP| of users' rows on the admin port: for a model that adds up, Shapley values are known in closed form."""

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from anomaly_detector.admin import AdminServer
from anomaly_detector.explain import Explainer
from anomaly_detector.observer import Observation
from anomaly_detector.protocols import Query
from anomaly_detector.server import json_errors

ROWS = np.array([[1.0, 2.0], [3.0, 10.0], [90.0, 20.0]])
REFERENCE = np.array([[0.0, 0.0], [2.0, 4.0]])


@pytest.fixture
async def ask(pod):
    """Return a function that asks for a time; three rows of users came at second 1,000, and one copy."""
    plane, observer = pod.serving.plane, pod.serving.observer
    plane.explainer = Explainer(plane.model.scorer, reference=REFERENCE)
    for rows, source in ((ROWS, "user"), (ROWS[2:] * 2, "shadow")):
        scored = await plane.answer(Query(rows=rows))
        observer.offer(Observation(rows, scored, source, at=1000.0))
    app = web.Application(middlewares=[json_errors])
    app.router.add_get("/shap", AdminServer(pod)._shap)
    async with TestClient(TestServer(app)) as client:

        async def get(query):
            async with client.get(f"/shap?{query}") as answer:
                return answer.status, await answer.json()

        yield get


async def test_means_and_top_anomalies_are_those_of_users_within_the_time_asked_for(ask):
    status, found = await ask("from=999&to=1001")
    assert (status, found["rows"], found["explained"]) == (200, 3, 3)
    expected = np.abs(ROWS - REFERENCE.mean(axis=0)).mean(axis=0)
    assert found["meanAbsoluteShap"] == pytest.approx({"a": expected[0], "b": expected[1]})
    assert [anomaly["row"] for anomaly in found["anomalies"]] == [{"a": 90.0, "b": 20.0}]


@pytest.mark.parametrize("query", ["from=0&to=1000", "from=1000.5&to=2000"])
async def test_where_nothing_came_there_is_nothing_to_explain(ask, query):
    assert await ask(query) == (200, {"rows": 0, "explained": 0, "meanAbsoluteShap": {}, "anomalies": []})


@pytest.mark.parametrize(("query", "field"), [("from=now&to=1", "from"), ("from=1", "to"), ("from=1&to=inf", "to")])
async def test_a_time_that_is_none_is_refused_by_name(ask, query, field):
    status, found = await ask(query)
    assert (status, found["error"]["field"]) == (400, field)


async def test_without_explanations_the_answer_says_how_to_have_them(ask, pod):
    pod.serving.plane.explainer = None
    status, found = await ask("from=0&to=1")
    assert (status, found["error"]["reason"]) == (409, "ExplanationsOff")

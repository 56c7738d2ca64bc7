"""What users get on port 8080, by three protocols, with unmodified clients."""

import asyncio
import gzip
import json

import numpy as np
import orjson
import pytest
import requests
from tests.plugins.detector_pod import FEATURES, NORMAL, ODD, Detector, running, save_model, until

pytestmark = pytest.mark.e2e
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def detector(tmp_path_factory, forest_folder, admin_key):
    """One detector for all tests that only ask it."""
    one = Detector(tmp_path_factory.mktemp("shared"), forest_folder, admin_key)
    one.start()
    try:
        asyncio.run(one.until_ready())
        yield one
    finally:
        one.stop()


@pytest.fixture
async def post(detector, session):
    async def send(path, body, **more):
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        async with session.post(detector.url(8080, path), data=data, headers=JSON | more.pop("headers", {})) as answer:
            return answer.status, await answer.json(), answer.headers

    return send


async def test_predict_labels_rows_and_explains_the_anomalies(post):
    status, body, headers = await post("/predict", {"rows": [NORMAL, ODD]})
    assert status == 200
    assert (body["model"], body["version"]) == ("cpu-watch", "3")
    normal, odd = body["predictions"]
    assert normal.keys() == {"anomaly", "score", "confidence"}
    assert (normal["anomaly"], odd["anomaly"]) == (False, True)
    assert 0 <= normal["confidence"] < 0.85 < odd["confidence"] <= 1
    assert odd["id"]
    assert {part["feature"] for part in odd["explanation"]["contributions"]} == set(FEATURES)
    assert headers["x-anomaly-version"] == "3"
    assert headers["x-anomaly-revision"] == "rev-1"
    assert headers["x-anomaly-color"] == "blue"


async def test_rows_by_name_by_position_and_with_names_beside_them_score_alike(post):
    by_position = {"rows": [ODD, NORMAL]}
    by_name = {"rows": [dict(zip(reversed(FEATURES), reversed(row), strict=True)) for row in (ODD, NORMAL)]}
    beside = {"features": list(reversed(FEATURES)), "rows": [ODD[::-1], NORMAL[::-1]]}
    answers = [(await post("/predict", body))[1] for body in (by_position, by_name, beside)]
    scores = [[one["score"] for one in answer["predictions"]] for answer in answers]
    assert scores[0] == scores[1] == scores[2]


async def test_only_the_first_sixteen_anomalies_are_explained_in_the_answer(post):
    _, body, _ = await post("/predict", {"rows": [ODD] * 20})
    explained = ["explanation" in one for one in body["predictions"]]
    assert explained == [True] * 16 + [False] * 4
    assert len({one["id"] for one in body["predictions"]}) == 20


async def test_explain_explains_normal_rows_too(post):
    _, body, _ = await post("/explain", {"rows": [NORMAL]})
    explanation = body["predictions"][0]["explanation"]
    total = explanation["base"] + sum(part["contribution"] for part in explanation["contributions"])
    assert total == pytest.approx(body["predictions"][0]["score"], abs=1e-9)


async def test_a_missing_value_is_scored_whether_null_or_nan(post):
    _, null, _ = await post("/predict", {"rows": [[None, 50.0, 5.0]]})
    _, nan, _ = await post("/predict", b'{"rows": [[NaN, 50.0, 5.0]]}')
    assert null["predictions"][0]["score"] == nan["predictions"][0]["score"]


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        (b"{", "body", "NotJson"),
        (b"[" * 100_000, "body", "NotJson"),
        (b"NaN" + b"[" * 100_000, "body", "NotJson"),
        (b"[]", "body", "WrongType"),
        ({"rows": []}, "rows", "Empty"),
        ({"rows": 3}, "rows", "WrongType"),
        ({"data": [NORMAL]}, "data", "UnknownField"),
        ({"rows": [[1.0, 2.0]]}, "rows[0]", "WrongShape"),
        ({"rows": [NORMAL, [1.0, "2", 3.0]]}, "rows[1].memory_percent", "WrongType"),
        ({"rows": [[True, 2.0, 3.0]]}, "rows[0].cpu_percent", "WrongType"),
        ({"rows": [[[1.0], [2.0], [3.0]]]}, "rows[0].cpu_percent", "WrongType"),
        ({"rows": [{"cpu_percent": 1.0, "memory_percent": 2.0}]}, "rows[0].network_mbps", "MissingFeature"),
        ({"rows": [dict.fromkeys((*FEATURES, "disk"), 1.0)]}, "rows[0].disk", "UnknownFeature"),
        (b'{"rows": [[1' + b"0" * 400 + b", 2, 3]]}", "body", "NotJson"),
        ({"features": ["cpu_percent"], "rows": [[1.0]]}, "features", "MissingFeature"),
    ],
)
async def test_bad_input_is_named_and_leaves_the_server_well(post, detector, session, body, field, reason):
    before = (await detector.stats(session))["counts"].get(
        "user", dict.fromkeys(("clientErrors", "failed", "served"), 0)
    )
    status, answer, _ = await post("/predict", body)
    assert status == 400
    assert answer["error"]["reason"] == reason
    assert answer["error"]["field"] == field
    assert answer["error"]["message"]
    after = (await detector.stats(session))["counts"]["user"]
    assert after["clientErrors"] > before["clientErrors"]
    assert (after["failed"], after["served"]) <= (before["failed"], before["served"])


async def test_a_body_beyond_the_limit_is_413_and_the_connection_works_on(post):
    status, answer, _ = await post("/predict", b" " * 10_000_000)
    assert status == 413
    assert answer["error"]["reason"] == "TooLarge"
    assert (await post("/predict", {"rows": [NORMAL]}))[0] == 200


async def test_a_zip_bomb_is_413(post):
    status, _, _ = await post("/predict", gzip.compress(b" " * 50_000_000), headers={"content-encoding": "gzip"})
    assert status == 413


async def test_gzip_works_both_ways(detector):
    body = gzip.compress(json.dumps({"rows": [ODD] * 500}).encode())
    headers = JSON | {"content-encoding": "gzip"}
    answer = await asyncio.to_thread(requests.post, detector.url(8080, "/predict"), body, headers=headers)
    assert answer.headers["content-encoding"] == "gzip"
    assert len(answer.json()["predictions"]) == 500


async def test_request_ids_are_echoed(post):
    _, _, headers = await post("/predict", {"rows": [NORMAL]}, headers={"x-request-id": "abc-1"})
    assert headers["x-request-id"] == "abc-1"


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": list(reversed(FEATURES)), "data": [ODD[::-1], NORMAL[::-1]]}},
        {"dataframe_records": [dict(zip(FEATURES, row, strict=True)) | {"host": "a"} for row in (ODD, NORMAL)]},
        {"instances": [ODD, NORMAL]},
        {"inputs": [ODD, NORMAL]},
        {"inputs": {name: [ODD[i], NORMAL[i]] for i, name in enumerate(FEATURES)}},
    ],
)
async def test_mlflow_s_json_shapes_are_answered_as_scikit_learn_predicts(post, body):
    status, answer, _ = await post("/invocations", body)
    assert (status, answer) == (200, {"predictions": [-1, 1]})


async def test_mlflow_s_csv_is_answered(detector):
    text = "network_mbps,cpu_percent,memory_percent\n80,99,95\n5,40,50\n"
    headers = {"content-type": "text/csv; charset=utf-8"}
    answer = await asyncio.to_thread(requests.post, detector.url(8080, "/invocations"), text, headers=headers)
    assert answer.json() == {"predictions": [-1, 1]}


async def test_mlflow_s_errors_have_its_form_and_no_stack_trace(post, detector):
    status, answer, _ = await post("/invocations", {"rows": [NORMAL]})
    assert (status, answer["error_code"]) == (400, "BAD_REQUEST")
    assert "Traceback" not in json.dumps(answer)
    headers = {"content-type": "text/x"}
    answer = await asyncio.to_thread(requests.post, detector.url(8080, "/invocations"), b"x", headers=headers)
    assert answer.status_code == 415


async def test_tritonclient_with_its_binary_default(detector):
    import tritonclient.http as triton  # noqa: PLC0415 - takes seconds to import

    def ask():
        client = triton.InferenceServerClient(f"{detector.address}:8080")
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("cpu-watch")
        assert client.get_model_metadata("cpu-watch")["outputs"][0]["name"] == "label"
        rows = np.array([ODD, NORMAL])
        tensor = triton.InferInput("rows", list(rows.shape), "FP64")
        tensor.set_data_from_numpy(rows)
        wanted = [triton.InferRequestedOutput(name) for name in ("label", "score", "explanation", "shap_values")]
        every = client.infer("cpu-watch", [tensor], outputs=wanted, request_id="r-7")
        columns = []
        for i, name in enumerate(FEATURES):
            column = triton.InferInput(name, [2, 1], "FP32")
            column.set_data_from_numpy(rows[:, i : i + 1].astype(np.float32), binary_data=i == 1)
            columns.append(column)
        by_column = client.infer("cpu-watch", columns, model_version="3")
        client.close()
        return every, by_column

    every, by_column = await asyncio.to_thread(ask)
    assert every.get_response()["id"] == "r-7"
    assert every.as_numpy("label").tolist() == [1, 0]
    assert every.as_numpy("shap_values").shape == (2, 3)
    explanation, nothing = every.as_numpy("explanation").tolist()
    assert json.loads(explanation)["contributions"]
    assert nothing == b""
    assert by_column.as_numpy("score") == pytest.approx(every.as_numpy("score"), abs=1e-6)


async def test_inference_protocol_in_json_names_outputs_and_the_version_in_the_path(post):
    body = {"id": "7", "inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP64", "data": ODD + NORMAL}]}
    status, answer, _ = await post("/v2/models/cpu-watch/versions/3/infer", body)
    assert status == 200
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("cpu-watch", "3", "7")
    assert {one["name"]: one["datatype"] for one in answer["outputs"]} == {
        "label": "INT64",
        "score": "FP64",
        "confidence": "FP64",
    }
    assert answer["outputs"][0]["data"] == [1, 0]
    status, answer, _ = await post("/v2/models/cpu-watch/versions/4/infer", body)
    assert (status, answer) == (404, {"error": "version: expected 3, got 4"})
    status, _, _ = await post("/v2/models/other/infer", body)
    assert status == 404


async def test_scores_are_those_of_scikit_learn(post, forest_folder):
    import mlflow.sklearn  # noqa: PLC0415 - takes seconds to import
    import pandas as pd  # noqa: PLC0415 - takes seconds to import

    rows = np.random.default_rng(1).uniform(0, 100, (300, 3))
    model = mlflow.sklearn.load_model(str(forest_folder))
    _, body, _ = await post("/predict", {"rows": rows.tolist()})
    scores = np.array([one["score"] for one in body["predictions"]])
    frame = pd.DataFrame(rows, columns=FEATURES)
    assert np.abs(scores + model.score_samples(frame)).max() < 1e-12
    assert [one["anomaly"] for one in body["predictions"]] == (model.predict(frame) == -1).tolist()


async def test_a_model_that_fails_is_500_and_counted_and_valid_rows_are_served(
    tmp_path, admin_key, box_cox_folder, session
):
    detector = Detector(tmp_path, box_cox_folder, admin_key)
    async with running(detector):
        for row, status in ((NORMAL, 200), ([40.0, 50.0, 0.0], 500), (NORMAL, 200)):
            async with session.post(detector.url(8080, "/predict"), json={"rows": [row]}) as answer:
                assert answer.status == status
                text = await answer.text()
        assert "Traceback" not in text
        counts = (await detector.stats(session))["counts"]["user"]
        assert (counts["served"], counts["failed"]) == (3, 1)


async def test_clients_that_send_slowly_take_nobody_s_place(prepared, session):
    prepared.environment["ANOMALY_MAX_IN_FLIGHT"] = "2"
    async with running(prepared):
        gate = asyncio.Event()

        async def slow_body():
            yield b'{"rows": '
            await gate.wait()
            yield json.dumps([NORMAL]).encode() + b"}"

        url = prepared.url(8080, "/predict")
        slow = [asyncio.create_task(session.post(url, data=slow_body(), headers=JSON)) for _ in range(4)]

        async def arriving():
            return (await prepared.stats(session))["openUserConnections"] == len(slow)

        await until(arriving, "four requests are arriving", prepared)
        async with session.post(url, json={"rows": [NORMAL]}) as answer:
            assert answer.status == 200
        gate.set()
        assert {(await task).status for task in slow} == {200}
        assert (await prepared.stats(session))["counts"]["user"]["shed"] == 0


async def test_a_model_without_a_bundle_is_served_and_says_so(tmp_path, admin_key, session):
    model = save_model(tmp_path / "bare", with_bundle=False)
    detector = Detector(tmp_path, model, admin_key)
    async with running(detector):
        async with session.post(detector.url(8080, "/predict"), json={"rows": [ODD]}) as answer:
            prediction = (await answer.json())["predictions"][0]
        assert prediction["confidence"] is None
        assert prediction["anomaly"] is True
        report = await detector.stats(session)
        assert report["reference"] is False
        assert any(note.startswith("NoReference") for note in report["notes"])
        async with session.get(detector.url(8081, "/reference"), headers=detector.admin_headers) as answer:
            assert answer.status == 404
            assert (await answer.json())["error"]["reason"] == "NoReference"


async def test_metrics_say_what_scores_and_count_requests(post, detector, session):
    async def read():
        async with session.get(detector.url(9090, "/metrics")) as answer:
            return await answer.text()

    def value(text, name):
        return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))

    before = await read()
    await post("/predict", {"rows": [ODD]})
    after = await read()
    assert 'scoring="flat forest"' in after
    for name in ('anomaly_requests_total{outcome="ok",source="user"}', 'anomaly_phase_seconds_count{phase="score"}'):
        assert value(after, name) == value(before, name) + 1

"""What a pod says of the model that it loaded, and what it does with a configuration that nobody can read."""

import json

import numpy as np
import pytest
from tests.plugins.detector_pod import FEATURES, NORMAL, ODD, Detector, running, training_rows, until

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def plain_folder(tmp_path_factory):
    """A model as people log it without this project: fitted on an array, no bundle, a signature with names."""
    import mlflow.sklearn  # noqa: PLC0415 - takes seconds to import
    import pandas as pd  # noqa: PLC0415 - takes seconds to import
    from mlflow.models import infer_signature  # noqa: PLC0415 - takes seconds to import
    from sklearn.neighbors import LocalOutlierFactor  # noqa: PLC0415 - takes seconds to import

    rows = training_rows()
    model = LocalOutlierFactor(novelty=True).fit(rows)
    asked = pd.DataFrame(rows[:5], columns=FEATURES).astype({"network_mbps": np.float32})
    folder = tmp_path_factory.mktemp("models") / "plain"
    mlflow.sklearn.save_model(
        model,
        str(folder),
        serialization_format="cloudpickle",
        signature=infer_signature(asked, model.predict(rows[:5])),
        pip_requirements=["scikit-learn"],
    )
    return folder


async def told_of_the_model(detector, session):
    async with session.get(detector.url(8080, "/v2/models/cpu-watch")) as answer:
        assert answer.status == 200
        return await answer.json()


async def test_a_model_is_asked_by_its_signature_and_metadata_say_what_scores_and_why(
    tmp_path, admin_key, plain_folder, session
):
    detector = Detector(tmp_path, plain_folder, admin_key)
    detector.environment["ANOMALY_ALLOW_PICKLE"] = "true"
    (detector.config_dir / "config.json").write_text('{"schemaVersion": 1, "heartbeatSeconds": "often", "drift": 7}')
    async with running(detector):
        told = await told_of_the_model(detector, session)
        assert told["parameters"]["scoring"] == "scikit-learn: no flat form of LocalOutlierFactor is known"
        assert told["inputs"] == [
            {"name": name, "datatype": datatype, "shape": [-1, 1]}
            for name, datatype in zip(FEATURES, ("FP64", "FP64", "FP32"), strict=True)
        ]
        split = {"columns": list(reversed(FEATURES)), "data": [ODD[::-1], NORMAL[::-1]]}
        async with session.post(detector.url(8080, "/invocations"), json={"dataframe_split": split}) as answer:
            assert (answer.status, await answer.json()) == (200, {"predictions": [-1, 1]})
        detector.write_config({"heartbeatSeconds": 7})

        async def is_in_force():
            return '"heartbeatSeconds": 7' in detector.log.read_text()

        await until(is_in_force, "the mended configuration is in force", detector)
    lines = [json.loads(line) for line in detector.log.read_text().splitlines()]
    wrong = next(line for line in lines if line["message"].startswith("the defaults are in force: "))
    assert wrong["level"] == "error"
    assert "config.json.heartbeatSeconds: expected a number" in wrong["message"]
    assert "config.json.drift: expected an object" in wrong["message"]


async def test_a_pod_that_is_ready_has_scored_and_says_that_a_flat_forest_does(detector, session):
    async with session.post(detector.url(8080, "/predict"), json={"rows": [ODD]}) as answer:
        first = (await answer.json())["predictions"][0]
    assert int(first["id"].rpartition("-")[2], 16) > 1, "anomalies of the reference were scored before"
    told = await told_of_the_model(detector, session)
    assert told["parameters"]["scoring"] == "flat forest"
    assert (told["name"], told["versions"]) == ("cpu-watch", ["3"])

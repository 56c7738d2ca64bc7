"""What makes rows anomalous, recorded in a real MLflow server."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from anomaly_operator.adapters.registry import RegistryError
from anomaly_operator.adapters.runs import TOP, Run, Runs, Served
from anomaly_operator.domain.importance import Period, merge

pytestmark = pytest.mark.e2e

HOUR = 3600.0
FIRST, SECOND = (Period(number, number * HOUR, (number + 1) * HOUR) for number in (490_000, 490_001))


@pytest.fixture
async def runs():
    async with Runs(timeout=60) as one:
        yield one


@pytest.fixture
def client(mlflow_server):
    return MlflowClient(mlflow_server.uri)


@pytest.fixture
def served(client, model_name):
    """A version with a training run and a logged model, as a training leaves it."""
    experiment = client.create_experiment(model_name)
    training = client.create_run(experiment).info.run_id
    logged = client.create_logged_model(experiment, source_run_id=training)
    client.create_registered_model(model_name)
    source = f"models:/{logged.model_id}"
    client.create_model_version(model_name, source, training, model_id=logged.model_id)
    return Served(namespace="ops", name="cpu-watch", model=model_name, version="1", run_id=training, source=source)


def importance(**means):
    anomaly = {"id": "b-1", "score": 0.7, "row": {"cpu": 99.0}, "explanation": {"text": "cpu INCREASES"}}
    return merge({"pod-1": {"rows": 40, "meanAbsoluteShap": means, "anomalies": [anomaly]}})


def downloaded(client, run_id, path, folder):
    return json.loads(Path(client.download_artifacts(run_id, path, str(folder))).read_text())


async def test_a_version_s_run_is_made_once_beside_its_training_run_and_linked_both_ways(
    runs, client, mlflow_server, served
):
    uri = mlflow_server.uri
    assert await runs.find(uri, served) is None
    made = await runs.create(uri, served, FIRST.start)
    await runs.link(uri, served, made)
    await runs.link(uri, served, made)
    assert await runs.find(uri, served) == made
    run = client.get_run(made.run_id)
    training = client.get_run(served.run_id)
    assert run.info.run_name == "serving ops/cpu-watch"
    assert run.info.experiment_id == training.info.experiment_id
    assert run.data.tags["mlflow.parentRunId"] == served.run_id
    assert [f"models:/{model.model_id}" for model in run.inputs.model_inputs] == [served.source]
    version = client.get_model_version(served.model, "1")
    assert version.tags["anomalymodel.dev/serving-run.ops.cpu-watch"] == made.run_id


async def test_other_models_and_versions_have_runs_of_their_own(runs, mlflow_server, served):
    uri = mlflow_server.uri
    await runs.create(uri, served, FIRST.start)
    for change in ({"namespace": "other"}, {"version": "2"}, {"model": "it's another"}):
        other = Served(**{**{name: getattr(served, name) for name in Served.__slots__}, **change})
        assert await runs.find(uri, other) is None


async def test_each_period_is_a_step_with_its_anomalies_and_the_run_knows_the_newest(
    runs, client, mlflow_server, served, tmp_path
):
    uri = mlflow_server.uri
    made = await runs.create(uri, served, FIRST.start)
    assert made.recorded is None
    await runs.record(uri, made, FIRST, importance(cpu=0.2, memory=0.1))
    await runs.record(uri, made, SECOND, importance(cpu=0.3, memory=0.1))
    await runs.record(uri, made, SECOND, importance(cpu=0.3, memory=0.1))  # as after a restart in between
    found = await runs.find(uri, served)
    assert found.recorded == SECOND.number
    history = client.get_metric_history(made.run_id, "mean_abs_shap/cpu")
    assert [(m.step, m.value, m.timestamp) for m in history] == [
        (FIRST.number, 0.2, FIRST.end * 1000),
        (SECOND.number, 0.3, SECOND.end * 1000),
    ]
    run = client.get_run(made.run_id)
    assert run.data.metrics["rows"] == 40
    assert run.info.status == "FINISHED"
    paths = [file.path for file in client.list_artifacts(made.run_id, "anomalies")]
    assert len(paths) == 2
    record = downloaded(client, made.run_id, paths[0], tmp_path)
    assert record["anomalies"][0] == {
        "id": "b-1", "score": 0.7, "row": {"cpu": 99.0}, "explanation": {"text": "cpu INCREASES"}, "pod": "pod-1",
    }  # fmt: skip


async def test_where_the_server_takes_no_artifacts_the_anomalies_are_a_tag(runs, client, mlflow_server, served):
    uri = mlflow_server.uri
    made = await runs.create(uri, served, FIRST.start)
    await runs.record(uri, Run(made.run_id, "s3://bucket/elsewhere", None), FIRST, importance(cpu=0.2))
    tag = json.loads(client.get_run(made.run_id).data.tags[TOP])
    assert [(one["id"], one["pod"]) for one in tag["anomalies"]] == [("b-1", "pod-1")]


async def test_a_version_whose_training_run_is_gone_is_recorded_in_the_default_experiment(
    runs, client, mlflow_server, served
):
    orphan = Served(**{**{name: getattr(served, name) for name in Served.__slots__}, "run_id": "0" * 32})
    made = await runs.create(mlflow_server.uri, orphan, FIRST.start)
    await runs.link(mlflow_server.uri, orphan, made)
    assert await runs.find(mlflow_server.uri, orphan) == made
    assert client.get_run(made.run_id).info.experiment_id == "0"


async def test_a_run_that_somebody_deleted_is_made_anew(runs, client, mlflow_server, served):
    made = await runs.create(mlflow_server.uri, served, FIRST.start)
    client.delete_run(made.run_id)
    assert await runs.find(mlflow_server.uri, served) is None
    (experiment,) = {run.info.experiment_id for run in [client.get_run(made.run_id)]}
    assert len(client.search_runs([experiment], run_view_type=ViewType.DELETED_ONLY)) == 1


async def test_a_registry_that_is_away_is_said_to_be(runs, served):
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:1"):
        await runs.find("http://127.0.0.1:1", served)

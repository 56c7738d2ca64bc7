"""What a retraining Job's command does besides training: it takes over from the version that serves, and tells."""

import json

import numpy as np
import pytest
from mlflow import MlflowClient
from tests.e2e.registry.conftest import write_csv
from tests.plugins.influx_double import in_background

from anomaly_detector.bundle import read_bundle
from anomaly_detector.train.registry import Registry

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NOTES = """
features:
  cpu: {unit: "%", description: busy share}
  network: {unit: Mbps}
"""
EVENT = {"id": "blue/1/0", "breachStart": "2026-01-01T00:00:00Z", "reason": "drift confidence 0.8"}


@pytest.fixture
def told(monkeypatch, tmp_path):
    """A double of InfluxDB that the environment names, as the operator's Jobs have it."""
    (tmp_path / "token").write_text("t0k3n\n")
    with in_background() as influx:
        for name, value in {
            "INFLUXDB_URL": influx.url, "INFLUXDB_ORG": "o", "INFLUXDB_BUCKET": "b", "INFLUXDB_DIR": str(tmp_path),
            "NAMESPACE": "ops", "MODEL": "cpu-watch", "POD_NAME": "cpu-watch-retraining-1-x",
        }.items():  # fmt: skip
            monkeypatch.setenv(f"ANOMALY_{name}", value)
        yield influx


def points(influx):
    return [(dict(tags), fields) for (tags, _), fields in influx.of("anomaly_retraining").items()]


def test_a_retraining_takes_over_features_units_and_recipe_and_tells_what_came_of_it(
    anomaly_train, model_name, mlflow_server, metrics_csv, tmp_path, told
):
    (tmp_path / "features.yaml").write_text(NOTES)
    made = (
        *("--features", str(tmp_path / "features.yaml"), "--estimator", "LocalOutlierFactor", "--param"),
        *("n_neighbors=30", "--contamination", "0.05", "--transform", "yeojohnson:cpu", "--alias", "champion"),
    )
    assert anomaly_train("--data", str(metrics_csv), "--model", model_name, *made)[0] == 0
    newer = write_csv(tmp_path / "newer.csv", np.random.default_rng(1).gamma(3.0, size=(1200, 3)) + 0.1)
    asked = ("--like", "1", "--alias", "champion", "--compare-with", "1", "--trigger", "drift")
    code, result, errors = anomaly_train(
        "--data", str(newer), "--model", model_name, *asked, "--event", json.dumps(EVENT)
    )
    assert (code, errors) in ((0, ""), (3, "")), errors

    client = MlflowClient(mlflow_server.uri)
    old, new = (client.get_run(client.get_model_version(model_name, v).run_id).data.params for v in ("1", "2"))
    for name in ("estimator", "contamination", "transforms", "param.n_neighbors"):
        assert new[name] == old[name]
    registry = Registry(mlflow_server.uri)
    bundle = read_bundle(registry.download(registry.version(model_name, "2"), tmp_path / "two"))
    assert (bundle.features, bundle.units) == (("cpu", "network"), {"cpu": "%", "network": "Mbps"})
    assert bundle.descriptions == {"cpu": "busy share"}

    first, second = points(told)
    assert told.authorizations == {"Token t0k3n"}
    assert first[1]["outcome"] == "Succeeded"
    tags, fields = second
    common = {"namespace": "ops", "model": "cpu-watch", "role": "training", "pod": "cpu-watch-retraining-1-x"}
    assert tags == common | {"version": "2"}
    assert (fields["run_id"], fields["alias_moved"]) == (result["runId"], code == 0)
    assert (fields["trigger"], fields["event_id"], fields["reason"]) == ("drift", EVENT["id"], EVENT["reason"])
    assert fields["outcome"] == ("Succeeded" if code == 0 else "NotBetter")
    assert (fields["rows"], fields["compared_with"], fields["message"]) == (1200, "1", result["verdict"])
    assert fields["metric_holdout_anomaly_rate"] == result["metrics"]["holdout_anomaly_rate"]


def test_an_option_wins_over_what_would_be_taken_over(anomaly_train, model_name, mlflow_server, metrics_csv):
    made = ("--data", str(metrics_csv), "--model", model_name)
    assert anomaly_train(*made, "--param", "n_estimators=20", "--contamination", "0.1")[0] == 0
    assert anomaly_train(*made, "--like", "1", "--columns", "cpu,memory", "--contamination", "0.2")[0] == 0
    assert anomaly_train(*made, "--like", "1", "--estimator", "EllipticEnvelope")[0] == 0
    client = MlflowClient(mlflow_server.uri)
    second, third = (client.get_run(client.get_model_version(model_name, v).run_id).data.params for v in ("2", "3"))
    assert (second["contamination"], second["param.n_estimators"]) == ("0.2", "20")
    features = client.get_model_version(model_name, "2").tags["anomalymodel.dev/features"]
    assert json.loads(features) == ["cpu", "memory"]
    assert (third["estimator"], "param.n_estimators" in third, third["contamination"]) == (
        "EllipticEnvelope", False, "0.1",
    )  # fmt: skip


def test_a_failed_training_is_told_and_a_dead_influxdb_changes_nothing(
    anomaly_train, model_name, tmp_path, told, monkeypatch
):
    absent = ("--data", str(tmp_path / "absent.csv"), "--model", model_name, "--trigger", "schedule")
    assert anomaly_train(*absent)[0] == 2
    ((tags, fields),) = points(told)
    assert "version" not in tags
    assert (fields["outcome"], fields["exit_code"], fields["trigger"]) == ("Failed", 2, "schedule")
    assert "No such file" in fields["message"]

    monkeypatch.setenv("ANOMALY_INFLUXDB_URL", "http://127.0.0.1:1")
    code, _, errors = anomaly_train(*absent)
    assert code == 2
    assert "InfluxDB was not told: ClientConnectorError" in errors

"""`anomaly-train` against a real MLflow server: what stands in the registry afterwards."""

import json
import socket
from pathlib import Path

import mlflow
import mlflow.sklearn
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from sklearn.ensemble import IsolationForest
from tests.e2e.registry.conftest import FEATURES, ROWS, write_csv

from anomaly_detector.bundle import digest, read_bundle, size
from anomaly_detector.scoring.loading import load_model
from anomaly_detector.train.__main__ import main
from anomaly_detector.train.errors import RegistryError
from anomaly_detector.train.features import FeatureNotes
from anomaly_detector.train.files import read_file
from anomaly_detector.train.order import Order
from anomaly_detector.train.registry import Registry
from anomaly_detector.train.run import train_and_register

pytestmark = pytest.mark.e2e
PREFIX = "anomalymodel.dev/"


@pytest.fixture
def client(mlflow_server):
    return MlflowClient(mlflow_server.uri)


def versions(client, name):
    return sorted(int(found.version) for found in client.search_model_versions(f"name='{name}'"))


class TestVersion:
    def test_its_digest_is_that_of_the_model_however_it_is_downloaded(
        self, anomaly_train, client, model_name, metrics_csv, tmp_path
    ):
        code, result, _ = anomaly_train("--data", str(metrics_csv), "--model", model_name)
        assert code == 0
        version = client.get_model_version(model_name, result["version"])
        by_id = download_artifacts(artifact_uri=version.source, dst_path=str(tmp_path / "id"))
        by_name = download_artifacts(
            artifact_uri=f"models:/{model_name}/{version.version}", dst_path=str(tmp_path / "name")
        )
        assert digest(Path(by_id)) == digest(Path(by_name)) == version.tags[PREFIX + "digest"] == result["digest"]
        assert size(Path(by_id)) == int(version.tags[PREFIX + "size"])

    def test_its_model_loads_without_pickle_and_its_bundle_fits(self, anomaly_train, model_name, metrics_csv, tmp_path):
        _, result, _ = anomaly_train("--data", str(metrics_csv), "--model", model_name)
        folder = Path(download_artifacts(artifact_uri=result["source"], dst_path=str(tmp_path)))
        model, flavor = load_model(folder, allow_pickle=False)
        bundle = read_bundle(folder)
        assert flavor["serialization_format"] == "skops"
        assert bundle.features == FEATURES
        assert bundle.training_rows == round(ROWS * 0.8)
        scored = -model.score_samples(bundle.reference)
        np.testing.assert_array_equal(scored > bundle.threshold, model.predict(bundle.reference) == -1)
        assert (scored > bundle.threshold).mean() == pytest.approx(0.15, abs=0.01)
        assert bundle.scores[0] <= scored.min() <= scored.max() <= bundle.scores[-1]

    def test_its_tags_and_card_say_what_the_operator_and_people_ask(
        self, anomaly_train, client, model_name, metrics_csv
    ):
        _, result, _ = anomaly_train(
            "--data", str(metrics_csv), "--model", model_name, "--description", "Watches a host.",
            "--tag", "team=sre", "--environment", "staging",
        )  # fmt: skip
        version = client.get_model_version(model_name, result["version"])
        tags = {name.removeprefix(PREFIX): value for name, value in version.tags.items()}
        assert tags["contamination"] == "0.15"
        assert json.loads(tags["features"]) == list(FEATURES)
        assert (tags["estimator"], tags["format"]) == ("IsolationForest", "skops")
        assert (tags["environment"], tags["trigger"], tags["team"]) == ("staging", "manual", "sre")
        assert tags["data-sha256"] == result["data"]["sha256"]
        assert version.description.startswith("Watches a host.\n")
        assert "a proxy" in version.description

    def test_its_run_has_parameters_metrics_and_data(self, anomaly_train, client, model_name, metrics_csv):
        _, result, _ = anomaly_train("--data", str(metrics_csv), "--model", model_name, "--param", "n_estimators=20")
        run = client.get_run(result["runId"])
        assert run.data.params["param.n_estimators"] == "20"
        assert run.data.params["data.sha256"] == result["data"]["sha256"]
        assert run.data.metrics["holdout_anomaly_rate"] == result["metrics"]["holdout_anomaly_rate"]
        assert {"data.json", "calibration.json", "environment.json"} <= {
            f.path for f in client.list_artifacts(result["runId"])
        }

    def test_shap_plots_stand_with_the_run_when_wanted(self, mlflow_server, client, model_name, metrics_csv, capsys):
        with pytest.raises(SystemExit) as ended:
            main(["--data", str(metrics_csv), "--model", model_name, "--tracking-uri", mlflow_server.uri, "--json"])
        assert ended.value.code == 0
        result = json.loads(capsys.readouterr().out)
        drawn = {file.path for file in client.list_artifacts(result["runId"], "plots")}
        assert drawn == {"plots/shap_summary.png", *(f"plots/shap_dependence_{i}.png" for i in range(3))}

    def test_people_get_a_table_with_the_whole_digest_and_what_to_do_next(
        self, mlflow_server, client, model_name, metrics_csv, capsys
    ):
        with pytest.raises(SystemExit) as ended:
            main(["--data", str(metrics_csv), "--model", model_name, "--tracking-uri", mlflow_server.uri, "--no-plots"])
        assert ended.value.code == 0
        shown = capsys.readouterr().out
        digest_shown = "".join(c for c in shown if c not in " │\n")
        assert client.get_model_version(model_name, "1").tags[PREFIX + "digest"] in digest_shown
        assert f"kubectl anomaly promote-version {model_name} 1 --alias champion" in shown


class TestAlias:
    def test_it_goes_to_the_first_version(self, anomaly_train, client, model_name, metrics_csv):
        code, result, _ = anomaly_train("--data", str(metrics_csv), "--model", model_name, "--alias", "champion")
        assert (code, result["aliasMoved"]) == (0, True)
        assert client.get_model_version_by_alias(model_name, "champion").version == "1"

    def test_it_moves_to_a_version_that_is_not_worse_which_names_its_parent(
        self, anomaly_train, client, model_name, metrics_csv
    ):
        common = ("--data", str(metrics_csv), "--model", model_name, "--alias", "champion")
        anomaly_train(*common)
        code, result, _ = anomaly_train(*common, "--seed", "1")
        assert code == 0
        assert "Not worse than version 1: anomaly rate" in result["verdict"]
        held = client.get_model_version_by_alias(model_name, "champion")
        assert (held.version, held.tags[PREFIX + "parent-version"]) == ("2", "1")

    def test_it_stays_where_it_is_if_the_new_version_is_worse_unless_forced(
        self, anomaly_train, client, model_name, metrics_csv
    ):
        common = ("--data", str(metrics_csv), "--model", model_name, "--alias", "champion")
        anomaly_train(*common)
        code, result, _ = anomaly_train(*common, "--contamination", "0.5")
        assert (code, result["version"], result["aliasMoved"]) == (3, "2", False)
        assert "Worse than version 1: anomaly rate" in result["verdict"]
        assert client.get_model_version_by_alias(model_name, "champion").version == "1"
        code, result, _ = anomaly_train(*common, "--contamination", "0.5", "--force")
        assert (code, result["aliasMoved"]) == (0, True)
        assert client.get_model_version_by_alias(model_name, "champion").version == "3"

    def test_with_labels_it_follows_pr_auc(self, anomaly_train, model_name, tmp_path):
        random = np.random.default_rng(1)
        labels = random.random(1200) < 0.1
        rows = random.gamma(3.0, size=(1200, 3)) + np.where(labels, 8.0, 0.1)[:, None]
        data = write_csv(tmp_path / "labelled.csv", rows, labels=labels)
        common = ("--data", str(data), "--model", model_name, "--alias", "champion")
        anomaly_train(*common)
        code, result, _ = anomaly_train(*common, "--param", "n_estimators=1", "--param", "max_samples=2")
        assert code == 3
        assert "Worse than version 1: PR AUC" in result["verdict"]
        assert result["metrics"]["holder_pr_auc"] > result["metrics"]["holdout_pr_auc"] + 0.02

    def test_a_holder_that_fails_on_the_new_rows_loses_it(self, anomaly_train, model_name, metrics_csv, tmp_path):
        common = ("--model", model_name, "--alias", "champion")
        anomaly_train("--data", str(metrics_csv), *common, "--transform", "boxcox:network")
        silent = np.random.default_rng(0).gamma(3.0, size=(ROWS, 3))
        silent[::50, 2] = 0
        code, result, _ = anomaly_train("--data", str(write_csv(tmp_path / "silent.csv", silent)), *common)
        assert code == 0
        assert "Version 1 fails on these rows: The Box-Cox transformation" in result["verdict"]

    def test_a_holder_that_was_registered_from_a_run_the_older_way_is_compared(
        self, anomaly_train, client, model_name, metrics_csv, tmp_path
    ):
        _, result, _ = anomaly_train("--data", str(metrics_csv), "--model", f"{model_name}-source")
        client.log_artifacts(
            result["runId"], download_artifacts(artifact_uri=result["source"], dst_path=str(tmp_path)), "model"
        )
        client.create_registered_model(model_name)
        old = client.create_model_version(model_name, f"runs:/{result['runId']}/model", run_id=result["runId"])
        client.set_registered_model_alias(model_name, "champion", old.version)
        code, result, _ = anomaly_train("--data", str(metrics_csv), "--model", model_name, "--alias", "champion")
        assert (code, result["version"]) == (0, "2")
        assert "Not worse than version 1" in result["verdict"]

    def test_a_holder_with_other_features_keeps_it(self, anomaly_train, model_name, metrics_csv):
        common = ("--data", str(metrics_csv), "--model", model_name, "--alias", "champion")
        anomaly_train(*common)
        code, result, _ = anomaly_train(*common, "--columns", "cpu,memory")
        assert (code, result["aliasMoved"]) == (3, False)
        assert "Version 1 cannot be compared with: it has the features cpu, memory, network" in result["verdict"]


class TestEvent:
    EVENT = '{"id": "drift-1", "breachStart": "2026-01-01T00:10:00Z", "features": {"cpu": {"votes": 4}}}'

    def test_a_version_trained_for_drift_says_so_and_learns_only_what_came_after(
        self, anomaly_train, client, model_name, metrics_csv
    ):
        code, result, _ = anomaly_train("--data", str(metrics_csv), "--model", model_name, "--event", self.EVENT)
        assert code == 0
        version = client.get_model_version(model_name, result["version"])
        assert version.tags[PREFIX + "event-id"] == "drift-1"
        assert version.tags[PREFIX + "trigger"] == "drift"
        assert client.get_run(result["runId"]).data.tags[PREFIX + "event-id"] == "drift-1"
        assert (result["data"]["rows"], result["data"]["from"]) == (600, "2026-01-01T00:10:00.000000Z")

    def test_the_same_event_makes_one_version_and_the_second_try_finishes_the_first(
        self, anomaly_train, client, model_name, metrics_csv
    ):
        common = ("--data", str(metrics_csv), "--model", model_name, "--event", self.EVENT)
        _, first, _ = anomaly_train(*common)
        code, second, _ = anomaly_train(*common, "--alias", "champion")
        assert (code, second["version"], second["digest"]) == (0, first["version"], first["digest"])
        assert versions(client, model_name) == [1]
        assert client.get_model_version_by_alias(model_name, "champion").version == "1"

    def test_another_event_makes_another_version(self, anomaly_train, client, model_name, metrics_csv):
        common = ("--data", str(metrics_csv), "--model", model_name)
        anomaly_train(*common, "--event", self.EVENT)
        anomaly_train(*common, "--event", '{"id": "drift-2"}')
        assert versions(client, model_name) == [1, 2]

    def test_a_part_of_the_old_reference_is_trained_on_too(self, anomaly_train, model_name, metrics_csv, tmp_path):
        anomaly_train("--data", str(metrics_csv), "--model", model_name, "--alias", "champion")
        moved = write_csv(tmp_path / "moved.csv", np.random.default_rng(2).gamma(3.0, size=(ROWS, 3)) + 20)
        common = ("--data", str(moved), "--model", model_name, "--alias", "champion", "--event")
        code, result, _ = anomaly_train(*common, '{"id": "moved"}', "--keep-reference", "0.3")
        assert code == 0
        assert result["metrics"]["kept_rows"] == round(0.3 * ROWS * 0.8)
        assert result["metrics"]["holder_anomaly_rate"] > 0.9 > result["metrics"]["holdout_anomaly_rate"]


class TestAdopt:
    def test_a_pickled_model_without_a_bundle_gets_one_in_a_new_version(
        self, anomaly_train, client, model_name, metrics_csv, tmp_path
    ):
        number = register_plain(client, model_name)
        refused, _, said = anomaly_train(
            "adopt", "--data", str(metrics_csv), "--model", model_name, "--version", number
        )
        assert refused == 2
        assert "is a pickle" in said
        assert "here with --allow-pickle" in said
        code, result, said = anomaly_train(
            "adopt", "--data", str(metrics_csv), "--model", model_name, "--version", number, "--allow-pickle"
        )
        assert (code, said) == (0, "")
        version = client.get_model_version(model_name, result["version"])
        folder = Path(download_artifacts(artifact_uri=version.source, dst_path=str(tmp_path)))
        assert version.tags[PREFIX + "digest"] == digest(folder)
        assert version.tags[PREFIX + "parent-version"] == number
        bundle = read_bundle(folder)
        model, _ = load_model(folder, allow_pickle=True)
        assert (bundle.format, bundle.features) == ("cloudpickle", FEATURES)
        assert (-model.score_samples(bundle.reference) > bundle.threshold).mean() == pytest.approx(
            bundle.contamination, abs=0.02
        )

    def test_rows_that_do_not_fit_the_model_are_refused(self, anomaly_train, client, model_name, metrics_csv):
        number = register_plain(client, model_name)
        code, _, said = anomaly_train(
            "adopt", "--data", str(metrics_csv), "--model", model_name, "--version", number, "--allow-pickle",
            "--columns", "cpu,memory",
        )  # fmt: skip
        assert code == 2
        assert "the model has 3 others" in said

    def test_rows_that_are_called_otherwise_than_the_signature_says_are_refused(
        self, anomaly_train, client, model_name, metrics_csv
    ):
        number = register_plain(client, model_name, signature=("cpu", "memory", "disk"))
        code, _, said = anomaly_train(
            "adopt", "--data", str(metrics_csv), "--model", model_name, "--version", number, "--allow-pickle"
        )
        assert code == 2
        assert "features cpu, memory, network; the model has cpu, memory, disk" in said


def register_plain(client, name, signature=None):
    """Register a model as people do without this project: a pickle, no bundle, no tags, perhaps names of columns."""
    mlflow.set_tracking_uri(client.tracking_uri)
    columns = None if signature is None else Schema([ColSpec("double", column) for column in signature])
    model = IsolationForest(random_state=0).fit(np.random.default_rng(0).gamma(3.0, size=(500, 3)))
    with mlflow.start_run():
        info = mlflow.sklearn.log_model(
            model,
            name="model",
            serialization_format="cloudpickle",
            pip_requirements=["scikit-learn"],
            registered_model_name=name,
            signature=None if columns is None else ModelSignature(inputs=columns),
        )
    return str(info.registered_model_version)


class TestTrouble:
    @pytest.mark.parametrize("alias", ["latest", "v1", "a b", ""])
    def test_an_alias_that_mlflow_will_not_take_is_refused_before_training(
        self, anomaly_train, client, model_name, metrics_csv, alias
    ):
        code, _, said = anomaly_train("--data", str(metrics_csv), "--model", model_name, "--alias", alias)
        assert code == 2
        assert f"--alias {alias}: expected letters" in said
        assert versions(client, model_name) == []

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("1767225605,high,1,1", "row 7, column cpu: expected a number, got 'high'"),
            ("1767225605,1,,1", "row 7, column memory: expected a finite number, got nothing"),
            ("1767225605,1,NaN,1", "row 7, column memory: expected a finite number, got nothing"),
        ],
    )
    def test_bad_rows_are_named_and_nothing_is_registered(
        self, anomaly_train, client, model_name, metrics_csv, tmp_path, line, words
    ):
        lines = metrics_csv.read_text().splitlines()
        lines[6] = line
        bad = tmp_path / "bad.csv"
        bad.write_text("\n".join(lines))
        code, _, said = anomaly_train("--data", str(bad), "--model", model_name)
        assert code == 2
        assert words in said
        assert versions(client, model_name) == []

    def test_a_missing_column_is_named(self, anomaly_train, model_name, metrics_csv):
        code, _, said = anomaly_train("--data", str(metrics_csv), "--model", model_name, "--columns", "cpu,disk")
        assert code == 2
        assert "no column disk; it has time, cpu, memory, network" in said

    def test_an_empty_file_is_named(self, anomaly_train, model_name, tmp_path):
        (tmp_path / "empty.csv").touch()
        code, _, said = anomaly_train("--data", str(tmp_path / "empty.csv"), "--model", model_name)
        assert code == 2
        assert "empty.csv: empty; expected a header line" in said

    def test_a_registry_that_is_not_there_is_said_before_training(self, anomaly_train, metrics_csv, monkeypatch):
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with socket.socket() as closed:  # bound, not listening: nobody else gets the port
            closed.bind(("127.0.0.1", 0))
            uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
            code, _, said = anomaly_train("--data", str(metrics_csv), "--model", "m", uri=uri)
        assert code == 69
        assert f"anomaly-train: registry {uri}: registered model m: " in said
        assert "Connection refused" in said

    def test_a_login_within_the_address_is_not_said(self, anomaly_train, metrics_csv, monkeypatch):
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        _, _, said = anomaly_train("--data", str(metrics_csv), "--model", "m", uri="http://me:hunter2@127.0.0.1:1")
        assert "registry http://***@127.0.0.1:1: " in said
        assert "hunter2" not in said

    @pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "./mlruns", "databricks"])
    def test_a_registry_that_operator_and_detectors_could_not_reach_is_refused(self, anomaly_train, metrics_csv, uri):
        code, _, said = anomaly_train("--data", str(metrics_csv), "--model", "m", uri=uri)
        assert code == 2
        assert f"--tracking-uri {uri}: expected the http(s) address of an MLflow server" in said

    @pytest.mark.timeout(60)
    def test_a_registry_that_never_answers_is_given_up_on(self, anomaly_train, metrics_csv, monkeypatch):
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with socket.create_server(("127.0.0.1", 0)) as mute:
            uri = f"http://127.0.0.1:{mute.getsockname()[1]}"
            code, _, said = anomaly_train("--data", str(metrics_csv), "--model", "m", uri=uri)
        assert code == 69
        assert "timed out" in said

    def test_an_alias_that_somebody_else_moved_meanwhile_stays_theirs(
        self, mlflow_server, client, model_name, metrics_csv
    ):
        registry, table = Registry(mlflow_server.uri), read_file(metrics_csv, notes=FeatureNotes())
        order = Order(model=model_name, alias="champion")
        train_and_register(table, registry, order)
        train_and_register(table, registry, Order(model=model_name))

        def meddle(step):
            if step == "register":
                client.set_registered_model_alias(model_name, "champion", "2")

        with pytest.raises(RegistryError, match="was moved from version 1 to 2 meanwhile; version 3 is registered"):
            train_and_register(table, registry, order, on_step=meddle)
        assert client.get_model_version_by_alias(model_name, "champion").version == "2"

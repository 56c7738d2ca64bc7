"""`kubectl anomaly` as a process, against a real API: what it prints, what it writes, how it ends."""

import itertools
import json
import os
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest
from tests.plugins.installed_chart import call

from anomaly_operator.domain import history, registry_tags
from anomaly_operator.domain.codec import status_from_json, to_json
from anomaly_operator.domain.records import Evidence, HistoryEntry, LastCommand, Status
from anomaly_operator.domain.times import parse_time

pytestmark = pytest.mark.e2e

BIN = Path(sys.executable).parent
MODELS = "/apis/anomalymodel.dev/v1alpha1/namespaces/demo/anomalymodels"
MERGE = "application/merge-patch+json"
_numbers = itertools.count(1)
NOON = parse_time("2026-03-01T12:00:00Z")


@pytest.fixture
def model(installed):
    """A model of the test's own, with a history of a promotion and a rollback."""
    name = f"steered-{next(_numbers)}"
    body = {
        "apiVersion": "anomalymodel.dev/v1alpha1",
        "kind": "AnomalyModel",
        "metadata": {"name": name, "namespace": "demo"},
        "spec": {"model": {"name": "registered", "alias": "champion"}},
    }
    admin = installed.admin()
    call(admin, "POST", MODELS, body)
    status = Status(observed_generation=1, phase="Degraded", step="Guard", message="version 2 was rolled back")
    for entry in (
        HistoryEntry(
            revision="aaa",
            version="1",
            outcome="Promoted",
            reason="Deployed",
            active="aaa",
            active_version="1",
            ended_at=NOON,
        ),
        HistoryEntry(
            revision="bbb",
            version="2",
            outcome="Promoted",
            reason="Promoted",
            active="bbb",
            active_version="2",
            ended_at=NOON + 60,
        ),
        HistoryEntry(
            revision="bbb",
            version="2",
            outcome="RolledBack",
            reason="ErrorRateExceeded",
            active="aaa",
            active_version="1",
            ended_at=NOON + 90.5,
            evidence=(Evidence(metric="errorRate", value=0.12, limit=0.01, samples=700),),
        ),
    ):
        status = history.add(status, entry, limit=10)
    write_status(admin, name, to_json(status))
    yield name
    call(admin, "DELETE", f"{MODELS}/{name}")


def write_status(api, name, status):
    call(api, "PATCH", f"{MODELS}/{name}/status", {"status": status}, media=MERGE)


@pytest.fixture
def anomaly(installed):
    """Run the program as kubectl runs its plugins."""

    def run(*arguments, kubeconfig=installed.cluster.kubeconfig):
        env = {**os.environ, "KUBECONFIG": str(kubeconfig), "PATH": f"{BIN}:{os.environ['PATH']}"}
        env.pop("MLFLOW_TRACKING_URI", None)
        command = [BIN / "kubectl", "anomaly", *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)

    return run


def ask_registry(server, path, **fields):
    request = urllib.request.Request(
        f"{server.uri}/api/2.0/mlflow/{path}", json.dumps(fields).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def point_at(server, name, version):
    ask_registry(server, "registered-models/alias", name=name, alias="champion", version=version)


def version_of(server, name):
    url = f"{server.uri}/api/2.0/mlflow/registered-models/alias?name={name}&alias=champion"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)["model_version"]["version"]


@pytest.fixture
def registered(mlflow_server, model_name):
    """A registered model with two versions."""
    ask_registry(mlflow_server, "registered-models/create", name=model_name)
    for _ in range(2):
        ask_registry(mlflow_server, "model-versions/create", name=model_name, source="s3://somewhere/model")
    return model_name


def next_command(api, name):
    """Wait for a command and return it."""
    while True:
        metadata = call(api, "GET", f"{MODELS}/{name}")["metadata"]
        if text := metadata.get("annotations", {}).get("anomalymodel.dev/command"):
            return json.loads(text)


def test_kubectl_finds_it_as_a_plugin_and_it_lists_models(anomaly, model):
    done = anomaly("list", "-n", "demo")

    assert (done.returncode, done.stderr) == (0, "")
    line = next(line for line in done.stdout.splitlines() if line.startswith(model))
    assert line.split()[:2] == [model, "Degraded"]


def test_all_namespaces_are_listed_with_their_names(anomaly, model):
    done = anomaly("list", "-A")

    assert done.stdout.splitlines()[0].split()[:2] == ["NAMESPACE", "NAME"]
    assert ["demo", model] in [line.split()[:2] for line in done.stdout.splitlines()]


def test_json_is_the_object_itself(installed, anomaly, model):
    assert json.loads(anomaly("status", model, "-n", "demo", "-o", "json").stdout) == call(
        installed.admin(), "GET", f"{MODELS}/{model}"
    )


def test_the_history_verifies_as_it_was_written(anomaly, model):
    done = anomaly("history", model, "-n", "demo", "--verify", "--no-registry")

    assert done.returncode == 0
    assert done.stderr == "hash chain: 3 entries, unbroken\n"
    assert "errorRate 0.12 (limit 0.01, 700 samples)" in done.stdout


def test_a_history_that_was_touched_up_does_not_verify(installed, anomaly, model):
    entries = call(installed.admin(), "GET", f"{MODELS}/{model}")["status"]["history"]
    entries[0]["evidence"][0]["value"] = 0.02
    write_status(installed.admin(), model, {"history": entries})

    done = anomaly("history", model, "-n", "demo", "--verify", "--no-registry")

    assert done.returncode == 1
    assert "the history was changed after it was written: the entry about version 2 (RolledBack" in done.stderr


def test_an_entry_that_was_dropped_is_noticed(installed, anomaly, model):
    entries = call(installed.admin(), "GET", f"{MODELS}/{model}")["status"]["history"]
    write_status(installed.admin(), model, {"history": [entries[0], entries[2]]})

    assert anomaly("history", model, "-n", "demo", "--verify", "--no-registry").returncode == 1


@pytest.fixture
def recorded(installed, model, mlflow_server, registered):
    """The model, whose decisions the registry remembers as the operator writes them."""
    spec = {"model": {"name": registered, "trackingUri": mlflow_server.uri}}
    body = call(installed.admin(), "PATCH", f"{MODELS}/{model}", {"spec": spec}, media=MERGE)
    for entry in status_from_json(body["status"]).history:
        key = registry_tags.key("demo", model, entry)
        value = registry_tags.value("demo", model, body["metadata"]["uid"], entry)
        ask_registry(
            mlflow_server, "model-versions/set-tag", name=registered, version=entry.version, key=key, value=value
        )
    return model


def test_the_registry_s_memory_is_compared_with_the_history(anomaly, recorded):
    done = anomaly("history", recorded, "-n", "demo", "--verify")

    assert (done.returncode, done.stderr) == (0, "hash chain: 3 entries, unbroken\nregistry: has the same\n")
    assert done.stdout.count("status+registry") == 3


def test_what_status_has_dropped_is_read_from_the_registry(installed, anomaly, recorded):
    entries = call(installed.admin(), "GET", f"{MODELS}/{recorded}")["status"]["history"]
    write_status(installed.admin(), recorded, {"history": entries[:1], "historyAnchor": entries[1]["hash"]})

    done = anomaly("history", recorded, "-n", "demo", "--verify", "-o", "json")
    at = anomaly("history", recorded, "-n", "demo", "--at", "2026-03-01T12:01:10Z", "-o", "json")

    assert [entry["keptIn"] for entry in json.loads(done.stdout)] == [
        ["status", "registry"],
        ["registry"],
        ["registry"],
    ]
    assert "registry: has the same, and 2 older ones" in done.stderr
    assert json.loads(at.stdout)["version"] == "2"


def test_a_history_that_was_rewritten_as_a_whole_is_found_out_by_the_registry(installed, anomaly, recorded):
    status = Status()
    forged = HistoryEntry(
        revision="aaa", version="1", outcome="Promoted", reason="Deployed", active="aaa", ended_at=NOON
    )
    write_status(installed.admin(), recorded, {"history": to_json(history.add(status, forged, 10))["history"]})

    assert anomaly("history", recorded, "-n", "demo", "--verify", "--no-registry").returncode == 0
    done = anomaly("history", recorded, "-n", "demo", "--verify")

    assert done.returncode == 1
    assert "error: status and registry differ: the registry has no tag about version 1" in done.stderr
    assert "status lacks version 2 (RolledBack, ErrorRateExceeded" in done.stderr


def test_a_registry_that_cannot_be_reached_is_said_and_nothing_is_called_verified(anomaly, recorded):
    away = "--tracking-uri", "http://127.0.0.1:1"
    shown = anomaly("history", recorded, "-n", "demo", *away)
    verified = anomaly("history", recorded, "-n", "demo", "--verify", *away)

    assert shown.returncode == 0
    assert "RolledBack" in shown.stdout
    assert shown.stderr.startswith("note: only what status holds: registry http://127.0.0.1:1: no answer")
    assert verified.returncode == 3
    assert "error: not compared with the registry: registry http://127.0.0.1:1: no answer" in verified.stderr


def test_without_a_registry_s_address_the_way_to_give_one_is_said(anomaly, model):
    assert "give --tracking-uri or set MLFLOW_TRACKING_URI" in anomaly("history", model, "-n", "demo").stderr


@pytest.mark.parametrize(
    ("at", "version"),
    [("2026-03-01T12:00:30Z", "1"), ("2026-03-01T12:01:10Z", "2"), ("2026-03-01T13:05:00+01:00", "1")],
)
def test_it_says_what_served_at_a_time(anomaly, model, at, version):
    done = anomaly("history", model, "-n", "demo", "--at", at, "-o", "json")

    assert json.loads(done.stdout)["version"] == version


def test_a_time_before_the_history_is_an_error_in_words(anomaly, model):
    done = anomaly("history", model, "-n", "demo", "--at", "2020-01-01T00:00:00Z")

    assert done.returncode == 1
    assert "does not reach back to 2020-01-01" in done.stderr


def test_an_absent_model_is_one_sentence(anomaly):
    done = anomaly("status", "absent", "-n", "demo")

    assert done.returncode == 1
    assert done.stderr.startswith("error: AnomalyModel demo/absent: ")
    assert "not found" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_server_that_is_not_there_is_one_sentence(installed, anomaly, tmp_path):
    dead = tmp_path / "kubeconfig"
    text = installed.cluster.kubeconfig.read_text()
    dead.write_text(text.replace(installed.cluster.server, "https://127.0.0.1:9"))

    done = anomaly("list", kubeconfig=dead)

    assert done.returncode == 1
    assert "the API server does not answer" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_command_carries_who_asked_and_belongs_to_the_cli(installed, anomaly, model):
    done = anomaly("rollback", model, "-n", "demo", "--to", "aaa", "--wait", "0")

    assert (done.returncode, done.stdout) == (0, "rollback: asked\n")
    metadata = call(installed.admin(), "GET", f"{MODELS}/{model}")["metadata"]
    command = json.loads(metadata["annotations"]["anomalymodel.dev/command"])
    who = installed.cluster.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
    assert {k: command[k] for k in ("verb", "revision", "by")} == {"verb": "rollback", "revision": "aaa", "by": who}
    assert "anomaly-cli" in {entry["manager"] for entry in metadata["managedFields"]}


@pytest.mark.parametrize(("outcome", "code"), [("Accepted", 0), ("Refused", 1)])
def test_it_waits_for_the_answer_to_its_own_command(installed, anomaly, model, outcome, code):
    def answer():
        """Stand in for the operator."""
        command = next_command(installed.admin(), model)
        last = LastCommand(id=command["id"], verb="pause", outcome=outcome, message="because", time=NOON)
        write_status(installed.admin(), model, {"lastCommand": to_json(last)})

    # An older answer must not pass for the one that is waited for.
    old = LastCommand(id="older", verb="pause", outcome="Accepted", time=NOON)
    write_status(installed.admin(), model, {"lastCommand": to_json(old)})
    operator = threading.Thread(target=answer)
    operator.start()

    done = anomaly("pause", model, "-n", "demo", "--wait", "30")

    operator.join()
    assert (done.returncode, done.stdout) == (code, f"pause: {outcome.lower()}: because\n")


def test_without_an_operator_it_says_that_the_command_stays(anomaly, model):
    done = anomaly("pause", model, "-n", "demo", "--wait", "0.2")

    assert done.returncode == 3
    assert "no answer from the operator" in done.stderr
    assert "stays in place" in done.stderr


def test_it_shows_both_versions(anomaly):
    done = anomaly("version")

    assert done.stdout.startswith("kubectl-anomaly 0.1.0\nKubernetes v1.")


def test_promoting_a_version_moves_the_alias_or_the_stage_in_the_registry(mlflow_server, registered):
    def promote(version, *where):
        command = [BIN / "kubectl-anomaly", "promote-version", registered, version, *(where or ("--alias", "champion"))]
        env = {**os.environ, "MLFLOW_TRACKING_URI": mlflow_server.uri}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    first, second, absent = promote("1"), promote("2"), promote("7")

    assert first.stdout == f"{registered}: alias champion moved from nowhere to version 1\n"
    assert second.stdout == f"{registered}: alias champion moved from 1 to version 2\n"
    assert absent.returncode == 1
    assert "7" in absent.stderr
    assert version_of(mlflow_server, registered) == "2"

    for version in ("1", "2"):
        staged = promote(version, "--stage", "Production")
        assert staged.stdout == f"{registered}: version {version} is in stage Production\n", staged.stderr
    from mlflow import MlflowClient  # noqa: PLC0415 - takes seconds

    client = MlflowClient(mlflow_server.uri)
    stages = [client.get_model_version(registered, version).current_stage for version in ("1", "2")]
    assert stages == ["Archived", "Production"]


def test_a_rollback_moves_the_alias_only_when_it_is_asked_to(installed, anomaly, model, mlflow_server, registered):
    point_at(mlflow_server, registered, "2")
    call(installed.admin(), "PATCH", f"{MODELS}/{model}", {"spec": {"model": {"name": registered}}}, media=MERGE)
    track = {"color": "blue", "since": "2026-03-01T12:00:00Z"}
    bad, good = (
        track | {"revision": "bbb", "version": "2"},
        track | {"revision": "aaa", "version": "1", "color": "green"},
    )

    def roll_back():
        """Stand in for the operator: accept the command, then the selector moves."""
        command = next_command(installed.admin(), model)
        last = LastCommand(id=command["id"], verb="rollback", outcome="Accepted", time=NOON)
        write_status(installed.admin(), model, {"lastCommand": to_json(last)})
        write_status(installed.admin(), model, {"active": good})

    def ask(*options):
        call(installed.admin(), "PATCH", f"{MODELS}/{model}", {"metadata": {"annotations": None}}, media=MERGE)
        write_status(installed.admin(), model, {"active": bad})
        operator = threading.Thread(target=roll_back)
        operator.start()
        done = anomaly("rollback", model, "-n", "demo", "--wait", "30", *options)
        operator.join()
        return done

    without = ask()
    assert (without.returncode, version_of(mlflow_server, registered)) == (0, "2")

    moved = ask("--registry", "--tracking-uri", mlflow_server.uri)
    assert moved.stderr == f"{registered}: alias champion moved from version 2 to 1\n"
    assert (moved.returncode, version_of(mlflow_server, registered)) == (0, "1")

"""From drift to a promoted version with no human step: registry, cluster, detectors, Jobs and traffic all real."""

import json
import os
import re
import subprocess
import threading
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import yaml
from tests.e2e.operator.conftest import BIN, IMAGE, eventually, faults, model
from tests.plugins.influx_double import in_background

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

WINDOW = 100
LOGIN = {
    "MLFLOW_TRACKING_USERNAME": "someone",
    "MLFLOW_TRACKING_PASSWORD": "of-the-model-77c0",
    "token": "of-the-influxdb-31",
}


class Users:
    """Users who ask all the time; `shifted` is the world after it moved."""

    def __init__(self, url):
        self.url, self.shifted, self.failures = url, False, []
        self._rng = np.random.default_rng(1)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def _ask(self):
        # Many rows at once: however slow the machine is, there are enough of the new world once the drift is confirmed.
        while not self._ended.wait(0.05):
            rows = sample(self._rng, 64, shifted=self.shifted)
            body = json.dumps({"rows": rows.tolist()}).encode()
            request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
            try:
                urllib.request.urlopen(request, timeout=60).read()
            except OSError as error:
                self.failures.append(repr(error))


def sample(rng, count, *, shifted=False):
    rows = rng.gamma(3.0, size=(count, 3)) + 0.1
    return rows * [1.0, 2.5, 1.0] + [0.0, 5.0, 0.0] if shifted else rows


@pytest.fixture(scope="module")
def chart_values():
    return {"retraining": {"fromPods": True}}


@pytest.fixture
def registered(mlflow_server, tmp_path, model_name):
    """Return a registered model whose first version has the alias `champion`."""
    data = tmp_path / "rows.csv"
    rows = sample(np.random.default_rng(0), 4000)
    np.savetxt(data, rows, delimiter=",", header="cpu_percent,memory_percent,network_mbps", comments="")
    command = [BIN / "anomaly-train", "--data", data, "--tracking-uri", mlflow_server.uri, "--no-plots"]
    options = ["--model", model_name, "--alias", "champion", "--window", str(WINDOW)]
    env = os.environ | {"MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}
    subprocess.run([*command, *options], env=env, check=True, capture_output=True, timeout=600)
    return model_name


@pytest.fixture
def retrained(leading, defined, namespace, registered):
    """Return a function that brings up a model with these retraining settings."""
    leading()

    def make(*, influxdb=None, **retraining):
        secret = {"metadata": {"name": "login", "namespace": namespace}, "stringData": LOGIN}
        made = model(namespace, "champion", drift={"window": WINDOW}, retraining={"enabled": True} | retraining)
        made["spec"]["model"] |= {"name": registered, "credentialsSecretRef": {"name": "login"}}
        made["spec"]["detector"]["replicas"] = 1
        made["spec"]["blueGreen"]["prePromotionAnalysis"] |= {"duration": "3s", "smokeTest": {"rows": 512}}
        made["spec"]["gates"]["anomalyRate"] = {"target": 0.15}
        made["spec"]["explanations"] = {"enabled": False}
        if influxdb:
            made["spec"]["influxdb"] = {"url": influxdb, "org": "o", "bucket": "b", "tokenSecretRef": {"name": "login"}}
        defined.kubectl("apply", "-f", "-", stdin=[{"apiVersion": "v1", "kind": "Secret"} | secret, made])
        wait(defined, namespace, "condition=Ready")

    return make


def wait(cluster, namespace, condition, seconds=600):
    """Wait in parts: one command is cut off sooner."""
    command = ("wait", "am/cpu", "-n", namespace, f"--for={condition}", "--timeout=60s")
    eventually(lambda: "condition met" in cluster.kubectl(*command, check=False), seconds)


def outcomes(cluster, namespace):
    lines = get(cluster, namespace, "am", "cpu")["status"].get("retrainings", [])
    return [line["outcome"] for line in lines]


def get(cluster, namespace, *what):
    return json.loads(cluster.kubectl("get", *what, "-n", namespace, "-o", "json"))


def anomaly(cluster, namespace, *words):
    command = [BIN / "kubectl-anomaly", *words, "cpu", "-n", namespace, "--kubeconfig", cluster.kubeconfig]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.usefixtures("registered")
def test_the_documented_job_of_one_s_own_trains_on_a_file(retrained, defined, namespace):
    rows = sample(np.random.default_rng(2), 1000).round(3).tolist()
    text = "cpu_percent,memory_percent,network_mbps\n" + "\n".join(",".join(map(str, row)) for row in rows)
    held = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rows", "namespace": namespace}}
    defined.kubectl("apply", "--server-side", "-f", "-", stdin=[held | {"data": {"rows.csv": text}}])
    retrained(jobTemplate=documented({"configMap": {"name": "rows"}}))
    anomaly(defined, namespace, "retrain")
    eventually(lambda: outcomes(defined, namespace) in (["Succeeded"], ["Failed"]))
    (line,) = get(defined, namespace, "am", "cpu")["status"]["retrainings"]
    assert (line["outcome"], line["trigger"], line["version"]) == ("Succeeded", "Command", "2"), line


def drift_by_hand(cluster, namespace):
    pods = "-l", "anomalymodel.dev/model=cpu,anomalymodel.dev/color=blue"
    cluster.kubectl("annotate", "pods", "-n", namespace, *pods, "anomalymodel.dev/drift-confidence=1.0", "--overwrite")


@pytest.fixture
def influx():
    with in_background() as double:
        yield double


def test_drift_ends_in_a_retrained_version_that_serves_users_with_no_human_step(
    retrained, defined, namespace, registered, mlflow_server, influx
):
    from mlflow import MlflowClient  # noqa: PLC0415 - takes seconds

    retrained(minDriftDuration="3s", cooldown="1s", deadline="10m", influxdb=influx.url)
    with Users("http://{}:{}/predict".format(*defined.address(namespace, "cpu"))) as users:
        seen = "jsonpath={.metadata.annotations.anomalymodel\\.dev/drift-confidence}"
        pods = "pods", "-l", "anomalymodel.dev/model=cpu", "-n", namespace
        defined.kubectl("wait", *pods, f"--for={seen}", "--timeout=280s")
        wait(defined, namespace, "condition=Drifted=False")
        users.shifted = True
        wait(defined, namespace, "condition=Drifted")
        assert get(defined, namespace, "am", "cpu")["status"]["active"]["version"] == "1"

        wait(defined, namespace, "jsonpath={.status.active.version}=2")
        wait(defined, namespace, "condition=Drifted=False")
        wait(defined, namespace, "condition=Ready")
        # The new version knows the new world: its pods judge users' rows and see no drift.
        calm = "jsonpath={.status.lastReport.driftVerdict}=ok"
        wait(defined, namespace, calm)
    assert users.failures == []

    found = get(defined, namespace, "am", "cpu")["status"]
    assert found["phase"] == "Healthy"
    (line,) = found["retrainings"]
    assert (line["trigger"], line["outcome"], line["version"]) == ("Drift", "Succeeded", "2")
    assert "drift confidence" in line["reason"]
    assert "of 5 tests" in line["reason"]
    wait(defined, namespace, "condition=Retrained")
    assert line["startedAt"] < line["endedAt"]
    assert [entry["outcome"] for entry in found["history"]] == ["Promoted", "Promoted"]
    assert "anomalyRate" in {evidence["metric"] for evidence in found["history"][0]["evidence"]}

    client = MlflowClient(mlflow_server.uri)
    versions = client.search_model_versions(f"name='{registered}'")
    assert {version.version for version in versions} == {"1", "2"}, "one drift, one version"
    version = client.get_model_version_by_alias(registered, "champion")
    assert (version.version, version.run_id) == ("2", line["runId"])
    tags = {name.removeprefix("anomalymodel.dev/"): value for name, value in version.tags.items()}
    assert (tags["trigger"], tags["parent-version"]) == ("drift", "1")
    event = json.loads(tags["event"])
    assert (event["id"], event["evidence"][0]["metric"]) == (tags["event-id"], "drift")
    assert {"breachStart", "reason", "revision"} <= set(event)
    assert event["window"]["rows"] == WINDOW
    moved = next(feature for feature in event["features"] if feature["feature"] == "memory_percent")
    assert moved["votes"] >= 3
    assert moved["tests"]["wasserstein"]["value"] > moved["tests"]["wasserstein"]["threshold"]
    assert client.get_run(version.run_id).data.tags["anomalymodel.dev/event"] == tags["event"]
    log = f"anomalymodel.dev/retrainings.{namespace}.cpu"
    eventually(lambda: '"Succeeded"' in client.get_registered_model(registered).tags.get(log, ""))
    (remembered,) = json.loads(client.get_registered_model(registered).tags[log])
    assert remembered == line

    ((told, fields),) = [(dict(series), fields) for (series, _), fields in influx.of("anomaly_retraining").items()]
    assert told["pod"].startswith(line["job"])
    assert {"namespace": namespace, "model": "cpu", "version": "2", "role": "training"}.items() <= told.items()
    assert (fields["outcome"], fields["run_id"], fields["event_id"]) == ("Succeeded", line["runId"], event["id"])
    assert "Token of-the-influxdb-31" in influx.authorizations


def documented(volume):
    """Return the Job of docs/rollouts.md with another volume instead of the claim, and the image's name here."""
    text = (Path(__file__).parents[3] / "docs" / "rollouts.md").read_text()
    (block,) = re.findall(r"```yaml\n(retraining:\n.*?)```", text, re.DOTALL)
    made = yaml.safe_load(block)["retraining"]["jobTemplate"]
    pod = made["spec"]["template"]["spec"]
    pod["volumes"] = [{"name": "data"} | volume]
    pod["containers"][0]["image"] = IMAGE
    return made


def training(script):
    """Return a Job of the user's own that runs a line of shell."""
    container = {"name": "train", "image": IMAGE, "command": ["sh", "-c", script]}
    container["terminationMessagePath"] = "/dev/termination-log"
    pod = {"restartPolicy": "Never", "containers": [container]}
    return {"spec": {"backoffLimit": 0, "template": {"spec": pod}}}


def test_a_failed_job_changes_nothing_else_and_is_tried_again_within_the_daily_budget(retrained, defined, namespace):
    failing = training('echo "the data are gone"; exit 2')
    retrained(minDriftDuration="0s", cooldown="1s", maxPerDay=2, jobTemplate=failing)
    before = [child["spec"] for child in get(defined, namespace, "deployments,services")["items"]]

    drift_by_hand(defined, namespace)
    wait(defined, namespace, "condition=Drifted")
    eventually(lambda: outcomes(defined, namespace) == ["Failed", "Failed"])
    anomaly(defined, namespace, "resume")  # answered after another look at everything

    found = get(defined, namespace, "am", "cpu")["status"]
    assert [line["message"] for line in found["retrainings"]] == ["the data are gone"] * 2
    assert len({line["job"] for line in found["retrainings"]}) == 2
    assert len(get(defined, namespace, "jobs")["items"]) == 2
    assert [child["spec"] for child in get(defined, namespace, "deployments,services")["items"]] == before
    assert (found["active"]["version"], "candidate" in found) == ("1", False)

    # It is a condition, until one that somebody asks for, whatever the budget, succeeds.
    failed = next(condition for condition in found["conditions"] if condition["type"] == "Retrained")
    assert (failed["status"], failed["reason"]) == ("False", "JobFailed")
    for words in ("attempt 2 failed (Job cpu-retraining-", "the data are gone", "no other before "):
        assert words in failed["message"]
    good = {"spec": {"retraining": {"jobTemplate": training('echo \'{"version": "1"}\' > $ANOMALY_TERMINATION_LOG')}}}
    defined.kubectl("patch", "am/cpu", "-n", namespace, "--type=merge", "-p", json.dumps(good))
    anomaly(defined, namespace, "retrain")
    wait(defined, namespace, "condition=Retrained")
    assert outcomes(defined, namespace) == ["Succeeded", "Failed", "Failed"]


@pytest.mark.switchboard
def test_an_operator_killed_between_the_job_and_its_secret_leaves_no_job_that_hangs(
    leading, retrained, defined, namespace
):
    retrained()
    refused = ("--resource", "secrets", "--verb", "create", "--namespace", namespace, "--code", "503")
    with faults(defined, "fail", *refused):
        anomaly(defined, namespace, "retrain")
        eventually(lambda: outcomes(defined, namespace) == ["Running"])
        name = get(defined, namespace, "am", "cpu")["status"]["retrainings"][0]["job"]
        defined.kubectl("wait", f"job/{name}", "-n", namespace, "--for=create", "--timeout=90s")
        leading().kill()
    job = get(defined, namespace, "job", name)
    assert (job["spec"]["suspend"], job.get("status", {}).get("active", 0)) == (True, 0)

    leading()

    defined.kubectl("wait", f"job/{name}", "-n", namespace, "--for=jsonpath={.spec.suspend}=false", "--timeout=60s")
    secret = get(defined, namespace, "secret", name)
    assert secret["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
    # Nobody has asked yet, so there is nothing to train on, and it says so.
    eventually(lambda: outcomes(defined, namespace) == ["Failed"])
    line = get(defined, namespace, "am", "cpu")["status"]["retrainings"][0]
    assert "expected at least 50" in line["message"]


def test_only_the_training_pod_sees_the_registry_s_credentials_and_it_has_no_token_of_the_cluster(
    retrained, defined, namespace
):
    retrained()
    anomaly(defined, namespace, "retrain")
    eventually(lambda: outcomes(defined, namespace) == ["Failed"])

    pods = get(defined, namespace, "pods", "-l", "app.kubernetes.io/component=retraining")["items"]
    containers = [pod["spec"]["containers"][0] for pod in pods]
    assert len(pods) == 1, "what another try would repeat is not tried again at once"
    assert {"anomaly-credentials", "anomaly-pods", "tmp"} == {m["name"] for c in containers for m in c["volumeMounts"]}
    assert {pod["spec"].get("automountServiceAccountToken") for pod in pods} == {False}
    detectors = get(defined, namespace, "pods", "-l", "anomalymodel.dev/color=blue")["items"]
    serving = [c for pod in detectors for c in pod["spec"]["containers"]]
    assert serving
    assert [c for c in serving if "credentials" in {mount["name"] for mount in c["volumeMounts"]}] == []

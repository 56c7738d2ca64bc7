"""A registry that calls, dies and comes back: what users see of it is nothing."""

import json
import logging
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from demo.mlflow_server import free_port, launch, stop, wait_until_healthy
from kubernetes import client, config, watch
from tests.e2e.operator.conftest import BIN, REGISTERED, TRACK, condition, eventually, model, pods, servers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
log = logging.getLogger(__name__)

SECRET = "for these tests alone"
WEBHOOKS = {
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    # Without a key of one's own, a server that was restarted cannot read its webhooks any more.
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": "0" * 43 + "=",
}
HISTORY = "anomalymodel.dev/history."


class Registry:
    """An MLflow server that can be killed and comes back with what it knew, at the same address."""

    def __init__(self, folder):
        self.folder, self._port = folder, free_port()
        self.start()
        self.uri = self._server.uri

    def start(self):
        self._server = launch(self.folder, port=self._port, env=WEBHOOKS)
        wait_until_healthy(self._server)

    def kill(self):
        self._server.process.kill()
        stop(self._server)

    @property
    def running(self):
        return self._server.process.poll() is None


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory):
    """A server of the module's own, instead of the session's."""
    registry = Registry(tmp_path_factory.mktemp("registry"))
    yield registry
    registry.kill()


@pytest.fixture(autouse=True)
def _answering(mlflow_server):
    """Start the server again if a test has failed while it was down."""
    if not mlflow_server.running:
        mlflow_server.start()


@pytest.fixture(scope="module")
def mlflow(mlflow_server):
    from mlflow import MlflowClient  # noqa: PLC0415 - takes seconds

    return MlflowClient(mlflow_server.uri)


@pytest.fixture(scope="module")
def operator(start_operator, tmp_path_factory):
    """A replica that leads and takes webhooks at `url`."""
    secret = tmp_path_factory.mktemp("webhook") / "secret"
    secret.write_text(SECRET)
    process = start_operator("hooked", WEBHOOK_SECRET_FILE=str(secret), LEASE_SECONDS="10")
    process.wait_for("leader")
    return SimpleNamespace(url=f"http://127.0.0.1:{process.wait_for('listening')['port']}/webhooks/mlflow")


def applied(cluster, namespace, name, alias, *, poll, analysis="1s", registered=REGISTERED, replicas=1, **spec):
    made = model(namespace, alias, **spec)
    made["spec"]["model"] |= {"name": registered, "pollInterval": poll}
    made["metadata"]["name"] = name
    made["spec"]["detector"]["replicas"] = replicas
    made["spec"]["blueGreen"]["prePromotionAnalysis"]["duration"] = analysis
    cluster.kubectl("apply", "-f", "-", stdin=[made])


def wait(cluster, namespace, name, condition):
    """Wait in parts: one command is cut off sooner."""
    command = ("wait", f"am/{name}", "-n", namespace, f"--for={condition}", "--timeout=60s")
    eventually(lambda: "condition met" in cluster.kubectl(*command, check=False))


def serves(cluster, namespace, name, version):
    wait(cluster, namespace, name, f"jsonpath={{.status.active.version}}={version}")
    wait(cluster, namespace, name, "condition=Ready")


def status(cluster, namespace, name):
    return json.loads(cluster.kubectl("get", f"am/{name}", "-n", namespace, "-o", "json"))["status"]


class Births:
    """Watch for the Deployments of a namespace: when each was first seen."""

    def __init__(self, cluster, namespace):
        self.seen = {}
        self._watch = watch.Watch()
        api = client.AppsV1Api(config.new_client_from_config(config_file=str(cluster.kubeconfig)))
        self._thread = threading.Thread(target=self._look, args=(api, namespace), daemon=True)
        self._thread.start()

    def _look(self, api, namespace):
        with suppress(Exception):  # it ends with the cluster at the latest
            for event in self._watch.stream(api.list_namespaced_deployment, namespace):
                self.seen.setdefault(event["object"].metadata.name, time.monotonic())

    def stop(self):
        self._watch.stop()


@pytest.fixture
def hooked(mlflow, model_name, operator):
    """A registered model of whose aliases the operator is told; its versions need not be servable."""
    mlflow.create_registered_model(model_name)
    tags = {"anomalymodel.dev/digest": "sha256:" + "0" * 64}
    for _ in range(2):
        mlflow.create_model_version(model_name, "s3://somewhere/model", tags=tags)
    events = ["model_version_alias.created", "model_version_alias.deleted"]
    hook = mlflow.create_webhook(model_name, operator.url, events, secret=SECRET)
    yield model_name
    mlflow.delete_webhook(hook.webhook_id)


def test_a_webhook_of_the_registry_itself_begins_the_rollout_of_the_model_that_follows_the_alias_and_of_no_other(
    hooked, mlflow, mlflow_server, defined, namespace, record_property
):
    # Nobody asks the registry by himself for an hour.
    applied(defined, namespace, "cpu", "champion", poll="1h", registered=hooked)
    applied(defined, namespace, "net", "staging", poll="1h", registered=hooked)
    for name in ("cpu", "net"):
        wait(defined, namespace, name, "condition=ModelResolved=False")
    births = Births(defined, namespace)

    moved = time.monotonic()
    mlflow.set_registered_model_alias(hooked, "champion", "1")
    eventually(lambda: "cpu-blue" in births.seen)
    seconds = births.seen["cpu-blue"] - moved
    record_property("candidate_seconds_after_the_alias_moved", round(seconds, 3))
    log.info("alias moved -> candidate's Deployment seen: %.3f s", seconds)

    mlflow.delete_registered_model_alias(hooked, "champion")
    wait(defined, namespace, "cpu", "condition=ModelResolved=False")

    # A server that was restarted still knows whom to call, and how to sign.
    mlflow_server.kill()
    mlflow_server.start()
    mlflow.set_registered_model_alias(hooked, "champion", "2")
    wait(defined, namespace, "cpu", "condition=ModelResolved")
    wait(defined, namespace, "cpu", "jsonpath={.status.candidate.version}=2")
    wait(defined, namespace, "net", "condition=ModelResolved=False")
    births.stop()
    assert "net-blue" not in births.seen


def tags(mlflow, namespace, version):
    """Return the outcomes that the registry remembers of a version in this namespace."""
    found = mlflow.get_model_version(REGISTERED, version).tags
    return sorted(
        json.loads(text)["outcome"] for key, text in found.items() if key.startswith(f"{HISTORY}{namespace}.")
    )


@pytest.mark.usefixtures("operator")
def test_a_registry_that_is_killed_in_any_phase_stops_nothing_for_good_and_is_told_when_it_is_back(
    mlflow, mlflow_server, defined, namespace, versions
):
    alias = namespace
    mlflow.set_registered_model_alias(REGISTERED, alias, versions[0])
    applied(defined, namespace, "cpu", alias, poll="500ms", analysis="6s")
    serves(defined, namespace, "cpu", versions[0])

    # While nothing is under way: users are answered, and it is said.
    mlflow_server.kill()
    wait(defined, namespace, "cpu", "condition=ModelResolved=Unknown")
    wait(defined, namespace, "cpu", "condition=Servable")
    mlflow_server.start()
    wait(defined, namespace, "cpu", "condition=ModelResolved")

    # While the candidate is about to fetch its artifact: it waits.
    mlflow.set_registered_model_alias(REGISTERED, alias, versions[1])
    wait(defined, namespace, "cpu", f"jsonpath={{.status.candidate.version}}={versions[1]}")
    mlflow_server.kill()
    wait(defined, namespace, "cpu", "condition=ModelResolved=Unknown")
    assert status(defined, namespace, "cpu")["active"]["version"] == versions[0]
    mlflow_server.start()

    # While it is analysed: it is promoted without a word from the registry.
    wait(defined, namespace, "cpu", "jsonpath={.status.step}=Analyse")
    mlflow_server.kill()
    wait(defined, namespace, "cpu", f"jsonpath={{.status.active.version}}={versions[1]}")

    # While it serves: a breach is rolled back.
    pods = "-l", "anomalymodel.dev/model=cpu,anomalymodel.dev/color=green"
    defined.kubectl("annotate", "pods", "-n", namespace, *pods, "anomalymodel.dev/error-rate=0.5")
    wait(defined, namespace, "cpu", f"jsonpath={{.status.active.version}}={versions[0]}")
    mlflow_server.start()

    assert tags(mlflow, namespace, versions[0]) == ["Promoted"]
    eventually(lambda: tags(mlflow, namespace, versions[1]) == ["Promoted", "RolledBack"])
    command = [BIN / "kubectl-anomaly", "history", "cpu", "-n", namespace, "--verify"]
    options = ["--kubeconfig", defined.kubeconfig, "--tracking-uri", mlflow_server.uri]
    verified = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stderr
    assert "registry: has the same" in verified.stderr


class Users(threading.Thread):
    """Users who ask a few rows, normal ones and others, again and again; `answers` counts by status."""

    def __init__(self, cluster, namespace):
        super().__init__(daemon=True)
        host, port = cluster.address(namespace, "cpu")
        self.url, self.answers, self._ended = f"http://{host}:{port}/predict", Counter(), threading.Event()
        self._rows = json.dumps({"rows": [[3.0, 3.0, 3.0], [2.5, 3.5, 3.0], [400.0, 400.0, 400.0]]}).encode()

    def run(self):
        while not self._ended.wait(0.05):
            request = urllib.request.Request(self.url, self._rows, {"Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    self.answers[answer.status] += 1
            except OSError as error:
                self.answers[repr(error)] += 1

    @property
    def lost(self):
        return sum(count for answer, count in self.answers.copy().items() if answer != 200)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self.join()


@pytest.mark.usefixtures("operator")
@pytest.mark.filterwarnings("ignore:.*transition_model_version_stage.*:FutureWarning")
def test_a_stage_is_followed_through_a_whole_rollout_and_what_made_rows_anomalous_is_a_run_of_the_version(
    mlflow, defined, namespace, versions
):
    mlflow.transition_model_version_stage(REGISTERED, versions[0], "Production")
    mlflow.transition_model_version_stage(REGISTERED, versions[1], "Staging")
    stage = {"name": REGISTERED, "stage": "Production"}
    applied(
        *(defined, namespace, "cpu", None), poll="500ms", model=stage, explanations={"recording": {"interval": "2s"}}
    )
    serves(defined, namespace, "cpu", versions[0])

    with Users(defined, namespace) as users:
        link = f"anomalymodel.dev/serving-run.{namespace}.cpu"
        eventually(lambda: link in mlflow.get_model_version(REGISTERED, versions[0]).tags)
        run_id = mlflow.get_model_version(REGISTERED, versions[0]).tags[link]
        eventually(lambda: mlflow.list_artifacts(run_id, "anomalies"))
        mlflow.transition_model_version_stage(REGISTERED, versions[1], "Production", archive_existing_versions=True)
        serves(defined, namespace, "cpu", versions[1])
    assert users.answers.keys() == {200}

    found = status(defined, namespace, "cpu")
    assert [entry["outcome"] for entry in found["history"]] == ["Promoted", "Promoted"]
    assert found["history"][0]["who"]["source"] == "alias"
    run = mlflow.get_run(run_id)
    means = [run.data.metrics[f"mean_abs_shap/{name}"] for name in ("cpu_percent", "memory_percent", "network_mbps")]
    assert min(means) > 0
    assert run.data.tags["mlflow.parentRunId"] == mlflow.get_model_version(REGISTERED, versions[0]).run_id
    record = json.loads(
        Path(mlflow.download_artifacts(run_id, mlflow.list_artifacts(run_id, "anomalies")[0].path)).read_text()
    )
    assert record["anomalies"][0]["row"] == dict.fromkeys(("cpu_percent", "memory_percent", "network_mbps"), 400.0)
    assert "INCREASES" in record["anomalies"][0]["explanation"]["text"]


@pytest.fixture
def artifacts(mlflow, mlflow_server):
    """Return a context in which the registry has lost the artifacts of a version."""

    @contextmanager
    def lost(version):
        stored = mlflow.get_model_version(REGISTERED, version).source.removeprefix("models:/")
        (folder,) = mlflow_server.folder.glob(f"artifacts/**/{stored}")
        aside = mlflow_server.folder / f"aside-{stored}"
        folder.rename(aside)
        try:
            yield
        finally:
            aside.rename(folder)

    return lost


@pytest.mark.usefixtures("operator")
def test_artifacts_that_the_registry_has_lost_matter_neither_to_what_serves_nor_to_its_users(
    mlflow, defined, namespace, versions, artifacts
):
    alias = namespace
    mlflow.set_registered_model_alias(REGISTERED, alias, versions[0])
    applied(defined, namespace, "cpu", alias, poll="500ms", replicas=2, progressDeadlineSeconds=5)
    serves(defined, namespace, "cpu", versions[0])
    before = status(defined, namespace, "cpu")["history"]

    with Users(defined, namespace) as users, artifacts(versions[0]), artifacts(versions[1]):
        # Of the version that serves: a pod that starts again has its cache, a new one takes it from the other.
        known = {pod["metadata"]["name"] for pod in pods(defined, namespace, "blue")}
        gone = min(known)
        defined.kubectl("delete", "pod", gone, "-n", namespace)
        all_ready = "jsonpath={.status.active.readyReplicas}=2"
        eventually(lambda: {pod["metadata"]["name"] for pod in pods(defined, namespace, "blue")} - known)
        pods_ready(defined, namespace)
        wait(defined, namespace, "cpu", all_ready)
        assert users.lost == 0
        # What the process has in hand, and what comes to it until the Service knows, is lost; nothing else is.
        servers(namespace, "blue")[0].kill()
        eventually(lambda: restarts(defined, namespace) == 1)
        pods_ready(defined, namespace)
        wait(defined, namespace, "cpu", all_ready)
        lost = users.lost
        eventually(lambda: status(defined, namespace, "cpu")["phase"] == "Healthy")
        assert status(defined, namespace, "cpu")["history"] == before

        # Of the version that shall follow: it is said, and tried again.
        mlflow.set_registered_model_alias(REGISTERED, alias, versions[1])
        wait(defined, namespace, "cpu", "condition=Stalled")
        eventually(lambda: "the registry lists no files" in status(defined, namespace, "cpu")["message"])
        found = status(defined, namespace, "cpu")
        assert condition(found, "Stalled")["message"] == found["message"]
        assert (found["active"]["version"], found.get("quarantine", [])) == (versions[0], [])
        wait(defined, namespace, "cpu", "condition=Servable")

    assert users.lost == lost, users.answers
    serves(defined, namespace, "cpu", versions[1])


def pods_ready(cluster, namespace):
    """Wait for the pods themselves: the status of their model may be older than what happened to them."""
    cluster.kubectl(*("wait", "pods", "-l", f"{TRACK}blue", "-n", namespace), "--for=condition=Ready", "--timeout=90s")


def restarts(cluster, namespace):
    statuses = [pod["status"].get("containerStatuses") or () for pod in pods(cluster, namespace, "blue")]
    return sum(container["restartCount"] for containers in statuses for container in containers)


@pytest.mark.usefixtures("operator")
def test_a_version_whose_artifacts_were_altered_is_refused_before_any_user_sees_it(
    mlflow, mlflow_server, defined, namespace, versions
):
    # The last test of this module: the version is spoiled for good.
    alias = namespace
    mlflow.set_registered_model_alias(REGISTERED, alias, versions[0])
    applied(defined, namespace, "cpu", alias, poll="500ms")
    serves(defined, namespace, "cpu", versions[0])
    stored = mlflow.get_model_version(REGISTERED, versions[1]).source.removeprefix("models:/")
    (bundle,) = mlflow_server.folder.glob(f"artifacts/**/{stored}/**/anomaly.json")
    bundle.write_text(bundle.read_text() + "\n")

    mlflow.set_registered_model_alias(REGISTERED, alias, versions[1])

    wait(defined, namespace, "cpu", "jsonpath={.status.history[0].outcome}=Aborted")
    found = status(defined, namespace, "cpu")
    assert (found["history"][0]["reason"], found["history"][0]["version"]) == ("ModelRefused", versions[1])
    assert "digest" in found["history"][0]["message"]
    assert found["active"]["version"] == versions[0]
    assert [entry["version"] for entry in found["quarantine"]] == [versions[1]]
    eventually(lambda: tags(mlflow, namespace, versions[1]) == ["Aborted"])

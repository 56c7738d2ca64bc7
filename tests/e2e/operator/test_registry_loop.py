"""A registry that calls, dies and comes back: what users see of it is nothing."""

import json
import logging
import subprocess
import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
from demo.mlflow_server import free_port, launch, stop, wait_until_healthy
from kubernetes import client, config, watch
from tests.e2e.operator.conftest import BIN, REGISTERED, eventually, model

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


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory):
    """A server of the module's own, instead of the session's."""
    registry = Registry(tmp_path_factory.mktemp("registry"))
    yield registry
    registry.kill()


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


def applied(cluster, namespace, name, alias, *, poll, analysis="1s", registered=REGISTERED):
    made = model(namespace, alias)
    made["spec"]["model"]["name"] = registered
    made["metadata"]["name"] = name
    made["spec"]["model"]["pollInterval"] = poll
    made["spec"]["detector"]["replicas"] = 1
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

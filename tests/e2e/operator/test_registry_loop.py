"""A registry that calls when an alias is moved, also after it died and came back."""

import logging
import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
from demo.mlflow_server import free_port, launch, stop, wait_until_healthy
from kubernetes import client, config, watch
from tests.e2e.operator.conftest import model

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
log = logging.getLogger(__name__)

SECRET = "for these tests alone"
WEBHOOKS = {
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    # Without a key of one's own, a server that was restarted cannot read its webhooks any more.
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": "0" * 43 + "=",
}


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


def applied(cluster, namespace, name, alias, registered):
    made = model(namespace, alias)
    made["spec"]["model"]["name"] = registered
    made["metadata"]["name"] = name
    made["spec"]["model"]["pollInterval"] = "1h"  # nobody asks the registry by himself
    cluster.kubectl("apply", "-f", "-", stdin=[made])


def wait(cluster, namespace, name, condition):
    """Wait in parts: one command is cut off sooner."""
    command = ("wait", f"am/{name}", "-n", namespace, f"--for={condition}", "--timeout=60s")
    eventually(lambda: "condition met" in cluster.kubectl(*command, check=False))


def eventually(fact, seconds=600):
    end = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < end, "what was awaited did not happen"
        time.sleep(0.1)
    return found


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
    applied(defined, namespace, "cpu", "champion", hooked)
    applied(defined, namespace, "net", "staging", hooked)
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

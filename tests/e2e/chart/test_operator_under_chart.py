"""The operator as the chart runs it: under its own ServiceAccount and nothing more."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.devcluster.conftest import eventually
from tests.plugins.installed_chart import SYSTEM, Installed, call, namespace, rendered

from anomaly_devcluster import testing

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]  # the first test waits for all fixtures

BIN = Path(sys.executable).parent
MODELS = "/apis/anomalymodel.dev/v1alpha1/namespaces/demo/anomalymodels"
REGISTERED = "under-chart"
PASSWORDS = {"operator": "of-the-operator-5b1f", "model": "of-the-model-93ac"}


def credentials(name, where):
    login = {"MLFLOW_TRACKING_USERNAME": "someone", "MLFLOW_TRACKING_PASSWORD": PASSWORDS[name]}
    metadata = {"name": f"{name}-credentials", "namespace": where}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": login}


def restricted(name):
    """Return a namespace in which a real API server lets no pod run that asks for any privilege."""
    made = namespace(name)
    made["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "restricted"}
    return made


@pytest.fixture(scope="module")
def release(mlflow_server):
    """One release that watches one namespace, with the images as processes of this environment."""
    with testing.cluster() as cluster:
        cluster.load_image(
            "anomaly-operator:0.1.0", ["env", "ANOMALY_OPERATOR_BIND=$(POD_IP)", str(BIN / "anomaly-operator")]
        )
        cluster.load_image("anomaly-detector:0.1.0", [str(BIN / "anomaly-detector"), "--bind", "$(POD_IP)"])
        one = Installed(cluster)
        one.apply(restricted(SYSTEM), restricted("demo"), namespace("elsewhere"))
        one.apply(credentials("operator", SYSTEM), credentials("model", "demo"))
        values = {
            "replicas": 1,
            "watchNamespaces": ["demo"],
            "registry": {"trackingUri": mlflow_server.uri, "credentialsSecret": "operator-credentials"},
            "detector": {
                "image": {"repository": "anomaly-detector"},
                "heartbeatSeconds": 1,
                "readinessPeriodSeconds": 1,
            },
        }
        one.apply(*rendered(values))
        cluster.kubectl("-n", SYSTEM, "rollout", "status", "deployment/anomaly-operator", "--timeout=90s")
        yield one


@pytest.fixture(scope="module")
def served(release, mlflow_server, tmp_path_factory):
    """A model that is Ready."""
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.normal(40, 10, 3000), rng.normal(50, 5, 3000), rng.gamma(2, 3, 3000)])
    data = tmp_path_factory.mktemp("data") / "rows.csv"
    np.savetxt(data, rows, delimiter=",", header="cpu_percent,memory_percent,network_mbps", comments="")
    command = [BIN / "anomaly-train", "--data", data, "--tracking-uri", mlflow_server.uri, "--no-plots"]
    # A server that has just started takes longer than the command waits for by itself.
    env = os.environ | {"MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}
    subprocess.run([*command, "--model", REGISTERED, "--alias", "champion"], env=env, check=True)
    model = {
        "apiVersion": "anomalymodel.dev/v1alpha1",
        "kind": "AnomalyModel",
        "metadata": {"name": "cpu-watch", "namespace": "demo"},
        "spec": {
            "model": {
                "name": REGISTERED,
                "alias": "champion",
                "pollInterval": "1s",
                "credentialsSecretRef": {"name": "model-credentials"},
            },
            "detector": {"replicas": 1},
            "autoscaling": {"minReplicas": 1, "maxReplicas": 2},
            "service": {"port": 8000},
        },
    }
    release.apply(model)
    release.cluster.kubectl("-n", "demo", "wait", "--for=condition=Ready", "anomalymodel/cpu-watch", "--timeout=280s")
    return call(release.admin(), "GET", f"{MODELS}/cpu-watch")


def operator_log(release):
    return release.cluster.kubectl("-n", SYSTEM, "logs", "deployment/anomaly-operator", "--tail=-1")


def test_users_are_served_by_what_the_operator_made(release, served):
    url = "http://{}:{}/predict".format(*release.cluster.address("demo", "cpu-watch"))
    body = json.dumps({"rows": [[99.0, 5.0, 90.0]]}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})

    with urllib.request.urlopen(request, timeout=30) as answer:
        prediction = json.load(answer)["predictions"][0]

    assert prediction["anomaly"] is True
    assert served["status"]["active"]["version"] == "1"


@pytest.mark.usefixtures("served")
def test_a_row_is_explained_from_the_shell(release):
    url = "http://{}:{}".format(*release.cluster.address("demo", "cpu-watch"))
    where = ["-n", "demo", "--kubeconfig", release.cluster.kubeconfig, "--url", url]
    command = [BIN / "kubectl-anomaly", "explain", "cpu-watch", *where, "--row", "[99, 5, 90]"]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Row 1: ANOMALY, score ")
    assert "INCREASES" in done.stdout


@pytest.mark.usefixtures("served")
def test_every_kind_of_child_was_made_under_the_operators_own_rights(release):
    kinds = (
        "deployments,controllerrevisions,services,serviceaccounts,rolebindings,configmaps,"
        "poddisruptionbudgets,networkpolicies,horizontalpodautoscalers"
    )
    selector = "anomalymodel.dev/model=cpu-watch"

    listed = json.loads(release.cluster.kubectl("-n", "demo", "get", kinds, "-l", selector, "-o", "json"))["items"]

    assert {item["kind"] for item in listed} == {
        "Deployment",
        "ControllerRevision",
        "Service",
        "ServiceAccount",
        "RoleBinding",
        "ConfigMap",
        "PodDisruptionBudget",
        "NetworkPolicy",
        "HorizontalPodAutoscaler",
    }
    assert {item["metadata"]["ownerReferences"][0]["name"] for item in listed} == {"cpu-watch"}


@pytest.mark.usefixtures("served")
def test_the_operator_was_refused_nothing(release):
    assert [line for line in operator_log(release).splitlines() if "orbidden" in line] == []


@pytest.mark.usefixtures("served")
def test_the_detector_reports_under_its_own_rights(release):
    pods = "-n", "demo", "get", "pods", "-l", "anomalymodel.dev/model=cpu-watch", "-o", "json"

    def silent():
        items = json.loads(release.cluster.kubectl(*pods))["items"]
        return [pod for pod in items if "anomalymodel.dev/report" not in pod["metadata"].get("annotations", {})]

    eventually(silent, [])  # the autoscaler may have added a pod just now


@pytest.mark.usefixtures("served")
def test_a_namespace_that_is_not_watched_is_left_alone(release):
    model = json.loads(release.cluster.kubectl("-n", "demo", "get", "anomalymodel/cpu-watch", "-o", "json"))
    other = {k: model[k] for k in ("apiVersion", "kind", "spec")}
    release.apply(other | {"metadata": {"name": "cpu-watch", "namespace": "elsewhere"}})

    # The operator answers a command after the other model was made, so it had its chance to see that one.
    command = [BIN / "kubectl-anomaly", "resume", "cpu-watch", "-n", "demo", "--kubeconfig", release.cluster.kubeconfig]
    answered = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (answered.returncode, answered.stderr) == (0, "")
    assert release.cluster.kubectl("-n", "elsewhere", "get", "deployments,services", "-o", "name") == ""


@pytest.mark.usefixtures("served")
def test_no_secret_is_in_a_log_an_event_or_any_object_that_is_no_secret(release):
    key = call(release.admin(), "GET", f"/api/v1/namespaces/{SYSTEM}/secrets/anomaly-operator-admin-key")
    secrets = [*PASSWORDS.values(), key["data"]["private.pem"], "PRIVATE KEY-----", "Bearer ey"]
    kinds = (
        "anomalymodels,pods,deployments,replicasets,controllerrevisions,services,configmaps,serviceaccounts,"
        "events,leases,jobs"
    )
    seen = [operator_log(release), release.cluster.kubectl("get", kinds, "-A", "-o", "yaml", "--show-managed-fields")]
    model = "anomalymodel.dev/model=cpu-watch"
    logs = release.cluster.kubectl("-n", "demo", "logs", "-l", model, "--all-containers", "--tail=-1", "--prefix")
    seen.append(logs)

    assert "[pod/cpu-watch-" in logs
    assert [secret for secret in secrets for text in seen if secret in text] == []

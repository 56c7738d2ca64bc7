"""A release's life by Helm's own library: install, upgrade, uninstall."""

from pathlib import Path

import pytest
from helm_python import Config, HelmError
from tests.plugins.installed_chart import SYSTEM, Installed, RefusedError, call

from anomaly_devcluster import testing

pytestmark = pytest.mark.e2e

CHART = Path(__file__).parents[3] / "charts" / "anomaly-operator"
KEY = f"/api/v1/namespaces/{SYSTEM}/secrets/anomaly-operator-admin-key"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/anomalymodels.anomalymodel.dev"
MODELS = "/apis/anomalymodel.dev/v1alpha1/namespaces/default/anomalymodels"
NO_PODS = {"replicas": 0}


@pytest.fixture(scope="module")
def empty():
    with testing.cluster() as cluster:
        yield Installed(cluster)


@pytest.fixture
def helm(empty):
    with Config(kubeconfig_path=empty.cluster.kubeconfig, namespace=SYSTEM) as config:
        yield config
        config.uninstall("anomaly-operator", ignore_not_found=True)


@pytest.fixture
def release(helm):
    helm.install(CHART, "anomaly-operator", NO_PODS, namespace=SYSTEM, create_namespace=True)
    return helm


@pytest.mark.usefixtures("release")
def test_everything_that_the_chart_renders_is_accepted(empty):
    found = empty.cluster.kubectl(
        "-n", SYSTEM, "get", "deployment,service,secret,role,rolebinding,serviceaccount", "-o", "name"
    )

    assert {
        "deployment.apps/anomaly-operator",
        "service/anomaly-operator",
        "secret/anomaly-operator-admin-key",
        "role.rbac.authorization.k8s.io/anomaly-operator-leader",
        "rolebinding.rbac.authorization.k8s.io/anomaly-operator-leader",
        "serviceaccount/anomaly-operator",
    } <= set(found.split())


def test_an_upgrade_keeps_the_generated_key(empty, release):
    before = call(empty.admin(), "GET", KEY)["data"]

    release.upgrade(CHART, "anomaly-operator", NO_PODS | {"logLevel": "debug"}, namespace=SYSTEM)

    assert call(empty.admin(), "GET", KEY)["data"] == before


def test_an_upgrade_changes_what_was_asked_for(empty, release):
    release.upgrade(CHART, "anomaly-operator", NO_PODS | {"logLevel": "debug"}, namespace=SYSTEM)

    deployment = call(empty.admin(), "GET", f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/anomaly-operator")
    environment = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "ANOMALY_OPERATOR_LOG_LEVEL", "value": "debug"} in environment


def test_helm_keeps_each_revision_in_the_cluster_and_goes_back_to_one(empty, release):
    release.upgrade(CHART, "anomaly-operator", NO_PODS | {"logLevel": "debug"}, namespace=SYSTEM)
    release.rollback("anomaly-operator", version=1)

    assert [(r["revision"], r["status"]) for r in release.history("anomaly-operator")] == [
        (1, "superseded"),
        (2, "superseded"),
        (3, "deployed"),
    ]
    secrets = empty.cluster.kubectl("-n", SYSTEM, "get", "secrets", "-l", "owner=helm,status=deployed", "-o", "name")
    assert secrets.split() == ["secret/sh.helm.release.v1.anomaly-operator.v3"]
    deployment = call(empty.admin(), "GET", f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/anomaly-operator")
    environment = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "ANOMALY_OPERATOR_LOG_LEVEL", "value": "debug"} not in environment


def test_bad_values_change_nothing(empty, release):
    before = call(empty.admin(), "GET", f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/anomaly-operator")

    with pytest.raises(HelmError, match="logLevel"):
        release.upgrade(CHART, "anomaly-operator", {"logLevel": "loud"}, namespace=SYSTEM)

    assert call(empty.admin(), "GET", f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/anomaly-operator") == before


def test_uninstalling_leaves_the_models_and_takes_the_rights(empty, release):
    model = {
        "apiVersion": "anomalymodel.dev/v1alpha1",
        "kind": "AnomalyModel",
        "metadata": {"name": "kept", "namespace": "default"},
        "spec": {"model": {"name": "m", "alias": "champion"}},
    }
    call(empty.admin(), "POST", MODELS, model)

    release.uninstall("anomaly-operator")

    assert call(empty.admin(), "GET", f"{MODELS}/kept")["metadata"]["name"] == "kept"
    assert call(empty.admin(), "GET", CRD)["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    for path in (
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/anomaly-detector",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/anomaly-system-anomaly-operator",
        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/anomaly-detector",
        KEY,
    ):
        with pytest.raises(RefusedError) as gone:
            call(empty.admin(), "GET", path)
        assert gone.value.code == 404

"""What the operator's ServiceAccount may do and what not, asked of the API server with its own token."""

import pytest
from tests.plugins.installed_chart import SYSTEM, RefusedError, call

pytestmark = pytest.mark.e2e

WRITES = ("get", "list", "watch", "create", "patch", "delete")
NEEDED = [
    ("anomalymodel.dev", "anomalymodels", ("get", "list", "watch", "patch")),
    ("anomalymodel.dev", "anomalymodels/status", ("get", "patch")),
    ("", "pods", ("get", "list", "watch")),
    ("", "services", WRITES),
    ("", "configmaps", WRITES),
    ("", "serviceaccounts", WRITES),
    ("apps", "deployments", WRITES),
    ("apps", "deployments/scale", ("get", "patch")),
    ("apps", "controllerrevisions", WRITES),
    ("policy", "poddisruptionbudgets", WRITES),
    ("networking.k8s.io", "networkpolicies", WRITES),
    ("autoscaling", "horizontalpodautoscalers", WRITES),
    ("rbac.authorization.k8s.io", "rolebindings", WRITES),
    ("batch", "jobs", WRITES),
    ("events.k8s.io", "events", ("create", "patch")),
]
FORBIDDEN = [
    ("", "secrets", ("get", "list", "watch", "create", "patch", "delete")),
    ("", "pods", ("create", "patch", "delete")),
    ("", "pods/exec", ("create",)),
    ("", "serviceaccounts/token", ("create",)),
    ("anomalymodel.dev", "anomalymodels", ("create", "delete")),
    ("coordination.k8s.io", "leases", ("get", "create", "update")),
    ("rbac.authorization.k8s.io", "roles", ("create", "patch")),
    ("rbac.authorization.k8s.io", "clusterroles", ("create", "patch", "escalate")),
    ("rbac.authorization.k8s.io", "clusterrolebindings", ("create", "patch")),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies", ("create", "patch", "delete", "list")),
    ("apiextensions.k8s.io", "customresourcedefinitions", ("create", "patch", "delete")),
]


@pytest.fixture(scope="module")
def operator(installed):
    return installed.user(SYSTEM, "anomaly-operator")


def may(api, verb, group, resource, *, namespace="demo", name=""):
    plural, _, sub = resource.partition("/")
    wanted = {
        "verb": verb,
        "group": group,
        "resource": plural,
        "subresource": sub,
        "namespace": namespace,
        "name": name,
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": wanted},
    }
    return call(api, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)["status"]["allowed"]


@pytest.mark.parametrize(
    ("group", "resource", "verbs"), NEEDED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_it_does_it_may_do(operator, group, resource, verbs):
    assert [verb for verb in verbs if not may(operator, verb, group, resource)] == []


@pytest.mark.parametrize(
    ("group", "resource", "verbs"), FORBIDDEN, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_it_does_not_do_it_may_not_do(operator, group, resource, verbs):
    assert [verb for verb in verbs if may(operator, verb, group, resource)] == []


def test_its_lease_is_its_own_and_lies_in_its_own_namespace(operator):
    lease = ("coordination.k8s.io", "leases")

    assert may(operator, "create", *lease, namespace=SYSTEM)
    assert may(operator, "update", *lease, namespace=SYSTEM, name="anomaly-operator")
    assert not may(operator, "update", *lease, namespace=SYSTEM, name="kube-scheduler")


def test_secrets_stay_closed_even_in_its_own_namespace(operator):
    with pytest.raises(RefusedError) as refused:
        call(operator, "GET", f"/api/v1/namespaces/{SYSTEM}/secrets/anomaly-operator-admin-key")

    assert refused.value.code == 403


def role_binding(role, kind="ClusterRole"):
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": f"give-{role}", "namespace": "demo"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": "cpu-watch-anomaly-detector", "namespace": "demo"}],
    }


BINDINGS = "/apis/rbac.authorization.k8s.io/v1/namespaces/demo/rolebindings"


def test_it_can_give_away_the_detectors_role(operator):
    answer = call(operator, "POST", BINDINGS, role_binding("anomaly-detector"))

    assert answer["roleRef"]["name"] == "anomaly-detector"


@pytest.mark.parametrize("role", ["cluster-admin", "edit", "anomalymodels-edit"])
def test_it_can_give_away_no_other_role(operator, role):
    with pytest.raises(RefusedError) as refused:
        call(operator, "POST", BINDINGS, role_binding(role))

    assert refused.value.code == 403


def test_it_sees_whether_the_detectors_policy_is_in_place(operator):
    for plural in ("validatingadmissionpolicies", "validatingadmissionpolicybindings"):
        found = call(operator, "GET", f"/apis/admissionregistration.k8s.io/v1/{plural}/anomaly-detector")

        assert found["metadata"]["name"] == "anomaly-detector"

"""Who is asking, what they may do, and what policies say of what they write."""

import time

import pytest
from tests.e2e.conformance.conftest import MERGE, config_map

pytestmark = pytest.mark.e2e
RBAC = "rbac.authorization.k8s.io"


def eventually(question):
    """Ask until the answer is true; authorisation and policies take effect a moment later on a real control plane."""
    end = time.monotonic() + 60
    while not question():
        assert time.monotonic() < end, "it did not become true within 60 s"
        time.sleep(0.05)


@pytest.fixture
def robot(api, core):
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}}
    api.must("POST", f"{core}/serviceaccounts", account)
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    token = api.must("POST", f"{core}/serviceaccounts/robot/token", request)["status"]["token"]
    return api.as_token(token)


@pytest.fixture
def grant(api, namespace):
    def give(*rules):
        at = f"/apis/{RBAC}/v1/namespaces/{namespace}"
        metadata = {"name": "r"}
        api.must(
            "POST", f"{at}/roles", {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": rules}
        )
        subject = {"kind": "ServiceAccount", "name": "robot", "namespace": namespace}
        role = {"apiGroup": RBAC, "kind": "Role", "name": "r"}
        body = {"apiVersion": f"{RBAC}/v1", "kind": "RoleBinding", "metadata": metadata}
        api.must("POST", f"{at}/rolebindings", {**body, "roleRef": role, "subjects": [subject]})

    return give


def rule(resources, verbs, group="", **more):
    return {"apiGroups": [group], "resources": resources, "verbs": verbs, **more}


def test_a_token_that_nobody_issued_is_unauthorized(api, maps):
    answer = api.as_token("nobody")("GET", maps)
    assert (answer.code, answer.reason) == (401, "Unauthorized")


def test_without_a_role_everything_is_forbidden_in_words(robot, maps, namespace):
    answer = robot("GET", maps)
    assert (answer.code, answer.reason) == (403, "Forbidden")
    who = f"system:serviceaccount:{namespace}:robot"
    assert answer.body["message"] == (
        f'configmaps is forbidden: User "{who}" cannot list resource "configmaps" in API group "" '
        f'in the namespace "{namespace}"'
    )


def test_a_role_allows_what_it_names_and_nothing_else(api, robot, grant, maps):
    api.must("POST", maps, config_map("mine"))
    api.must("POST", maps, config_map("other"))
    grant(rule(["configmaps"], ["get", "patch"], resourceNames=["mine"]))
    eventually(lambda: robot("GET", f"{maps}/mine").code == 200)
    assert robot("PATCH", f"{maps}/mine", {"data": {"k": "v"}}, media=MERGE).code == 200
    refused = [robot("GET", f"{maps}/other"), robot("GET", maps), robot("DELETE", f"{maps}/mine")]
    assert [answer.code for answer in refused] == [403, 403, 403]


def test_a_subresource_needs_a_rule_of_its_own(robot, grant, apps):
    grant(rule(["deployments"], ["get"], "apps"))
    eventually(lambda: robot("GET", f"{apps}/deployments/absent").code == 404)
    assert robot("GET", f"{apps}/deployments/absent/scale").code == 403


def test_nobody_grants_more_than_they_have(robot, grant, namespace):
    grant(rule(["roles"], ["create"], RBAC), rule(["configmaps"], ["get"]))
    at = f"/apis/{RBAC}/v1/namespaces/{namespace}/roles"

    def make(name, *rules):
        metadata = {"name": name}
        return robot(
            "POST", at, {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": rules}
        ).code

    eventually(lambda: make("less", rule(["configmaps"], ["get"])) in (201, 409))
    assert make("more", rule(["secrets"], ["get"])) == 403


@pytest.mark.usefixtures("robot")
def test_a_role_binding_keeps_its_role(api, grant, namespace):
    grant(rule(["pods"], ["get"]))
    patch = {"roleRef": {"name": "other"}}
    path = f"/apis/{RBAC}/v1/namespaces/{namespace}/rolebindings/r"
    assert api("PATCH", path, patch, media=MERGE).reason == "Invalid"


def test_everyone_may_ask_who_they_are_and_what_they_may_do(robot, namespace):
    at = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    kind = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    user = robot.must("POST", at, kind)["status"]["userInfo"]
    assert user["username"] == f"system:serviceaccount:{namespace}:robot"
    assert f"system:serviceaccounts:{namespace}" in user["groups"]
    asked = {"resourceAttributes": {"namespace": namespace, "verb": "delete", "resource": "configmaps"}}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": asked}
    status = robot.must("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)["status"]
    assert status["allowed"] is False


@pytest.mark.usefixtures("robot")
def test_a_token_bound_to_a_pod_names_it_and_dies_with_it(api, core):
    container = {"name": "main", "image": "app:1"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [container]}}
    pod["spec"] |= {"nodeSelector": {"example.dev/nowhere": "true"}, "serviceAccountName": "robot"}
    uid = api.must("POST", f"{core}/pods", pod)["metadata"]["uid"]
    reference = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid}
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"boundObjectRef": reference}}
    bound = api.as_token(api.must("POST", f"{core}/serviceaccounts/robot/token", request)["status"]["token"])
    at = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    kind = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    extra = bound.must("POST", at, kind)["status"]["userInfo"]["extra"]
    assert extra["authentication.kubernetes.io/pod-name"] == ["p"]
    assert extra["authentication.kubernetes.io/pod-uid"] == [uid]
    api("DELETE", f"{core}/pods/p", {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0})
    eventually(lambda: bound("POST", at, kind).code == 401)


@pytest.fixture
def policy(api, namespace):
    """Put a policy on the ConfigMaps of the namespace that are labelled `guarded`."""
    at = "/apis/admissionregistration.k8s.io/v1"
    group = "admissionregistration.k8s.io/v1"
    rules = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}
    guarded = "has(object.metadata.labels) && 'guarded' in object.metadata.labels"
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rules]},
        "matchConditions": [{"name": "guarded", "expression": guarded}],
        "variables": [{"name": "n", "expression": "has(object.data) ? size(object.data) : 0"}],
        "validations": [
            {"expression": "variables.n <= 1", "messageExpression": "'too many: ' + string(variables.n)"},
            {
                "expression": "oldObject == null || !has(oldObject.data) || object.data == oldObject.data",
                "message": "fixed",
            },
        ],
    }
    metadata = {"name": namespace}
    kind = "ValidatingAdmissionPolicy"
    api.must(
        "POST",
        f"{at}/validatingadmissionpolicies",
        {"apiVersion": group, "kind": kind, "metadata": metadata, "spec": spec},
    )
    where = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    binding = {"policyName": namespace, "validationActions": ["Deny"], "matchResources": where}
    kind = "ValidatingAdmissionPolicyBinding"
    bindings = f"{at}/validatingadmissionpolicybindings"
    api.must("POST", bindings, {"apiVersion": group, "kind": kind, "metadata": metadata, "spec": binding})
    yield namespace
    api.must("DELETE", f"{bindings}/{namespace}")
    api.must("DELETE", f"{at}/validatingadmissionpolicies/{namespace}")


def test_a_policy_denies_what_its_expression_says_with_its_message(api, maps, policy):
    bad = config_map("bad", {"a": "1", "b": "2"}, labels={"guarded": "1"})
    eventually(lambda: api("POST", maps, bad, dryRun="All").code == 422)
    answer = api("POST", maps, bad)
    told = f"ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request: too many: 2"
    assert answer.reason == "Invalid"
    assert answer.body["message"] == f'configmaps "bad" is forbidden: {told}'
    api.must("POST", maps, config_map("good", {"a": "1"}, labels={"guarded": "1"}))
    api.must("POST", maps, config_map("free", {"a": "1", "b": "2"}))
    assert api("PATCH", f"{maps}/good", {"data": {"a": "2"}}, media=MERGE).code == 422
    api.must("PATCH", f"{maps}/good", {"metadata": {"annotations": {"k": "v"}}}, media=MERGE)

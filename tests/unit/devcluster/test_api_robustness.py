"""Whatever is sent, the answer is a Status that says what is wrong, never an internal error."""

import copy
import ipaddress

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anomaly_devcluster.api.authentication import ADMIN
from anomaly_devcluster.api.call import Call
from anomaly_devcluster.api.control_plane import ControlPlane
from anomaly_devcluster.api.errors import StatusError

ODD = st.sampled_from(
    [None, True, 0, -1, 1.5, 1e30, "", "x", "é/", [], [None], [{}], ["a", "a"], {}, {"x": {}}, {"a": [1]}]
)
LABELS = {"app": "a"}
POD = {
    "containers": [{"name": "m", "image": "i", "env": [{"name": "A", "value": "1"}], "ports": [{"containerPort": 80}]}],
    "volumes": [{"name": "v", "emptyDir": {}}],
}
TEMPLATE = {"metadata": {"labels": LABELS}, "spec": POD}
CRD_SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "x-kubernetes-validations": [{"rule": "!has(self.n) || self.n < 5"}],
            "properties": {
                "n": {"type": "integer", "minimum": 0},
                "items": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
                },
            },
        }
    },
}
DEFINITION = {
    "group": "b.dev",
    "scope": "Namespaced",
    "names": {"plural": "as", "kind": "A"},
    "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": CRD_SCHEMA}}],
}
POLICY = {
    "matchConstraints": {
        "resourceRules": [{"apiGroups": ["x"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}]
    },
    "validations": [{"expression": "true"}],
}
ADMISSION = "admissionregistration.k8s.io"
RBAC = "rbac.authorization.k8s.io"
OBJECTS = {
    ("", "v1", "configmaps"): {"data": {"k": "v"}},
    ("", "v1", "secrets"): {"stringData": {"k": "v"}},
    ("", "v1", "pods"): {"spec": {**POD, "serviceAccountName": "robot"}},
    ("", "v1", "services"): {"spec": {"selector": LABELS, "ports": [{"port": 80}]}},
    ("", "v1", "namespaces"): {},
    ("", "v1", "persistentvolumeclaims"): {"spec": {"accessModes": ["x"], "resources": {"requests": {"storage": "1"}}}},
    ("events.k8s.io", "v1", "events"): {"note": "n", "regarding": {"kind": "A"}},
    ("apps", "v1", "deployments"): {"spec": {"selector": {"matchLabels": LABELS}, "template": TEMPLATE}},
    ("batch", "v1", "jobs"): {"spec": {"template": {"spec": {**POD, "restartPolicy": "Never"}}}},
    ("autoscaling", "v2", "horizontalpodautoscalers"): {
        "spec": {"maxReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "a"}}
    },
    ("policy", "v1", "poddisruptionbudgets"): {"spec": {"minAvailable": 1, "selector": {"matchLabels": LABELS}}},
    ("networking.k8s.io", "v1", "networkpolicies"): {"spec": {"podSelector": {}}},
    (RBAC, "v1", "roles"): {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
    (RBAC, "v1", "rolebindings"): {
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "a"},
        "subjects": [{"kind": "ServiceAccount", "name": "a", "namespace": "default"}],
    },
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions"): {"spec": DEFINITION},
    (ADMISSION, "v1", "validatingadmissionpolicies"): {"spec": POLICY},
    (ADMISSION, "v1", "validatingadmissionpolicybindings"): {
        "spec": {"policyName": "a", "validationActions": ["Deny"]}
    },
    ("b.dev", "v1", "as"): {"spec": {"n": 1, "items": [{"name": "a"}]}},
}


def paths(value, at=()):
    """Yield the path of every field and element."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*at, key)
        yield from paths(item, (*at, key))


@pytest.fixture(scope="module")
def plane():
    made = ControlPlane(ipaddress.IPv4Network("127.128.0.0/24"))
    made.start("127.0.0.1", 1, "none")
    send(made, ("", "v1", "serviceaccounts"), "create", {"metadata": {"name": "robot"}})
    crd = {"metadata": {"name": "as.b.dev"}, "spec": DEFINITION}
    send(made, ("apiextensions.k8s.io", "v1", "customresourcedefinitions"), "create", crd)
    return made


def send(plane, path, verb, body, name="", **more):
    call = Call(
        user=ADMIN,
        verb=verb,
        resource=plane.catalog.find(*path),
        namespace="default" if path[2] != "namespaces" else name,
        name=name,
        body=orjson.dumps(body),
        **more,
    )
    return getattr(plane.writer, verb)(call)


def attempt(*arguments, **more):
    """Send a request and return the answer, or the refusal."""
    try:
        return send(*arguments, **more)
    except StatusError as refusal:
        return refusal


@settings(max_examples=700, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_odd_value_anywhere_is_refused_or_taken_but_never_an_internal_error(plane, data):
    path = data.draw(st.sampled_from(sorted(OBJECTS)), label="kind")
    name = "as.b.dev" if path[2] == "customresourcedefinitions" else f"n{data.draw(st.integers(0, 5))}"
    body = copy.deepcopy({"metadata": {"name": name, "labels": {"a": "b"}, "finalizers": []}, **OBJECTS[path]})
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.sampled_from(list(paths(body))), label="field")
        target = body
        for key in at[:-1]:
            target = target[key]
        target[at[-1]] = copy.deepcopy(data.draw(ODD, label="value"))
    verb = data.draw(st.sampled_from(["create", "update", "patch"]), label="verb")
    media = ["application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml"]
    content_type = data.draw(st.sampled_from(media)) if verb == "patch" else "application/json"
    named = name if verb != "create" else ""
    answer = attempt(
        plane,
        path,
        verb,
        body,
        named,
        content_type=content_type,
        query={"fieldManager": data.draw(st.sampled_from("ab")), "force": "1"},
        subresource="status" if verb != "create" and data.draw(st.booleans(), label="status") else "",
    )
    if isinstance(answer, StatusError):
        assert answer.code < 500 or answer.code == 501
        assert answer.message
    else:
        assert answer.code in (200, 201)
        assert orjson.loads(answer.body)["metadata"]["name"] == name or verb == "create"

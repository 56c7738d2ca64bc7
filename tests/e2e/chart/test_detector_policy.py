"""What a detector pod's token may do once the chart is installed: annotate itself, and nothing else."""

import pytest
from tests.plugins.installed_chart import RefusedError, call

pytestmark = pytest.mark.e2e

ACCOUNT = "cpu-watch-anomaly-detector"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"


def pod(name, account=ACCOUNT):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "demo",
            "labels": {"anomalymodel.dev/model": "cpu-watch", "anomalymodel.dev/color": "blue"},
            "annotations": {"example.com/owner": "platform"},
        },
        "spec": {
            "serviceAccountName": account,
            "nodeSelector": {"no": "where"},  # the pods need to exist, not to run
            "containers": [{"name": "detector", "image": "detector:1"}],
        },
    }


def binding(name, account):
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": "demo"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "anomaly-detector"},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "demo"}],
    }


def account(name):
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "demo"}}


def path(name):
    return f"/api/v1/namespaces/demo/pods/{name}"


@pytest.fixture(scope="module")
def admin(installed):
    installed.apply(
        account(ACCOUNT),
        account("somebody"),
        binding(ACCOUNT, ACCOUNT),
        binding("somebody", "somebody"),
        pod("one"),
        pod("two"),
        pod("three", "somebody"),
    )
    return installed.admin()


@pytest.fixture(scope="module")
def detector(installed, admin):
    return installed.user("demo", ACCOUNT, pod=call(admin, "GET", path("one"))["metadata"])


def annotate(api, name, annotations, *, media=MERGE):
    return call(api, "PATCH", path(name), {"metadata": {"annotations": annotations}}, media=media)


def test_its_own_annotations_are_applied_without_force(admin, detector):
    report = {"anomalymodel.dev/error-rate": "0.02", "anomalymodel.dev/report": "{}"}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one", "annotations": report}}

    call(detector, "PATCH", path("one") + "?fieldManager=anomaly-detector", body, media=APPLY)

    annotations = call(admin, "GET", path("one"))["metadata"]["annotations"]
    assert annotations["anomalymodel.dev/error-rate"] == "0.02"
    assert annotations["example.com/owner"] == "platform"


def test_a_key_of_its_own_can_be_removed_again(admin, detector):
    annotate(detector, "one", {"anomalymodel.dev/drift-confidence": "0.6"})
    annotate(detector, "one", {"anomalymodel.dev/drift-confidence": None})

    assert "anomalymodel.dev/drift-confidence" not in call(admin, "GET", path("one"))["metadata"]["annotations"]


def test_a_value_of_exactly_the_limit_passes(admin, detector):
    annotate(detector, "one", {"anomalymodel.dev/report": "x" * 8192})

    assert len(call(admin, "GET", path("one"))["metadata"]["annotations"]["anomalymodel.dev/report"]) == 8192


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"annotations": {"anomalymodel.dev/report": "x" * 8193}}, "8192 characters"),
        ({"annotations": {"example.com/mine": "1"}}, "only annotations under anomalymodel.dev/"),
        ({"annotations": {"example.com/owner": "me"}}, "only annotations under anomalymodel.dev/"),
        ({"annotations": {"example.com/owner": None}}, "only annotations under anomalymodel.dev/"),
        ({"labels": {"anomalymodel.dev/color": "green"}}, "labels"),
        ({"labels": {"anomalymodel.dev/color": None}}, "labels"),
        ({"finalizers": ["example.com/stay"]}, "finalizers"),
        (
            {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "0"}]},
            "owner references",
        ),
    ],
    ids=str,
)
def test_nothing_else_of_its_own_metadata_can_be_changed(admin, detector, metadata, words):
    before = call(admin, "GET", path("one"))

    with pytest.raises(RefusedError, match=words) as refused:
        call(detector, "PATCH", path("one"), {"metadata": metadata}, media=MERGE)

    assert refused.value.code in {403, 422}
    assert call(admin, "GET", path("one")) == before


def test_its_own_spec_cannot_be_changed(detector):
    image = [{"op": "replace", "path": "/spec/containers/0/image", "value": "evil:1"}]

    with pytest.raises(RefusedError, match="may not change its spec"):
        call(detector, "PATCH", path("one"), image, media="application/json-patch+json")


def test_another_pod_of_the_same_model_cannot_be_annotated(admin, detector):
    with pytest.raises(RefusedError, match="only itself"):
        annotate(detector, "two", {"anomalymodel.dev/error-rate": "1"})

    assert "anomalymodel.dev/error-rate" not in call(admin, "GET", path("two"))["metadata"]["annotations"]


@pytest.mark.usefixtures("admin")
def test_a_token_that_is_bound_to_no_pod_can_annotate_none(installed):
    unbound = installed.user("demo", ACCOUNT)

    with pytest.raises(RefusedError, match="only itself"):
        annotate(unbound, "one", {"anomalymodel.dev/error-rate": "1"})


@pytest.mark.parametrize(
    ("method", "where"),
    [
        ("GET", path("one")),
        ("GET", "/api/v1/namespaces/demo/pods"),
        ("DELETE", path("one")),
        ("GET", "/api/v1/namespaces/demo/secrets"),
        ("GET", "/apis/anomalymodel.dev/v1alpha1/namespaces/demo/anomalymodels"),
        ("PATCH", path("one") + "/status"),
    ],
)
def test_the_role_allows_no_other_verb_or_resource(detector, method, where):
    body = {"metadata": {"annotations": {"anomalymodel.dev/error-rate": "1"}}} if method == "PATCH" else None

    with pytest.raises(RefusedError) as refused:
        call(detector, method, where, body, media=MERGE)

    assert refused.value.code == 403


def test_an_apply_cannot_create_a_pod(detector):
    body = pod("new")

    with pytest.raises(RefusedError) as refused:
        call(detector, "PATCH", path("new") + "?fieldManager=x", body, media=APPLY)

    assert refused.value.code == 403


def test_service_accounts_that_are_no_detectors_are_left_alone(installed, admin):
    somebody = installed.user("demo", "somebody", pod=call(admin, "GET", path("three"))["metadata"])

    annotate(somebody, "two", {"example.com/note": "hello"})

    assert call(admin, "GET", path("two"))["metadata"]["annotations"]["example.com/note"] == "hello"


LEASES = "/apis/coordination.k8s.io/v1/namespaces/demo/leases"


def lease(name="cpu-watch-source", *, model="cpu-watch", kind="AnomalyModel", uid="0-0-0", **metadata):
    owner = {"apiVersion": "anomalymodel.dev/v1alpha1", "kind": kind, "name": model, "uid": uid}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": "demo", "ownerReferences": [owner], **metadata},
        "spec": {"holderIdentity": "one", "leaseDurationSeconds": 15},
    }


def test_the_lease_of_its_model_s_points_can_be_made_and_renewed_with_the_position(admin, detector):
    spec = {"model": {"name": "m", "alias": "champion"}}
    model = {"apiVersion": "anomalymodel.dev/v1alpha1", "kind": "AnomalyModel", "metadata": {"name": "cpu-watch"}}
    where = "/apis/anomalymodel.dev/v1alpha1/namespaces/demo/anomalymodels"
    uid = call(admin, "POST", where, model | {"spec": spec})["metadata"]["uid"]
    made = call(detector, "POST", LEASES, lease(uid=uid))
    position = {"anomalymodel.dev/source-position": '{"time":"2026-01-01T00:00:00.000000000Z","boot":"b"}'}
    made["metadata"]["annotations"] = position
    made["spec"]["holderIdentity"] = "two"

    renewed = call(detector, "PUT", f"{LEASES}/cpu-watch-source", made)

    assert renewed["metadata"]["annotations"] == position
    with pytest.raises(RefusedError) as late:
        call(detector, "PUT", f"{LEASES}/cpu-watch-source", made)
    assert late.value.code == 409
    renewed["metadata"]["ownerReferences"] = []
    with pytest.raises(RefusedError, match="one Lease only"):
        call(detector, "PUT", f"{LEASES}/cpu-watch-source", renewed)
    renewed["metadata"] = made["metadata"] | {"resourceVersion": renewed["metadata"]["resourceVersion"]}
    renewed["metadata"]["annotations"] = {"example.com/mine": "1"}
    with pytest.raises(RefusedError, match="only annotations under"):
        call(detector, "PUT", f"{LEASES}/cpu-watch-source", renewed)
    call(admin, "DELETE", f"{where}/cpu-watch")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (lease("anomaly-operator"), "one Lease only"),
        (lease("other-source", model="other"), "one Lease only"),
        (lease(kind="ConfigMap"), "one Lease only"),
        (lease(ownerReferences=[]), "one Lease only"),
        (lease(finalizers=["example.com/stay"]), "no finalizers"),
    ],
    ids=["the operator's", "another model's", "another kind of owner", "nobody's", "with a finalizer"],
)
def test_no_other_lease_can_be_made(detector, body, words):
    with pytest.raises(RefusedError, match=words):
        call(detector, "POST", LEASES, body)


def test_a_lease_that_leads_the_operator_cannot_be_taken(admin, detector):
    call(admin, "POST", LEASES, lease("anomaly-operator", ownerReferences=[]))
    there = call(detector, "GET", f"{LEASES}/anomaly-operator")
    there["spec"]["holderIdentity"] = "me"

    with pytest.raises(RefusedError, match="one Lease only"):
        call(detector, "PUT", f"{LEASES}/anomaly-operator", there)

    call(admin, "DELETE", f"{LEASES}/anomaly-operator")

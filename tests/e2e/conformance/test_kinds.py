"""What the API server fills into the built-in kinds and refuses in them."""

import pytest
from tests.e2e.conformance.conftest import MERGE, STRATEGIC, deployment

pytestmark = pytest.mark.e2e


def service(name="s", **spec):
    ports = [{"port": 80, "targetPort": 8080}]
    body = {"selector": {"app": "web"}, "ports": ports, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": body}


def pod(name="p", **container):
    main = {"name": "main", "image": "app:1", **container}
    spec = {"containers": [main], "nodeSelector": {"example.dev/nowhere": "true"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def test_a_deployment_gets_its_defaults(api, apps):
    spec = api.must("POST", f"{apps}/deployments", deployment("web"))["spec"]
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}
    assert (spec["strategy"], spec["progressDeadlineSeconds"], spec["revisionHistoryLimit"]) == (rolling, 600, 10)
    template = spec["template"]["spec"]
    assert (template["restartPolicy"], template["terminationGracePeriodSeconds"]) == ("Always", 30)
    assert template["containers"][0]["imagePullPolicy"] == "IfNotPresent"


def test_a_selector_is_immutable(api, apps):
    api.must("POST", f"{apps}/deployments", deployment("web"))
    patch = {"spec": {"selector": {"matchLabels": {"app": "other"}}}}
    answer = api("PATCH", f"{apps}/deployments/web", patch, media=MERGE)
    assert ("spec.selector", "FieldValueInvalid") in answer.causes


def test_a_service_gets_an_address_and_keeps_it(api, core):
    first = api.must("POST", f"{core}/services", service())["spec"]
    assert first["clusterIPs"] == [first["clusterIP"]]
    assert first["ports"] == [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]
    second = api.must("POST", f"{core}/services", service("t"))["spec"]
    assert second["clusterIP"] != first["clusterIP"]
    patch = {"spec": {"clusterIP": second["clusterIP"], "clusterIPs": second["clusterIPs"]}}
    assert api("PATCH", f"{core}/services/s", patch, media=MERGE).reason == "Invalid"


def test_a_headless_service_has_no_address(api, core):
    assert api.must("POST", f"{core}/services", service(clusterIP="None"))["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize(
    ("ports", "causes"),
    [
        ([], {("spec.ports", "FieldValueRequired")}),
        ([{"port": 80}, {"port": 81, "name": "b"}], {("spec.ports[0].name", "FieldValueRequired")}),
        ([{"port": 70000}], {("spec.ports[0].port", "FieldValueInvalid")}),
    ],
)
def test_ports_of_a_service_are_checked(api, core, ports, causes):
    assert api("POST", f"{core}/services", service(ports=ports)).causes >= causes


def test_a_pod_begins_pending_with_its_token_mounted(api, core):
    body = api.must("POST", f"{core}/pods", pod())
    assert (body["status"]["phase"], body["status"]["qosClass"]) == ("Pending", "BestEffort")
    mounts = [m["mountPath"] for m in body["spec"]["containers"][0]["volumeMounts"]]
    assert mounts == ["/var/run/secrets/kubernetes.io/serviceaccount"]
    assert body["spec"]["serviceAccountName"] == "default"


@pytest.mark.parametrize(
    ("container", "code"),
    [
        ({"resources": {"limits": {"memory": "lots"}}}, 400),
        ({"resources": {"limits": {"memory": "1Mi"}, "requests": {"memory": "2Mi"}}}, 422),
        ({"image": ""}, 422),
        ({"volumeMounts": [{"name": "none", "mountPath": "/x"}]}, 422),
        ({"ports": [{"containerPort": 0}]}, 422),
    ],
)
def test_a_container_that_cannot_be_right_is_refused(api, core, container, code):
    assert api("POST", f"{core}/pods", pod(**container)).code == code


def test_the_spec_of_a_pod_is_immutable_and_its_status_has_a_path(api, core):
    api.must("POST", f"{core}/pods", pod())
    answer = api("PATCH", f"{core}/pods/p", {"spec": {"restartPolicy": "Never"}}, media=MERGE)
    assert answer.causes == {("spec", "FieldValueForbidden")}
    api.must("PATCH", f"{core}/pods/p", {"metadata": {"annotations": {"example.dev/k": "v"}}}, media=MERGE)
    patch = {"status": {"conditions": [{"type": "Custom", "status": "True"}], "message": "m"}}
    status = api.must("PATCH", f"{core}/pods/p/status", patch, media=STRATEGIC)["status"]
    assert (status["message"], status["phase"]) == ("m", "Pending")


def test_string_data_of_a_secret_becomes_data(api, core):
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"token": "hello"}}
    created = api.must("POST", f"{core}/secrets", body)
    assert (created["data"], created["type"]) == ({"token": "aGVsbG8="}, "Opaque")
    assert "stringData" not in created


def test_an_autoscaler_upside_down_is_refused(api, namespace):
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    spec = {"scaleTargetRef": target, "minReplicas": 5, "maxReplicas": 2}
    body = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}, "spec": spec}
    answer = api("POST", f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers", body)
    assert ("spec.maxReplicas", "FieldValueInvalid") in answer.causes


def test_an_eviction_is_refused_while_a_budget_forbids_it(api, core, namespace):
    body = pod()
    body["metadata"]["labels"] = {"app": "guarded"}
    api.must("POST", f"{core}/pods", body)
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "guarded"}}}
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"}, "spec": spec}
    api.must("POST", f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets", budget)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": namespace}}
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    api.must("PATCH", f"{core}/pods/p/status", {"status": status}, media=MERGE)
    answer = api("POST", f"{core}/pods/p/eviction", eviction)
    assert answer.code == 429
    assert answer.body["details"]["causes"][0]["reason"] == "DisruptionBudget"
    assert api("GET", f"{core}/pods/p").code == 200


def test_a_pod_that_has_not_started_is_evicted_whatever_the_budget_says(api, core, namespace):
    body = pod()
    body["metadata"]["labels"] = {"app": "guarded"}
    api.must("POST", f"{core}/pods", body)
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "guarded"}}}
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"}, "spec": spec}
    api.must("POST", f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets", budget)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": namespace}}
    assert api("POST", f"{core}/pods/p/eviction", eviction).code == 201


def test_nothing_is_created_in_a_namespace_that_goes(api):
    metadata = {"name": "conformance-going", "finalizers": []}
    api.must("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    held = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held", "finalizers": ["example.dev/hold"]}}
    path = "/api/v1/namespaces/conformance-going"
    api.must("POST", f"{path}/configmaps", held)
    assert api.must("DELETE", path)["status"]["phase"] == "Terminating"
    late = api("POST", f"{path}/configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}})
    assert (late.code, late.reason) == (403, "Forbidden")
    assert {reason for _, reason in late.causes} == {"NamespaceTerminating"}
    api.must("PATCH", f"{path}/configmaps/held", {"metadata": {"finalizers": None}}, media=MERGE)


def test_an_event_s_words_are_in_the_tables_of_both_its_apis(api, core, namespace):
    events = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
    body = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "e", "namespace": namespace},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "c",
        "reportingInstance": "i",
        "action": "Act",
        "reason": "Why",
        "type": "Normal",
        "note": "what happened",
        "regarding": {"kind": "Pod", "name": "p", "namespace": namespace, "apiVersion": "v1"},
    }
    api.must("POST", events, body)
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    for path in (events, f"{core}/events"):
        (row,) = api("GET", path, accept=accept, fieldSelector="metadata.name=e").body["rows"]
        assert "what happened" in row["cells"]

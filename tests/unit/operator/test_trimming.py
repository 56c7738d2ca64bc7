import copy

from anomaly_operator.domain import parse
from anomaly_operator.runtime.trimming import trimmed

OWN = {"manager": "anomaly-operator", "operation": "Apply", "time": "2026-01-01T00:00:00Z"}


def applied(kind, **parts):
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {
            "name": "m-x",
            "namespace": "ns",
            "uid": "u",
            "resourceVersion": "7",
            "generation": 2,
            "labels": {"anomalymodel.dev/model": "m"},
            "annotations": {
                "anomalymodel.dev/spec-hash": "h",
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
            },
            "ownerReferences": [{"uid": "owner", "controller": True}],
            "managedFields": [
                {**OWN, "fieldsV1": {"f:spec": {"f:b": {}, "f:a": {}}}},
                {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {"f:c": {}}}},
            ],
        },
        **parts,
    }


def test_a_trimmed_object_is_the_same_child_as_the_whole_one():
    for kind in ("ConfigMap", "Deployment", "Service", "PodDisruptionBudget"):
        whole = applied(kind, spec={"replicas": 3, "selector": {"a": "b"}}, data={"k": "v" * 1000})
        assert parse.child(trimmed(kind, whole)) == parse.child(whole)


def test_trimming_twice_changes_nothing_more_and_the_given_object_stays_as_it_is():
    for kind in ("ConfigMap", "Deployment", "Service", "Pod", "AnomalyModel", "ControllerRevision", "Job"):
        whole = applied(kind, spec={"replicas": 3}, status={"replicas": 3})
        before = copy.deepcopy(whole)
        once = trimmed(kind, whole)
        assert whole == before
        assert trimmed(kind, once) == once


def test_a_deployment_keeps_its_replicas_and_status_and_loses_its_template():
    whole = applied("Deployment", spec={"replicas": 3, "template": {"spec": {}}}, status={"replicas": 2})
    kept = trimmed("Deployment", whole)
    assert (kept["spec"], kept["status"]) == ({"replicas": 3}, {"replicas": 2})
    assert parse.deployment(kept) == parse.deployment(whole)


def test_a_pod_is_read_the_same_without_its_spec_and_with_only_those_managed_fields_that_hold_our_annotations():
    report = {"manager": "anomaly-detector", "operation": "Apply", "time": "2026-01-01T00:00:00Z"}
    held = {"f:metadata": {"f:annotations": {"f:anomalymodel.dev/error-rate": {}, "f:other": {}}}}
    whole = applied("Pod", spec={"containers": [{"name": "detector"}]}, status={"podIP": "127.0.0.1"})
    whole["metadata"]["labels"]["anomalymodel.dev/color"] = "blue"
    whole["metadata"]["annotations"]["anomalymodel.dev/error-rate"] = "0.5"
    for manager in ("anomaly-detector", "kubectl"):
        whole["metadata"]["managedFields"] = [
            {**report, "manager": manager, "fieldsV1": held},
            {"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:status": {"f:podIP": {}}}},
        ]
        kept = trimmed("Pod", whole)
        assert parse.pod(kept) == parse.pod(whole)
        assert parse.pod(kept).error_rate.foreign is (manager == "kubectl")
        assert parse.written_at(kept) == parse.written_at(whole)
        assert "spec" not in kept
        assert [entry["manager"] for entry in kept["metadata"]["managedFields"]] == [manager]

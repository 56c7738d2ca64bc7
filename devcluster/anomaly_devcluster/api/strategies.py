"""What the API server itself fills in, kind by kind, beyond constant defaults."""

import base64
from collections.abc import Callable
from typing import Any

from anomaly_devcluster.api.pods import complete_pod_spec, quality_of_service
from anomaly_devcluster.api.resources import Resource

Object = dict[str, Any]


def complete(resource: Resource, body: Object) -> None:
    """Fill in, on every write, what depends on other fields."""
    if fill := _COMPLETE.get(resource.qualified):
        fill(body)


def begin(resource: Resource, body: Object) -> None:
    """Fill in what is set once, at creation."""
    if resource.has_status and resource.qualified != "nodes":
        body.pop("status", None)
    if start := _BEGIN.get(resource.qualified):
        start(body)


def _namespace(body: Object) -> None:
    body["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = body["metadata"]["name"]


def _begin_namespace(body: Object) -> None:
    body["spec"] = {"finalizers": ["kubernetes"]}
    body["status"] = {"phase": "Active"}


def _secret(body: Object) -> None:
    for name, text in body.pop("stringData", {}).items():
        body.setdefault("data", {})[name] = base64.b64encode(text.encode()).decode()


def _service(body: Object) -> None:
    for port in body.get("spec", {}).get("ports") or ():
        port.setdefault("targetPort", port["port"])


def _template(body: Object) -> None:
    complete_pod_spec(body.get("spec", {}).get("template", {}).get("spec") or {})


def _deployment(body: Object) -> None:
    strategy = body.get("spec", {}).get("strategy") or {}
    if strategy.get("type") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxSurge", "25%")
        rolling.setdefault("maxUnavailable", "25%")
    _template(body)


def _workload_labels(body: Object) -> None:
    """Take the labels of a workload from its template, as ReplicaSets without labels do."""
    labels = body.get("spec", {}).get("template", {}).get("metadata", {}).get("labels")
    if labels and not body["metadata"].get("labels"):
        body["metadata"]["labels"] = dict(labels)


def _job(body: Object) -> None:
    spec = body.setdefault("spec", {})
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    _template(body)


def _begin_job(body: Object) -> None:
    metadata, spec = body["metadata"], body["spec"]
    if spec.get("manualSelector"):
        return
    labels = spec.setdefault("template", {}).setdefault("metadata", {}).setdefault("labels", {})
    for prefix in ("", "batch.kubernetes.io/"):
        labels[f"{prefix}job-name"] = metadata["name"]
        labels[f"{prefix}controller-uid"] = metadata["uid"]
    spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": metadata["uid"]}}


def _pod(body: Object) -> None:
    spec = body.setdefault("spec", {})
    spec.setdefault("enableServiceLinks", True)
    complete_pod_spec(spec)
    for container in [*spec.get("containers", ()), *spec.get("initContainers", ())]:
        resources = container.setdefault("resources", {})
        if limits := resources.get("limits"):
            resources["requests"] = limits | resources.get("requests", {})


def _begin_pod(body: Object) -> None:
    body["status"] = {"phase": "Pending", "qosClass": quality_of_service(body["spec"])}


def _begin_claim(body: Object) -> None:
    body["status"] = {"phase": "Pending"}


def _binding(body: Object) -> None:
    for subject in body.get("subjects") or ():
        if subject.get("kind") in ("User", "Group"):
            subject.setdefault("apiGroup", "rbac.authorization.k8s.io")


def _network_policy(body: Object) -> None:
    spec = body.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


_COMPLETE: dict[str, Callable[[Object], None]] = {
    "namespaces": _namespace,
    "secrets": _secret,
    "services": _service,
    "pods": _pod,
    "deployments.apps": _deployment,
    "replicasets.apps": _template,
    "jobs.batch": _job,
    "networkpolicies.networking.k8s.io": _network_policy,
    "rolebindings.rbac.authorization.k8s.io": _binding,
    "clusterrolebindings.rbac.authorization.k8s.io": _binding,
}
_BEGIN: dict[str, Callable[[Object], None]] = {
    "namespaces": _begin_namespace,
    "pods": _begin_pod,
    "persistentvolumeclaims": _begin_claim,
    "jobs.batch": _begin_job,
    "replicasets.apps": _workload_labels,
}
KEPT_BY_STATUS = {"deployments.apps": "labels", "pods": "ownerReferences"}
"""The one part of their metadata that a write of the status leaves alone all the same."""

"""What the API server itself fills in, kind by kind, beyond constant defaults."""

import base64
import copy
from collections.abc import Callable
from typing import Any

from anomaly_devcluster.api.builtin import kinds
from anomaly_devcluster.api.quantities import parse_quantity
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
    body |= copy.deepcopy(kinds()["begin"].get(resource.qualified, {}))
    if start := _BEGIN.get(resource.qualified):
        start(body)


def _namespace(body: Object) -> None:
    body["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = body["metadata"]["name"]


def _secret(body: Object) -> None:
    for name, text in body.pop("stringData", {}).items():
        body.setdefault("data", {})[name] = base64.b64encode(text.encode()).decode()


def _service(body: Object) -> None:
    for port in body.get("spec", {}).get("ports") or ():
        port.setdefault("targetPort", port["port"])


def _complete_pod_spec(spec: Object) -> None:
    """Fill in the pull policy by tag and the old name of serviceAccountName."""
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            if "imagePullPolicy" not in container:
                image = container.get("image", "")
                tag = image.rpartition("/")[2].partition(":")[2]
                latest = "@" not in image and tag in ("", "latest")
                container["imagePullPolicy"] = "Always" if latest else "IfNotPresent"
    if account := spec.get("serviceAccountName") or spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"] = account


def _quality_of_service(spec: Object) -> str:
    """Return the pod's QoS class."""
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    resources = [container.get("resources") or {} for container in containers]
    if not any(r.get("requests") or r.get("limits") for r in resources):
        return "BestEffort"
    for r in resources:
        limits, requests = r.get("limits") or {}, r.get("requests") or {}
        for name in ("cpu", "memory"):
            if name not in limits or parse_quantity(requests.get(name, limits[name])) != parse_quantity(limits[name]):
                return "Burstable"
    return "Guaranteed"


def _template(body: Object) -> None:
    _complete_pod_spec(body.get("spec", {}).get("template", {}).get("spec") or {})


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
    metadata, spec = body["metadata"], body.setdefault("spec", {})
    labels = spec.setdefault("template", {}).setdefault("metadata", {}).setdefault("labels", {})
    for prefix in ("", "batch.kubernetes.io/"):
        labels[f"{prefix}job-name"] = metadata.get("name", "")
        labels[f"{prefix}controller-uid"] = metadata["uid"]
    spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": metadata["uid"]}}


def _pod(body: Object) -> None:
    spec = body.setdefault("spec", {})
    spec.setdefault("enableServiceLinks", True)
    _complete_pod_spec(spec)
    for container in [*spec.get("containers", ()), *spec.get("initContainers", ())]:
        resources = container.setdefault("resources", {})
        if limits := resources.get("limits"):
            resources["requests"] = limits | resources.get("requests", {})


def _begin_pod(body: Object) -> None:
    body["status"]["qosClass"] = _quality_of_service(body.get("spec") or {})


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
    "deployments.apps": _template,
    "replicasets.apps": _template,
    "jobs.batch": _job,
    "networkpolicies.networking.k8s.io": _network_policy,
    "rolebindings.rbac.authorization.k8s.io": _binding,
    "clusterrolebindings.rbac.authorization.k8s.io": _binding,
}
_BEGIN: dict[str, Callable[[Object], None]] = {
    "pods": _begin_pod,
    "jobs.batch": _begin_job,
    "replicasets.apps": _workload_labels,
}
KEPT_BY_STATUS = {"deployments.apps": "labels", "pods": "ownerReferences"}
"""The one part of their metadata that a write of the status leaves alone all the same."""

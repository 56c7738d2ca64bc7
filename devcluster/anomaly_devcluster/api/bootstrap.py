"""The objects that every cluster begins with."""

from typing import TYPE_CHECKING, Any

from anomaly_devcluster.api.authentication import ADMIN
from anomaly_devcluster.api.call import Call

if TYPE_CHECKING:
    from anomaly_devcluster.api.control_plane import ControlPlane

Object = dict[str, Any]
RBAC = ("rbac.authorization.k8s.io", "v1")
_AUTHENTICATED = {"apiGroup": RBAC[0], "kind": "Group", "name": "system:authenticated"}

_READ, _WRITE = ["get", "list", "watch"], ["create", "delete", "deletecollection", "patch", "update"]
_WORKLOADS: list[tuple[list[str], list[str]]] = [
    (
        [""],
        [
            "configmaps",
            "events",
            "persistentvolumeclaims",
            "pods",
            "pods/log",
            "pods/status",
            "serviceaccounts",
            "services",
        ],
    ),
    (["apps"], ["controllerrevisions", "deployments", "deployments/scale", "replicasets", "replicasets/scale"]),
    (["autoscaling"], ["horizontalpodautoscalers"]),
    (["batch"], ["jobs"]),
    (["discovery.k8s.io"], ["endpointslices"]),
    (["events.k8s.io"], ["events"]),
    (["networking.k8s.io"], ["networkpolicies"]),
    (["policy"], ["poddisruptionbudgets"]),
]
_VIEW = [{"apiGroups": groups, "resources": resources, "verbs": _READ} for groups, resources in _WORKLOADS]
_EDIT = [{"apiGroups": groups, "resources": resources, "verbs": _READ + _WRITE} for groups, resources in _WORKLOADS]
_EDIT += [
    {"apiGroups": [""], "resources": ["secrets"], "verbs": _READ + _WRITE},
    {"apiGroups": [""], "resources": ["pods/eviction", "serviceaccounts/token"], "verbs": ["create"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": _READ + _WRITE},
]
_ADMIN = [*_EDIT, {"apiGroups": [RBAC[0]], "resources": ["roles", "rolebindings"], "verbs": _READ + _WRITE}]
_DISCOVERY = [
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
]

CLUSTER_ROLES: dict[str, list[Object]] = {
    "cluster-admin": [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ],
    "system:discovery": [{"nonResourceURLs": _DISCOVERY, "verbs": ["get"]}],
    "system:auth-delegator": [
        {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
        {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
    ],
}
AGGREGATED = {"view": _VIEW, "edit": _EDIT, "admin": _ADMIN}
_BEFORE = {"view": ("view",), "edit": ("view", "edit"), "admin": ("view", "edit", "admin")}


def populate(plane: "ControlPlane", host: str, port: int, authority: str, service_address: str) -> None:
    """Create them; the service account of each namespace is made by a controller."""
    for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
        _create(plane, ("", "v1", "namespaces"), {"metadata": {"name": name}})
    for name, rules in CLUSTER_ROLES.items():
        _create(plane, (*RBAC, "clusterroles"), {"metadata": {"name": name}, "rules": rules})
    for name, rules in AGGREGATED.items():
        labels = {f"{RBAC[0]}/aggregate-to-{name}": "true"}
        _create(
            plane,
            (*RBAC, "clusterroles"),
            {"metadata": {"name": f"system:aggregate-to-{name}", "labels": labels}, "rules": rules},
        )
        selectors = [{"matchLabels": {f"{RBAC[0]}/aggregate-to-{lower}": "true"}} for lower in _BEFORE[name]]
        rule = {"clusterRoleSelectors": selectors}
        _create(plane, (*RBAC, "clusterroles"), {"metadata": {"name": name}, "aggregationRule": rule})
    for name, group in (("cluster-admin", "system:masters"), ("system:discovery", "system:authenticated")):
        subjects = [{**_AUTHENTICATED, "name": group}]
        role = {"apiGroup": RBAC[0], "kind": "ClusterRole", "name": name}
        _create(
            plane, (*RBAC, "clusterrolebindings"), {"metadata": {"name": name}, "roleRef": role, "subjects": subjects}
        )
    service = {"clusterIP": service_address, "ports": [{"name": "https", "port": 443, "targetPort": port}]}
    labels = {"component": "apiserver", "provider": "kubernetes"}
    _create(
        plane,
        ("", "v1", "services"),
        {"metadata": {"name": "kubernetes", "labels": labels}, "spec": service},
        "default",
    )
    endpoints = {
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [host], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
    _create(plane, ("discovery.k8s.io", "v1", "endpointslices"), endpoints, "default")
    trust = {"metadata": {"name": "cluster-info-ca"}, "data": {"ca.crt": authority}}
    _create(plane, ("", "v1", "configmaps"), trust, "kube-public")


def _create(plane: "ControlPlane", path: tuple[str, str, str], body: Object, namespace: str = "") -> None:
    resource = plane.catalog.find(*path)
    if resource is None:
        raise LookupError(path)
    call = Call(user=ADMIN, verb="create", resource=resource, namespace=namespace, user_agent="kube-apiserver")
    plane.writer.add(call, body)

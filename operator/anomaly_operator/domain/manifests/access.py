"""ServiceAccount, RoleBinding and NetworkPolicy of the detector pods."""

from typing import Any

from anomaly_operator.domain import names
from anomaly_operator.domain.manifests.common import child
from anomaly_operator.domain.model import Observed
from anomaly_operator.domain.records import Json
from anomaly_operator.domain.spec import Spec

_OPERATOR = {
    "namespaceSelector": {},
    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "anomaly-operator"}},
}


def service_account(observed: Observed) -> Json:
    """Return the identity of the pods."""
    return child(observed, "v1", "ServiceAccount", names.detector(observed.name))


def role_binding(observed: Observed) -> Json:
    """Let the pods patch pods; the admission policy narrows that to the annotations of each pod's own."""
    return child(
        observed,
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        names.detector(observed.name),
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": names.CLUSTER_ROLE},
        subjects=[{"kind": "ServiceAccount", "name": names.detector(observed.name), "namespace": observed.namespace}],
    )


def network_policy(observed: Observed, spec: Spec) -> Json:
    """Let users reach 8080, the operator and training Jobs 8081, the operator and pods of this model 8082."""
    own = {"podSelector": {"matchLabels": {names.MODEL_LABEL: observed.name}}}
    return child(
        observed,
        "networking.k8s.io/v1",
        "NetworkPolicy",
        names.detector(observed.name),
        spec={
            "podSelector": {"matchLabels": {names.MODEL_LABEL: observed.name}},
            "policyTypes": ["Ingress"],
            "ingress": [
                _ingress(names.USER_PORT, list(spec.network_policy.users)),
                _ingress(names.ADMIN_PORT, [_OPERATOR, _training(observed)]),
                _ingress(names.SHADOW_PORT, [own, _OPERATOR]),
                _ingress(names.METRICS_PORT, []),
            ],
        },
    )


def _ingress(port: int, peers: list[Any]) -> Json:
    rule: Json = {"ports": [{"port": port, "protocol": "TCP"}]}
    return {**rule, "from": peers} if peers else rule


def _training(observed: Observed) -> Json:
    labels = {names.MODEL_LABEL: observed.name, "app.kubernetes.io/component": "retraining"}
    return {"podSelector": {"matchLabels": labels}}

"""`spec.detector`: what the serving pods look like, and `spec.networkPolicy`."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from anomaly_operator.domain.fields import Rule, field, nested

_OURS = ("anomalymodel.dev/", "app.kubernetes.io/")
_PREFIXED = " || ".join(f"k.startsWith('{prefix}')" for prefix in _OURS)
_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"


def _foreign(keys: Any) -> bool:
    return not any(key.startswith(_OURS) for key in keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRef:
    """An existing PersistentVolumeClaim."""

    claim_name: str = field("Name of a ReadWriteMany claim in the same namespace.", maxLength=253, pattern=_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """Where the pods keep the artifact, by digest."""

    persistent_volume_claim: ClaimRef | None = field(
        "A ReadWriteMany claim shared by the pods; without it each pod has an emptyDir.", default=None
    )
    size_limit: str = field("Size limit of the emptyDir, as a quantity.", default="2Gi", maxLength=20)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorSpec:
    """The detector pods. Replicas are live; everything else makes a new revision."""

    RULES: ClassVar = (
        Rule(
            f"!has(self.podLabels) || !self.podLabels.exists(k, {_PREFIXED})",
            "podLabels must not use the prefixes anomalymodel.dev/ and app.kubernetes.io/: rename the key",
            lambda detector: _foreign(detector.pod_labels),
            ".podLabels",
        ),
        Rule(
            f"!has(self.podAnnotations) || !self.podAnnotations.exists(k, {_PREFIXED})",
            "podAnnotations must not use the prefixes anomalymodel.dev/ and app.kubernetes.io/: rename the key",
            lambda detector: _foreign(detector.pod_annotations),
            ".podAnnotations",
        ),
    )

    image: str | None = field(
        "Image of the detector; default from the operator.", default=None, minLength=1, maxLength=1024
    )
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] | None = field(
        "When the image is pulled; default as Kubernetes does.", default=None
    )
    replicas: int = field(
        "Pods of the active color; `kubectl scale am/NAME` writes it. The first size only if something autoscales.",
        default=3, minimum=1, maximum=1000,
    )  # fmt: skip
    resources: dict[str, Any] = field(
        "Requests and limits of the detector container.",
        default={"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}, format="free",
    )  # fmt: skip
    env: tuple[dict[str, Any], ...] = field(
        "Further environment variables, as in a container.", default=(), format="free", maxItems=100
    )
    env_from: tuple[dict[str, Any], ...] = field(
        "Sources of further environment variables, as in a container.", default=(), format="free", maxItems=20
    )
    node_selector: dict[str, str] = field("As in a pod.", default={}, maxProperties=32)
    tolerations: tuple[dict[str, Any], ...] = field("As in a pod.", default=(), format="free", maxItems=32)
    affinity: dict[str, Any] | None = field("As in a pod.", default=None, format="free")
    topology_spread_constraints: tuple[dict[str, Any], ...] = field(
        "As in a pod; without a labelSelector they are given the color's own.", default=(), format="free", maxItems=8
    )
    image_pull_secrets: tuple[dict[str, Any], ...] = field("As in a pod.", default=(), format="free", maxItems=8)
    priority_class_name: str | None = field("As in a pod.", default=None, maxLength=253, pattern=_NAME)
    pod_labels: dict[str, str] = field("Further labels of the pods.", default={}, maxProperties=32)
    pod_annotations: dict[str, str] = field("Further annotations of the pods.", default={}, maxProperties=32)
    pod_security_context: dict[str, Any] | None = field(
        "Merged over the default, which passes the restricted Pod Security standard.", default=None, format="free"
    )
    security_context: dict[str, Any] | None = field(
        "Of the containers, merged over the default, which passes the restricted Pod Security standard.",
        default=None, format="free",
    )  # fmt: skip
    cache: Cache = nested("Where the pods keep the artifact.", Cache)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPolicySpec:
    """Who may reach the detector pods."""

    enabled: bool = field(
        "Make a NetworkPolicy: users reach 8080, the operator 8081, pods of this model 8082.", default=True
    )
    users: tuple[dict[str, Any], ...] = field(
        "Peers that may reach port 8080, as in NetworkPolicy ingress `from`; empty: everybody.",
        default=(), format="free", maxItems=32,
    )  # fmt: skip

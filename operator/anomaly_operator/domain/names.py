"""Names that users, dashboards and other parts depend on: API group, annotation keys, labels, children."""

from anomaly_detector.report import PREFIX
from anomaly_operator.domain.records import Color

GROUP = "anomalymodel.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "AnomalyModel"
PLURAL = "anomalymodels"

FIELD_MANAGER = "anomaly-operator"
CLI_FIELD_MANAGER = "anomaly-cli"

DECISION = PREFIX + "decision"
COMMAND = PREFIX + "command"
REGISTRY_EVENT = PREFIX + "registry-event"
SPEC_HASH = PREFIX + "spec-hash"
TRIGGER = PREFIX + "trigger"
REASON = PREFIX + "reason"

MODEL_LABEL = PREFIX + "model"
COLOR_LABEL = PREFIX + "color"
VERSION_LABEL = PREFIX + "version"
REVISION_LABEL = PREFIX + "revision"
"""Also the annotation of a Deployment that says which revision it carries."""
NO_COLOR = "none"

POLICY = "anomaly-detector"
"""Name of the ValidatingAdmissionPolicy that lets a pod patch its own annotations only."""
CLUSTER_ROLE = "anomaly-detector"

USER_PORT, ADMIN_PORT, SHADOW_PORT, METRICS_PORT = 8080, 8081, 8082, 9090


def track(model: str, color: Color) -> str:
    """Return the name of a color's Deployment, Service and PodDisruptionBudget."""
    return f"{model}-{color}"


def preview(model: str) -> str:
    """Return the name of the Service that leads to the candidate, else the standby."""
    return f"{model}-preview"


def detector(model: str) -> str:
    """Return the name of the ServiceAccount, RoleBinding, HPA, NetworkPolicy and ConfigMap."""
    return f"{model}-anomaly-detector"


def controller_revision(model: str, revision: str) -> str:
    """Return the name of a revision's ControllerRevision."""
    return f"{model}-{revision}"


def selector(model: str, color: str) -> dict[str, str]:
    """Return the labels by which a Service or Deployment selects a color's pods; never a version."""
    return {MODEL_LABEL: model, COLOR_LABEL: color}


def labels(model: str, component: str = "detector") -> dict[str, str]:
    """Return the labels of every child."""
    return {
        "app.kubernetes.io/name": "anomaly-detector",
        "app.kubernetes.io/instance": model,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
        MODEL_LABEL: model,
    }

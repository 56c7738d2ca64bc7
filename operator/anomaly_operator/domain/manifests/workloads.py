"""Deployments, ControllerRevisions, HorizontalPodAutoscaler, PodDisruptionBudgets. `replicas` is in none of them."""

from anomaly_operator.domain import names
from anomaly_operator.domain.manifests.common import child
from anomaly_operator.domain.manifests.pods import on_color
from anomaly_operator.domain.model import Observed, Revision
from anomaly_operator.domain.records import Color, Json
from anomaly_operator.domain.spec import Autoscaling, Spec


def deployment(observed: Observed, spec: Spec, revision: Revision, color: Color) -> Json:
    """Return a color's Deployment with a revision's stored template.

    A color is emptied before it gets another template, so the strategy only matters when somebody edits the active
    one: then no ready pod is given up before the edit is repaired.
    """
    return child(
        observed,
        "apps/v1",
        "Deployment",
        names.track(observed.name, color),
        labels={names.COLOR_LABEL: color},
        annotations={names.REVISION_LABEL: revision.name},
        spec={
            "selector": {"matchLabels": names.selector(observed.name, color)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "100%"}},
            "progressDeadlineSeconds": spec.progress_deadline_seconds,
            "revisionHistoryLimit": 1,
            "template": on_color(observed.name, revision, color),
        },
    )


def controller_revision(observed: Observed, revision: Revision) -> Json:
    """Return the immutable record of a revision."""
    return child(
        observed,
        "apps/v1",
        "ControllerRevision",
        names.controller_revision(observed.name, revision.name),
        labels={names.REVISION_LABEL: revision.name, names.VERSION_LABEL: revision.version},
        revision=revision.sequence,
        data={
            "name": revision.name,
            "version": revision.version,
            "digest": revision.digest,
            "runId": revision.run_id,
            "source": revision.source,
            "contamination": revision.contamination,
            "retrained": revision.retrained,
            "features": list(revision.features),
            "template": dict(revision.template),
        },
    )


def autoscaler(observed: Observed, scaling: Autoscaling, color: Color) -> Json:
    """Return the HPA of the active color."""
    return child(
        observed,
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        names.detector(observed.name),
        spec={
            "scaleTargetRef": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": names.track(observed.name, color),
            },
            "minReplicas": scaling.min_replicas,
            "maxReplicas": scaling.max_replicas,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {
                        "name": "cpu",
                        "target": {
                            "type": "Utilization",
                            "averageUtilization": scaling.target_cpu_utilization_percentage,
                        },
                    },
                }
            ],
        },
    )


def disruption_budget(observed: Observed, color: Color) -> Json:
    """Return a color's PodDisruptionBudget: evictions take one pod at a time."""
    return child(
        observed,
        "policy/v1",
        "PodDisruptionBudget",
        names.track(observed.name, color),
        labels={names.COLOR_LABEL: color},
        spec={"maxUnavailable": 1, "selector": {"matchLabels": names.selector(observed.name, color)}},
    )

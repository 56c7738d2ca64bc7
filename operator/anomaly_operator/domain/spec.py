"""The desired state: `spec` of an AnomalyModel as types, defaults, validation and documentation in one.

`crdgen` makes the CustomResourceDefinition from these declarations, so what `kubectl explain` says is what is here.
Durations are float seconds and quantities int bytes once parsed.
"""

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from anomaly_operator.domain.fields import Rule, field, nested, parse
from anomaly_operator.domain.spec_blue_green import BlueGreen
from anomaly_operator.domain.spec_detector import DetectorSpec, NetworkPolicySpec
from anomaly_operator.domain.spec_gates import DriftSpec, Gates
from anomaly_operator.domain.spec_influxdb import InfluxDB, SourceSpec

_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_URI = r"^https?://[^\s]+$"
PODS, INFLUX = "pods", "influx"
"""Of `spec.retraining.data`: the rows that the pods keep; the points of `spec.source.influxdb`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRef:
    """A Secret in the namespace of the AnomalyModel."""

    name: str = field("Name of a Secret in the same namespace.", maxLength=253, pattern=_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Which registered model to serve, and how its version is found."""

    RULES: ClassVar = (
        Rule(
            "(has(self.alias) ? 1 : 0) + (has(self.version) ? 1 : 0) + (has(self.stage) ? 1 : 0) == 1",
            "exactly one of alias, version and stage is needed: keep the one that says which version to serve, remove"
            " the others",
            lambda model: [model.alias, model.version, model.stage].count(None) == 2,  # noqa: PLR2004 - one of three
        ),
    )

    name: str = field(
        "Name of the registered model in MLflow.", minLength=1, maxLength=250, pattern=r"^[^/:\x00-\x1f]+$"
    )
    alias: str | None = field(
        "Alias whose version is served, e.g. champion; moving it starts a rollout.",
        default=None, minLength=1, maxLength=255, pattern=r"^[\w.\-]+$",
    )  # fmt: skip
    version: str | None = field(
        'Fixed version number to serve, e.g. "3".', default=None, maxLength=20, pattern=r"^[1-9][0-9]*$"
    )  # fmt: skip
    stage: Literal["Production", "Staging"] | None = field(
        "Stage whose newest version is served, for registries that still use stages; aliases are the way.",
        default=None,
    )
    tracking_uri: str | None = field(
        "Address of the MLflow server; default from the operator. Must be one that the operator's chart lists.",
        default=None, maxLength=2048, pattern=_URI,
    )  # fmt: skip
    credentials_secret_ref: SecretRef | None = field(
        "Secret with MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN, ca.crt, or variables of"
        " the artifact store (AWS_..., AZURE_..., GOOGLE_..., MLFLOW_...); mounted into the detector's init container"
        " and training pods only.",
        default=None,
    )
    allow_pickle: bool = field(
        "Accept artifacts that are loaded by cloudpickle, which can run code of whoever wrote them.", default=False
    )
    poll_interval: float = field(
        "How often the registry is asked. A webhook makes it instant, polling stays as the net.",
        default="30s", format="duration",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscaling:
    """A HorizontalPodAutoscaler on the active color; `spec.detector.replicas` is the first size only."""

    RULES: ClassVar = (
        Rule(
            "self.minReplicas <= self.maxReplicas",
            "minReplicas must not be above maxReplicas: lower the one or raise the other",
            lambda scaling: scaling.min_replicas <= scaling.max_replicas,
            ".minReplicas",
        ),
    )

    min_replicas: int = field("Smallest size.", default=1, minimum=1, maximum=1000)
    max_replicas: int = field("Largest size.", minimum=1, maximum=1000)
    target_cpu_utilization_percentage: int = field(
        "Average CPU use that the autoscaler aims at, percent of the request.",
        default=70, name="targetCPUUtilizationPercentage", minimum=1, maximum=1000,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """The Service that users call."""

    port: int = field("Port of the Service.", default=80, minimum=1, maximum=65535)
    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = field("Type of the Service.", default="ClusterIP")
    annotations: dict[str, str] = field("Annotations of the Service.", default={}, maxProperties=32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What was important to the active version, for those who look at it in MLflow."""

    enabled: bool = field(
        "Write mean |SHAP| per feature and the top anomalies of users' rows to an MLflow run linked to the version."
        " The run then holds such rows.",
        default=True,
    )
    interval: float = field("How often; whole periods of the clock.", default="1h", format="duration")


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanations:
    """SHAP explanations of anomalies."""

    enabled: bool = field("Explain anomalies.", default=True)
    top_k: int = field("Features named in an explanation.", default=3, minimum=1, maximum=50)
    recording: Recording = nested("A summary in MLflow of what makes rows anomalous.", Recording)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraining:
    """A new version when the world has moved."""

    enabled: bool = field("Retrain; needs spec.model.alias.", default=False)
    data: str | None = field(
        "What `anomaly-train --data` reads; default: the pods' rings of the last user rows. influx: the points of"
        " spec.source.influxdb, which is needed then unless there is a jobTemplate.",
        default=None, maxLength=2048,
    )  # fmt: skip
    schedule: str | None = field(
        "Also retrain by the clock: a cron expression of five fields, UTC.",
        default=None, maxLength=100, pattern=r"^\S+ \S+ \S+ \S+ \S+$",
    )  # fmt: skip
    min_drift_duration: float = field("Drift must have held this long.", default="30m", format="duration")
    keep_reference: float = field("Share of the old reference in the new data.", default=0.3, minimum=0, maximum=1)
    cooldown: float = field("Shortest time between two retrainings.", default="6h", format="duration")
    max_per_day: int = field("Retrainings per day.", default=4, minimum=1, maximum=100)
    deadline: float = field("Time limit of the Job.", default="1h", format="duration")
    target_alias: str | None = field(
        "Alias that the new version gets; default: spec.model.alias.",
        default=None, minLength=1, maxLength=255, pattern=r"^[\w.\-]+$",
    )  # fmt: skip
    auto_promotion: bool = field("Let a retrained version promote by itself.", default=True)
    job_template: dict[str, Any] | None = field(
        "Job to run, as in a CronJob's jobTemplate; default: the detector image's anomaly-train.",
        default=None, format="free",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """How long a rejected revision stays rejected."""

    duration: float | None = field(
        "Null: until the alias leaves and returns, the revision changes, or `kubectl anomaly retry`.",
        default=None, nullable=True, format="duration",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """Something that can be turned off."""

    enabled: bool = field("Make it.", default=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What the user wants of an AnomalyModel."""

    RULES: ClassVar = (
        Rule(
            "!has(self.retraining) || !self.retraining.enabled || has(self.model.alias)",
            "retraining needs spec.model.alias, which it moves to the new version: follow an alias or set"
            " spec.retraining.enabled to false",
            lambda spec: not spec.retraining.enabled or spec.model.alias is not None,
            ".retraining",
        ),
        Rule(
            "!has(self.retraining) || !self.retraining.enabled || !has(self.retraining.data) ||"
            " self.retraining.data != 'influx' || has(self.retraining.jobTemplate) ||"
            " (has(self.source) && has(self.source.influxdb))",
            "retraining.data influx needs spec.source.influxdb, which says where the points are: add it, or give"
            " spec.retraining.jobTemplate, a Job of your own that knows",
            lambda spec: (
                not spec.retraining.enabled
                or spec.retraining.data != INFLUX
                or spec.retraining.job_template is not None
                or (spec.source is not None and spec.source.influxdb is not None)
            ),
            ".retraining.data",
        ),
    )

    model: ModelSpec = field("Which registered model to serve, and how its version is found.")
    detector: DetectorSpec = nested("The detector pods.", DetectorSpec)
    autoscaling: Autoscaling | None = field("A HorizontalPodAutoscaler on the active color.", default=None)
    service: ServiceSpec = nested("The Service that users call.", ServiceSpec)
    blue_green: BlueGreen = nested("How a new revision takes over.", BlueGreen)
    gates: Gates = nested("Limits that a revision must keep.", Gates)
    drift: DriftSpec = nested("How the detectors look for drift.", DriftSpec)
    explanations: Explanations = nested("SHAP explanations of anomalies.", Explanations)
    influxdb: InfluxDB | None = field("Where the detectors write what they saw.", default=None)
    source: SourceSpec | None = field("Points to score without a client.", default=None)
    retraining: Retraining = nested("A new version when the world has moved.", Retraining)
    quarantine: Quarantine = nested("How long a rejected revision stays rejected.", Quarantine)
    network_policy: NetworkPolicySpec = nested("Who may reach the detector pods.", NetworkPolicySpec)
    pod_disruption_budget: Switch = nested("Keep evictions to one pod at a time.", Switch)
    progress_deadline_seconds: int = field(
        "How long a candidate may take to get ready before it is Stalled.", default=600, minimum=1, maximum=86400
    )
    revision_history_limit: int = field("Entries kept in status.history.", default=10, minimum=1, maximum=100)
    paused: bool = field("Start no new rollout and promote nothing. Rollbacks are never paused.", default=False)

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> "Spec":
        """Read `spec` as the API server holds it; phase gates come out merged over `spec.gates`.

        Unknown fields are ignored. Raises SpecError naming the field, what was there and what is expected.
        """
        plain: Any = copy.deepcopy(value)
        listed = _merge_phase_gates(plain) if isinstance(plain, dict) else {}
        spec = parse(cls, plain, "spec")
        return dataclasses.replace(
            spec,
            blue_green=dataclasses.replace(
                spec.blue_green,
                pre_promotion_analysis=dataclasses.replace(
                    spec.blue_green.pre_promotion_analysis,
                    listed_gates=listed.get("prePromotionAnalysis", frozenset()),
                ),
                post_promotion_analysis=dataclasses.replace(
                    spec.blue_green.post_promotion_analysis,
                    listed_gates=listed.get("postPromotionAnalysis", frozenset()),
                ),
            ),
        )


def _merge_phase_gates(spec: dict[str, Any]) -> dict[str, frozenset[str]]:
    """Put each phase's gates over `spec.gates` in place; returns the gates that each phase names."""
    common = spec.get("gates")
    blue_green = spec.get("blueGreen")
    if common is None:
        common = {}
    if blue_green is None:
        blue_green = spec["blueGreen"] = {}
    if not isinstance(common, dict) or not isinstance(blue_green, dict):
        return {}  # parse() says what is wrong
    parse(Gates, common, "spec.gates")  # what is wrong there is not to be told of a phase
    listed = {}
    for phase in ("prePromotionAnalysis", "postPromotionAnalysis"):
        analysis = blue_green.get(phase)
        if analysis is None:
            analysis = blue_green[phase] = {}
        own = analysis.get("gates") if isinstance(analysis, dict) else None
        if isinstance(analysis, dict) and isinstance(own, dict | None):
            listed[phase] = frozenset(own or {})
            analysis["gates"] = _merged(common, own or {})
    return listed


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result

"""The world as one reconcile sees it, parsed from plain objects into frozen types.

`plan(observed, desired, now) -> Plan` decides from these alone. Objects of the API become these types in
`domain.parse` (pure); the runtime brings what no object holds (see "volatile" below).

Volatile: acknowledged roles, results of replays, receipt times of reports, and how long a track has been short of
pods live in the operator's memory only. All of them may be lost at any time: the plan then asks for them again.

Read your writes: `status`, the Service, Deployments and other children given here must be at least as new as the last
answer that this process got for its own writes; put the answers of writes into the cache.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from anomaly_detector.report import Report, Role
from anomaly_operator.domain.jobs import Job
from anomaly_operator.domain.records import Color, Decision, Status
from anomaly_operator.domain.spec import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """A number that an annotation holds, and whose it is."""

    value: float
    foreign: bool
    """Whether managed fields name another manager than the detector: then it counts as it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """An annotation that could not be read: an Event, never evidence."""

    key: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleOrder:
    """What a pod is told by `PUT /role`."""

    role: Role
    epoch: int
    shadow_percent: float = 0.0
    pass_through: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A detector pod, from its body (`parse.pod`)."""

    name: str
    uid: str
    color: Color
    revision: str
    """Label `anomalymodel.dev/revision`."""
    ip: str = ""
    """Empty until it has one."""
    ready: bool = False
    terminating: bool = False
    started_at: float | None = None
    """`state.running.startedAt` of the container `detector`: a report of an earlier process is no evidence."""
    refusal: str | None = None
    """Termination message of a container that ended with exit code 65: the model was refused."""
    trouble: str | None = None
    """Why it is not getting ready, for people: `ImagePullBackOff: ...`, `Unschedulable: ...`."""
    fetched_digest: str | None = None
    """Digest that the init container `fetch` computed, from its termination message."""
    drift_confidence: Scalar | None = None
    error_rate: Scalar | None = None
    report: Report | None = None
    report_foreign: bool = False
    """Whether the report is held by another manager: then it is no evidence."""
    report_received: float | None = None
    """Volatile: when this process first saw this value of the annotation (operator's clock). For a pod first seen after
    a start: no later than the time of the detector's entry in managedFields (`parse.written_at`)."""
    malformed: tuple[Malformed, ...] = ()
    acknowledged: RoleOrder | None = None
    """Volatile: the newest order that this container (uid and startedAt) answered with 200."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A color's Deployment, from its body (`parse.deployment`)."""

    revision: str
    """Annotation `anomalymodel.dev/revision` of the Deployment."""
    replicas: int
    """`spec.replicas`, written only through /scale."""
    settled: bool = True
    """Whether its controller has seen the newest spec (`status.observedGeneration`)."""
    pods: int = 0
    """`status.replicas`: pods of any template, not counting terminating ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One color: its Deployment and its pods."""

    color: Color
    deployment: Deployment | None = None
    pods: tuple[Pod, ...] = ()
    none_ready_since: float | None = None
    """Volatile: since when no pod was ready, as kept by `availability.watch`."""
    half_unready_since: float | None = None
    """Volatile: since when fewer than half were ready, likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """Version + digest + run + rendered pod template, from a ControllerRevision `<model>-<name>` (`parse.revision`)."""

    name: str
    sequence: int
    version: str
    digest: str
    """Empty while only the first candidate's init container can tell."""
    run_id: str = ""
    source: str = ""
    contamination: float | None = None
    template: Mapping[str, Any] = field(default_factory=dict)
    """Pod template without what differs by color."""
    retrained: bool = False
    features: tuple[str, ...] = ()
    """Names of what the model is asked about, in the order of a row; empty if unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsersService:
    """The Service `<name>`, from its body (`parse.users_service`)."""

    selector: Mapping[str, str]
    decision: Decision | None
    """None: without one, or one that cannot be read."""
    resource_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """Any object that may be one of ours, for repair (`parse.child`)."""

    kind: str
    name: str
    owner_uid: str | None
    """UID of its controlling owner."""
    spec_hash: str = ""
    """Annotation `anomalymodel.dev/spec-hash`."""
    fingerprint: str = ""
    """Changes when somebody changes what was applied: made of generation and the operator's managed fields."""
    owned: tuple[str, ...] = ()
    """Those managed fields, as JSON text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """Volatile: what came of a `Replay` for one pod."""

    done: bool
    """False while it runs."""
    at: float
    """When it began (not done) or ended (done)."""
    error: str | None = None
    """Why it could not be carried out (no connection, timeout, 404 NoReference on every pod): tried again later."""
    requests: int = 0
    failed: int = 0
    """Answered 5xx or not within the time limit."""
    rows: int = 0
    anomalies: int = 0
    latency: tuple[int, ...] = ()
    """The pod's own histogram for `replay` requests (buckets of `report.LATENCY_BOUNDS_MS`), from `GET /stats`."""
    rss_bytes: int | None = None
    no_reference: bool = False
    """The model has no reference sample: the input example was sent instead, the anomaly rate says nothing."""
    contamination: float | None = None
    """As `GET /reference` says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What the annotation `anomalymodel.dev/command` asks for (`parse.command`)."""

    id: str
    verb: str
    revision: str | None = None
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything about one AnomalyModel that is."""

    name: str
    namespace: str
    uid: str
    generation: int
    deleting: bool = False
    """`metadata.deletionTimestamp` is set."""
    command: Command | None = None
    malformed: tuple[Malformed, ...] = ()
    """Of the AnomalyModel's own annotations, e.g. a command that cannot be read."""
    status: Status = field(default_factory=Status)
    service: UsersService | None = None
    """None if there is none (or, after a failed read, never: then do not plan at all)."""
    tracks: Mapping[Color, Track] = field(default_factory=dict)
    revisions: Mapping[str, Revision] = field(default_factory=dict)
    """By `Revision.name`."""
    children: Mapping[tuple[str, str], Child] = field(default_factory=dict)
    """By (kind, name): every object in the namespace with a name that a child of ours may have, whoever owns it."""
    applied: Mapping[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    """Volatile: (spec hash, fingerprint) of a child right after this process last applied it, by (kind, name)."""
    smoke_tests: Mapping[str, ReplayResult] = field(default_factory=dict)
    """Volatile: newest result of a smoke test, by pod UID."""
    replays: Mapping[str, ReplayResult] = field(default_factory=dict)
    """Volatile: newest result of a replay for thin traffic, by pod UID; forgotten when the candidate changes."""
    jobs: tuple[Job, ...] = ()
    policy_in_place: bool | None = True
    """Whether the ValidatingAdmissionPolicy `anomaly-detector` and a binding of it exist; None: not known yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The registry's answer: the version that `spec.model` names."""

    reference: str
    """What was asked: `alias champion`, `version 3`, `stage Production` (`revisions.reference`)."""
    model: str
    """Registered model that was asked about."""
    version: str
    run_id: str = ""
    source: str = ""
    digest: str | None = None
    """Version tag `anomalymodel.dev/digest`."""
    contamination: float | None = None
    """Version tag `anomalymodel.dev/contamination`, else the run's parameter."""
    artifact_format: str | None = None
    """Version tag `anomalymodel.dev/format`: skops or cloudpickle."""
    features: tuple[str, ...] = ()
    """Version tag `anomalymodel.dev/features`: names in the order of a row; empty if unknown."""
    size: int | None = None
    """Version tag `anomalymodel.dev/size`: bytes of the artifact."""
    scikit_learn: str = ""
    """Version tag `anomalymodel.dev/scikit-learn`: which one logged it; empty if unknown."""
    retrained: bool = False
    """Whether the version's tags say that a retraining made it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unresolved:
    """Why there is no version: the registry's own words."""

    reference: str
    model: str
    reason: Literal["NotFound", "Unreachable", "Forbidden", "NotAllowed"]
    """NotAllowed: the tracking URI is not one that the operator may ask."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSettings:
    """Settings of the operator that end up in children."""

    detector_image: str
    tracking_uri: str = ""
    """Default of `spec.model.trackingUri`."""
    heartbeat_seconds: float = 60.0
    readiness_period_seconds: int = 2
    require_policy: bool = True
    jwks: str = '{"keys":[]}'
    """JWK Set of the operator's public keys, as JSON text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What is wanted."""

    spec: Spec
    """As parsed. If the newest one does not parse: the last one of this process that did, else all defaults."""
    spec_error: str | None = None
    """Why the newest spec does not parse. Nothing new is begun then; what runs is guarded on."""
    resolution: Resolved | Unresolved | None = None
    """Volatile: newest answer of the registry; None until the first. When the registry cannot be reached, the newest
    `Resolved` stays and `unreachable` says why."""
    unreachable: str | None = None
    settings: PodSettings

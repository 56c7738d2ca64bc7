"""Everything that a plan may ask for. The executor performs the actions in order.

An action that fails ends the plan (the next one starts from the world as it is then), except those marked *best
effort*: their failure is logged and they are asked for again. Best-effort actions that follow one another may run
concurrently. Every action is idempotent. Before every write the Lease's fence is checked.
Field manager of all applies: `anomaly-operator`, force, except where said otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from anomaly_operator.domain.records import Color, HistoryEntry, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchTraffic:
    """Apply the users' Service: selector and decision in one write. The only traffic action; at most one a plan.

    A live GET of the Service and its pods (and a new plan from it) precedes it.
    """

    manifest: Mapping[str, Any]
    resource_version: str | None
    """Compare-and-set for promotions: put into the applied object's metadata. None for rollbacks and repairs."""
    rollback: bool
    """For metrics: measure from the receipt of the evidence to the acknowledged write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TellRole:
    """`PUT /role` on a pod's admin port. Best effort. Success is remembered as `Pod.acknowledged`."""

    pod: str
    uid: str
    ip: str
    role: Literal["active", "candidate", "standby", "draining"]
    epoch: int
    shadow_percent: float
    pass_through: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyChild:
    """Server-side apply of a child. Remember its spec hash and fingerprint from the answer (`Observed.applied`)."""

    manifest: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRevision:
    """Create a ControllerRevision (they are immutable); AlreadyExists is success."""

    manifest: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Write `spec.replicas` of a color's Deployment through /scale (merge patch)."""

    deployment: str
    color: Color
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Delete a child, Background, with a precondition on nothing; NotFound is success."""

    api_version: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Start replaying reference rows at pods in the background. Best effort; ignored for a pod where one runs.

    Per pod: `GET /reference?rows=` on 8081 of `reference` (the pod itself if empty), `POST /predict` on its 8082 with
    `x-anomaly-source: replay` in small requests (4 rows), then `GET /stats`. Results go to `Observed.smoke_tests` or
    `.replays`, by pod UID, and requeue the model.
    """

    purpose: Literal["smoke", "analysis"]
    pods: tuple[tuple[str, str, str], ...]
    """(name, uid, ip) of each pod to send rows to."""
    reference: tuple[str, str, str] | None
    """(name, uid, ip) of the pod whose reference rows are sent to all; None: each pod's own."""
    rows: int
    timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteStatus:
    """Apply `/status` (the whole of it; one field manager). `codec.to_json(status)` is the body."""

    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class EmitEvent:
    """Create an events.k8s.io/v1 Event about the AnomalyModel (or a pod). Best effort.

    Its name is made from the model's UID and `key`, so that a repetition is AlreadyExists, which is success.
    """

    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    key: str
    action: str = "Reconcile"
    pod: str | None = None
    """Name of the pod that it regards; None: the AnomalyModel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishDecision:
    """Write one JSON log line and count it in the metrics. The registry is told of what `status` holds."""

    entry: HistoryEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class StartJob:
    """Create a retraining Job; AlreadyExists is success (names are deterministic).

    With `pods` the Job is suspended: then create a Secret of the Job's name, owned by the Job, whose `pods.json` opens
    their windows (docs/pod-contract.md, "A training Job"; tokens with the scope `window`, an hour), and resume the Job.
    """

    manifest: Mapping[str, Any]
    pods: tuple[tuple[str, str, str], ...] = ()
    """(name, uid, ip) of the pods whose rings are the data; empty: the data come from elsewhere."""


Action = (
    SwitchTraffic
    | TellRole
    | ApplyChild
    | CreateRevision
    | Scale
    | Delete
    | Replay
    | WriteStatus
    | EmitEvent
    | PublishDecision
    | StartJob
)

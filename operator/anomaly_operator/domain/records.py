"""What is remembered durably: the decision on the users' Service, and `status` of the AnomalyModel.

Only these two and the ControllerRevisions survive the operator. The decision is written in the same apply as the
selector and holds everything from which `status.active`, `standby`, `history` and `quarantine` are completed.
JSON names are these names in camelCase; times are RFC 3339 there and epoch seconds here (see `codec`).
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from anomaly_operator.domain.shown import Condition, LastReport
from anomaly_operator.domain.times import Time

Color = Literal["blue", "green"]
TestName = Literal["ks", "wasserstein", "anderson", "jensenShannon", "welch"]
COLORS: tuple[Color, Color] = ("blue", "green")
Phase = Literal["Progressing", "Healthy", "Paused", "Degraded"]
Outcome = Literal["Promoted", "RolledBack", "Restored", "Aborted"]


def other(color: Color) -> Color:
    """Return the color that is not `color`."""
    return "green" if color == "blue" else "blue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One measurement behind a decision."""

    metric: str
    """errorRate, drift, availability, anomalyRate, latencyP95, memory, ..."""
    value: float | None = None
    limit: float | None = None
    samples: int | None = None
    """Requests, rows or pods that the value was made of."""
    kind: str | None = None
    """absolute, relative, differential, annotation or replay: which rule was broken, or where the value is from."""
    text: str | None = None
    """The same in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """Who caused a decision, as far as it can be known."""

    source: Literal["alias", "command", "spec", "automatic"]
    claimed: str | None = None
    """The user whom the command names; an admission policy makes it the requesting one."""
    command: str | None = None
    """Id of the command: carried in the decision, so that a restart does not obey it twice."""


AUTOMATIC = Who(source="automatic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A revision on a color."""

    color: Color
    revision: str
    version: str = ""
    digest: str = ""
    run_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Who is active, and why: annotation `anomalymodel.dev/decision` of the users' Service."""

    revision: str
    """The active revision from now on; `to.revision`."""
    to: Placed
    source: Placed | None = field(default=None, metadata={"json": "from"})
    """The track that was left (`from` in JSON); none at the first deployment."""
    outcome: Outcome
    reason: str
    """One CamelCase word: Deployed, Promoted, ErrorRateExceeded, DriftDetected, Unavailable, Requested, ..."""
    message: str = ""
    evidence: tuple[Evidence, ...] = ()
    who: Who = AUTOMATIC
    time: Time
    started_at: Time | None = None
    """When the rollout that ends here began."""
    epoch: int = 1
    """Grows with each decision; told to the pods with their role, so that an older order cannot win."""
    pending: tuple["Decision", ...] = ()
    """Earlier decisions that status had not recorded yet when this one was made, oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One line of `status.history`: a switch, a rollback or an abort."""

    revision: str
    """The revision that the entry is about: promoted, aborted, or rolled back *from*."""
    version: str = ""
    digest: str = ""
    run_id: str = ""
    outcome: Outcome
    reason: str
    message: str = ""
    evidence: tuple[Evidence, ...] = ()
    who: Who = AUTOMATIC
    active: str = ""
    """The revision that served users afterwards."""
    active_version: str = ""
    previous: str = ""
    """The revision that served users before, if the decision moved them."""
    previous_version: str = ""
    started_at: Time | None = None
    ended_at: Time
    epoch: int = 0
    """Of the decision that it was completed from; 0 for aborts."""
    hash: str = ""
    """sha256 over this entry without `hash`, and the hash of the one before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A revision that must not get users: it failed a gate, refused its model or was rolled back from."""

    revision: str
    version: str = ""
    reason: str
    message: str = ""
    since: Time
    alias_left: bool = False
    """Whether the registry has pointed elsewhere since; when it returns, the quarantine ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackStatus:
    """A line of `status.active`, `candidate`, `standby`."""

    color: Color
    revision: str
    version: str = ""
    digest: str = ""
    run_id: str = ""
    ready_replicas: int = 0
    since: Time
    expires_at: Time | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How far `status.candidate` has come (`status.trial`); gone with the candidate."""

    revision: str
    who: Who = AUTOMATIC
    smoke_tested_at: Time | None = None
    """When every pod had passed the smoke test."""
    analysis_started_at: Time | None = None
    passed_at: Time | None = None
    """When the analysis was passed (or overruled by `promote`)."""
    evidence: tuple[Evidence, ...] = ()
    """What it passed with."""
    promoted_by: Who | None = None
    """Set by the command `promote`."""
    hastened: bool = False
    """Whether that came before the analysis had passed."""
    retrained: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Retreat:
    """A rollback that is decided and waits for its target's first ready pod (`status.retreat`).

    With `status.candidate` beside it, it has given way to a newer version: its target did not get ready in time.
    """

    source: Placed = field(metadata={"json": "from"})
    """The track that is to be left."""
    revision: str
    """Revision to go back to."""
    reason: str
    message: str = ""
    evidence: tuple[Evidence, ...] = ()
    who: Who = AUTOMATIC
    since: Time
    passing: bool = False
    """Whether it lasts no longer than its cause does: pods that return are served on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftTest:
    """One of the five tests of a feature."""

    test: TestName
    value: float
    threshold: float | None = None
    """What it was compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftedFeature:
    """A feature (or the model's score, named `score`) in which pods saw drift, as the worst of them measured it."""

    feature: str
    votes: int
    """Of five tests."""
    pods: int
    """Pods that saw it."""
    tests: tuple[DriftTest, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftEpisode:
    """A drift breach of the active revision and what was found out about it (`status.drift`)."""

    revision: str
    since: Time
    """When the operator first saw the breach."""
    window_start: Time | None = None
    """Start of the active track's breaching window, by the pods' clocks: the control must be judged on later rows."""
    control: str | None = None
    """Revision that is the yardstick; none if there is no good one."""
    control_since: Time | None = None
    verdict: Literal["Pending", "Drifted", "NoControl", "NoStepBack"] = "Pending"
    cleared_since: Time | None = None
    """Since when the active track has said that all is well again."""
    evidence: tuple[Evidence, ...] = ()
    features: tuple[DriftedFeature, ...] = ()
    """The worst of them when the breach was first seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraining:
    """One line of `status.retrainings`, newest first."""

    job: str
    trigger: Literal["Drift", "Schedule", "Command"]
    reason: str = ""
    started_at: Time
    ended_at: Time | None = None
    outcome: Literal["Running", "Succeeded", "Failed"] = "Running"
    failure: str = ""
    """Why it failed, in one word: JobFailed, DeadlineExceeded, NotBetter, NeverBegan, Lost."""
    message: str = ""
    version: str | None = None
    run_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LastCommand:
    """Answer to the newest command."""

    id: str
    verb: str
    by: str = ""
    outcome: Literal["Accepted", "Refused"]
    message: str = ""
    time: Time


@dataclass(frozen=True, slots=True, kw_only=True)
class PausedStatus:
    """Why no rollout is started and nothing is promoted."""

    reason: str
    since: Time
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """`status` of an AnomalyModel, as the operator keeps it."""

    observed_generation: int = 0
    phase: Phase = "Progressing"
    step: str = ""
    message: str = ""
    conditions: tuple[Condition, ...] = ()
    active: TrackStatus | None = None
    candidate: TrackStatus | None = None
    standby: TrackStatus | None = None
    replicas: int = 0
    selector: str = ""
    last_report: LastReport | None = None
    quarantine: tuple[Quarantined, ...] = ()
    retrainings: tuple[Retraining, ...] = ()
    paused: PausedStatus | None = None
    last_command: LastCommand | None = None
    history: tuple[HistoryEntry, ...] = ()
    history_anchor: str = ""
    history_told: str = ""
    """Hash of the newest entry that is in the log and has its Event."""
    trial: Trial | None = None
    retreat: Retreat | None = None
    drift: DriftEpisode | None = None
    decision_epoch: int = 0
    """Newest decision that this status records."""


Json = dict[str, Any]

"""What stands on each color, and how to get there: a color is emptied before it is filled with another revision.

The placement of both colors follows from what is remembered alone, so that any interruption ends in the same place.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from anomaly_detector.report import Report
from anomaly_operator.domain import drift, names
from anomaly_operator.domain.actions import Action, ApplyChild, Scale, TellRole
from anomaly_operator.domain.children import needs_apply
from anomaly_operator.domain.evidence import is_of_the_running_container
from anomaly_operator.domain.manifests.workloads import deployment as deployment_manifest
from anomaly_operator.domain.model import Pod, RoleOrder
from anomaly_operator.domain.records import COLORS, Color
from anomaly_operator.domain.situation import Situation

DRAIN_SECONDS = 90.0
"""How long a loser may keep users' open connections after a switch."""
ROLE_RETRY_SECONDS = 1.0
UNTOLD_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What shall stand on a color."""

    revision: str | None
    """None: whatever stands there, as it is."""
    replicas: int


def placement(s: Situation, color: Color) -> Placement | None:
    """Return what shall stand on a color; None: nothing has to change."""
    if s.active is not None and color == s.active.color:
        return Placement(revision=s.active.revision, replicas=s.full_size)
    return _idle_placement(s) if color == s.idle_color else None


def converge(s: Situation) -> Iterator[Action]:
    """Return the steps towards the placements that can be taken now, the active color's first."""
    for color in (s.active.color, s.idle_color) if s.active else COLORS:
        wanted = placement(s, color)
        if wanted is not None:
            yield from _towards(s, color, wanted)


def roles(s: Situation) -> Iterator[TellRole]:
    """Tell every pod its role until it has acknowledged it and its report does not contradict."""
    for color in COLORS:
        for pod in s.track(color).pods:
            order = _order(s, pod)
            if order is None or not pod.ip or _has_heard(pod, order):
                continue
            s.is_past(s.now + ROLE_RETRY_SECONDS)
            yield TellRole(
                pod=pod.name,
                uid=pod.uid,
                ip=pod.ip,
                role=order.role,
                epoch=order.epoch,
                shadow_percent=order.shadow_percent,
                pass_through=order.pass_through,
            )


def untold(s: Situation) -> tuple[str, ...]:
    """Return the active pods that serve users and have not heard of it for long: nobody can reach their admin port."""
    pods = (pod for pod in s.active_pods() if pod.ready and (order := _order(s, pod)) and not _has_heard(pod, order))
    return tuple(pod.name for pod in pods if s.now > max(s.switched_at, pod.started_at or s.now) + UNTOLD_SECONDS)


def loser_is_draining(s: Situation) -> bool:
    """Return whether users' connections may still be open at the color that was left last, for at most 90 s."""
    decision = s.decision
    if decision is None or decision.source is None:
        return False
    open_ones = any(
        pod.report is not None and pod.report.openUserConnections > 0
        for pod in s.track(decision.source.color).pods
        if pod.revision == decision.source.revision and not pod.terminating
    )
    return open_ones and not s.is_past(decision.time + DRAIN_SECONDS)


def candidate_size(s: Situation) -> int:
    """Return how many pods the candidate shall have now: full size before traffic."""
    candidate, trial = s.memory.candidate, s.memory.trial
    if candidate is not None and not candidate.digest:
        return 1  # the first pod's init container computes the digest; it is pinned before there is a second one
    preview = s.spec.blue_green.preview_replica_count
    passed = trial is not None and trial.passed_at is not None
    return s.full_size if preview is None or passed or s.active is None else min(preview, s.full_size)


def _idle_placement(s: Situation) -> Placement | None:
    memory = s.memory
    live = s.track(s.active.color).deployment if s.active else None
    size = live.replicas if live and live.replicas > 0 else s.full_size
    if memory.candidate is not None:
        return Placement(revision=memory.candidate.revision, replicas=candidate_size(s))
    if memory.retreat is not None:
        return Placement(revision=memory.retreat.revision, replicas=size)
    if memory.standby is not None:
        return Placement(revision=memory.standby.revision, replicas=size)
    return None if _lingers(s) else Placement(revision=None, replicas=0)


def _lingers(s: Situation) -> bool:
    """Return whether a rejected revision is kept a while: for a look at it, and until its connections are closed."""
    deployment = s.track(s.idle_color).deployment
    if deployment is None or deployment.replicas == 0:
        return True
    rejected = next((q for q in s.memory.quarantine if q.revision == deployment.revision), None)
    delay = s.spec.blue_green.abort_scale_down_delay_seconds
    kept = rejected is not None and not s.is_past(rejected.since + delay)
    return kept or loser_is_draining(s)


def _towards(s: Situation, color: Color, wanted: Placement) -> Iterator[Action]:
    deployment, name = s.track(color).deployment, names.track(s.observed.name, color)
    if not s.owns("Deployment", f"-{color}"):
        return
    if wanted.revision is None:
        if deployment is not None and deployment.replicas != wanted.replicas:
            yield Scale(deployment=name, color=color, replicas=wanted.replicas)
        return
    revision = s.revision(wanted.revision)
    active = s.active is not None and color == s.active.color
    if deployment is not None and deployment.revision != wanted.revision and not active:
        if deployment.replicas > 0:
            yield Scale(deployment=name, color=color, replicas=0)
            return
        if not _is_empty(s, color):
            return
    if revision is not None:
        manifest = deployment_manifest(s.observed, s.spec, revision, color)
        if needs_apply(s, manifest):
            yield ApplyChild(manifest=manifest)
    exists = deployment is not None or revision is not None
    if exists and (deployment is None or deployment.replicas != wanted.replicas):
        yield Scale(deployment=name, color=color, replicas=wanted.replicas)


def _is_empty(s: Situation, color: Color) -> bool:
    track = s.track(color)
    deployment = track.deployment
    gone = deployment is None or (deployment.settled and deployment.pods == 0)
    return gone and all(pod.terminating for pod in track.pods)


def _order(s: Situation, pod: Pod) -> RoleOrder | None:
    """Return what a pod is to be told; None if nothing."""
    if pod.terminating or s.active is None:
        return None if pod.terminating else _candidate_order(s, pod)
    if pod.color == s.active.color:
        if pod.revision != s.active.revision:
            return None
        return RoleOrder(role="active", epoch=s.epoch, shadow_percent=_shadow_percent(s))
    memory = s.memory
    if memory.candidate is not None and pod.revision == memory.candidate.revision:
        return _candidate_order(s, pod)
    decision = s.decision
    if decision is not None and decision.source is not None and pod.revision == decision.source.revision:
        rolled_back = decision.outcome == "RolledBack"
        if rolled_back or (loser_is_draining(s) and not drift.needs_control(memory)):
            return RoleOrder(role="draining", epoch=s.epoch, pass_through=rolled_back)
    return RoleOrder(role="standby", epoch=s.epoch)


def _candidate_order(s: Situation, pod: Pod) -> RoleOrder | None:
    candidate = s.memory.candidate
    if candidate is None or pod.revision != candidate.revision:
        return None
    return RoleOrder(role="candidate", epoch=s.epoch)


def _shadow_percent(s: Situation) -> float:
    """Return which share of users' requests the active pods copy to the other color."""
    memory, shadow = s.memory, s.spec.blue_green.shadow
    if memory.retreat is not None and memory.candidate is None:
        return 0.0
    if memory.trial is not None:
        return shadow.percent if memory.trial.smoke_tested_at is not None else 0.0
    if drift.needs_control(memory):
        return 100.0
    return shadow.guard_percent if memory.standby is not None else 0.0


def _has_heard(pod: Pod, order: RoleOrder) -> bool:
    """Return whether a pod knows its role.

    What it answered to this process decides, unless a report from its running container says otherwise; to one that
    has just started, the report alone.
    """
    report = None if pod.report_foreign else pod.report
    if pod.acknowledged is None:
        return report is not None and is_of_the_running_container(pod, report) and _shown(report) == order
    if pod.acknowledged != order:
        return False
    return report is None or report.epoch != order.epoch or report.role == order.role


def _shown(report: Report) -> RoleOrder | None:
    """Return the order that a report shows; None if it does not say all of it."""
    if report.shadowPercent is None or report.passThrough is None:
        return None
    return RoleOrder(
        role=report.role,
        epoch=report.epoch,
        shadow_percent=report.shadowPercent,
        pass_through=report.passThrough,
    )

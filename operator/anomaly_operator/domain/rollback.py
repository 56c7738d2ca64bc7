"""Going back: decided from the Service, its pods and the decision alone, before anything that could fail.

The selector is the first write. If the last good revision stands no longer, it is warmed again first and the selector
moves at its first ready pod. A target that does not get ready in time gives way to a newer version.
"""

from dataclasses import replace

from anomaly_operator.domain import guard, history, reasons
from anomaly_operator.domain.actions import SwitchTraffic
from anomaly_operator.domain.guard import Breach
from anomaly_operator.domain.manifests.services import users_service
from anomaly_operator.domain.model import Revision
from anomaly_operator.domain.records import Decision, Placed, Retreat, Status
from anomaly_operator.domain.rollout import waits_for_its_turn
from anomaly_operator.domain.situation import Situation, placed
from anomaly_operator.domain.step import Step, handing_on


def roll_back(s: Situation) -> Step | None:
    """Leave an active revision that misbehaves, or that somebody asked to leave."""
    if s.active is None or not s.owns("Service", ""):
        return None
    retreat = _decided(s, s.active)
    target = _target(s, retreat) if retreat is not None else None
    if retreat is None or target is None:
        return _called_off(s)
    if s.ready(s.idle_color, target.name):
        return _switch_back(s, retreat, target)
    return None if _gives_way(s, retreat, target) else _warm_again(s, retreat, target)


def is_stuck(s: Situation) -> bool:
    """Return whether a rollback that was decided has found no ready pod to go to in time."""
    retreat = s.memory.retreat
    target = _target(s, retreat) if retreat is not None else None
    return retreat is not None and (target is None or _is_late(s, s.memory, retreat, target))


def dead_end(s: Situation) -> tuple[str, Breach] | None:
    """Return why a breach leads nowhere: (reason, breach); None if there is none, or a way out."""
    breach = guard.breach(s)
    retreat = s.memory.retreat
    if breach is None or s.active is None:
        return None
    if retreat is not None and _target(s, retreat) is not None:
        return (reasons.WAY_BACK_NOT_READY, breach) if s.memory.candidate is not None else None
    if s.stepped_back_recently:
        return reasons.NO_STEP_BACK, breach
    return (reasons.NO_GOOD_REVISION, breach) if s.last_good is None else None


def _decided(s: Situation, active: Placed) -> Retreat | None:
    """Return the rollback that was decided before and waits for a ready pod, else the one that a breach means now."""
    breach, before = guard.breach(s), s.memory.retreat
    now = _decided_now(s, active, breach)
    if before is None or before.source != active:
        return now
    if not before.passing:
        return before
    if breach is None:
        return None  # its cause was a fact of the moment
    return before if now is None or now.passing else replace(now, since=before.since)


def _called_off(s: Situation) -> Step | None:
    """Drop a rollback whose cause has passed before it could be carried out."""
    if s.memory.retreat is None or not s.memory.retreat.passing:
        return None
    return handing_on(replace(s.memory, retreat=None))


def _decided_now(s: Situation, active: Placed, breach: Breach | None) -> Retreat | None:
    if breach is None or s.stepped_back_recently or s.last_good is None:
        return None
    return Retreat(
        source=active,
        revision=s.last_good.name,
        reason=breach.reason,
        message=breach.message,
        evidence=breach.evidence,
        since=s.now,
        passing=breach.passing,
    )


def _target(s: Situation, retreat: Retreat) -> Revision | None:
    """Return where to go: as decided, else (if that is gone or quarantined by now) the last good revision."""
    known = s.observed.revisions.get(retreat.revision)
    return known if known is not None and not s.is_quarantined(known.name) else s.last_good


def _switch_back(s: Situation, retreat: Retreat, target: Revision) -> Step:
    decision = Decision(
        revision=target.name,
        to=placed(s.idle_color, target),
        source=retreat.source,
        outcome="RolledBack",
        reason=retreat.reason,
        message=retreat.message,
        evidence=retreat.evidence,
        who=retreat.who,
        time=s.now,
        started_at=retreat.since,
        epoch=s.next_epoch(),
        pending=history.unrecorded(s.observed.status, s.decision),
    )
    switch = SwitchTraffic(
        manifest=users_service(s.observed, s.spec.service, decision), resource_version=None, rollback=True
    )
    return Step(
        name="RollBack",
        phase="Degraded",
        reason=reasons.ROLLED_BACK,
        message=f"rolled back from version {retreat.source.version} to {target.version}: {retreat.message}",
        stalled=True,
        memory=history.complete(s.memory, decision, s.spec.revision_history_limit),
        traffic=switch,
        decision=decision,
    )


def _gives_way(s: Situation, retreat: Retreat, target: Revision) -> bool:
    """Return whether a newer version has the other color, or may have it now: the target did not get ready in time.

    Users stay where they are meanwhile. If the newer version is rejected, the target is warmed once more.
    """
    if not _is_late(s, s.memory, retreat, target):
        return False
    if s.memory.candidate is not None:
        return True  # chosen since: one that had stood there before was sent away when the rollback was decided
    wanted = s.wanted
    if not isinstance(wanted, Revision) or wanted.name in {retreat.source.revision, target.name}:
        return False
    return not s.is_quarantined(wanted.name) and waits_for_its_turn(s) is None


def _is_late(s: Situation, memory: Status, retreat: Retreat, target: Revision) -> bool:
    standby = memory.standby
    since = standby.since if standby is not None and standby.revision == target.name else retreat.since
    return s.is_past(max(since, retreat.since) + s.spec.progress_deadline_seconds)


def _warm_again(s: Situation, retreat: Retreat, target: Revision) -> Step:
    """Give the idle color to the target; a candidate that stands there has to go, unjudged."""
    standby = history.track_at(placed(s.idle_color, target), s.now)
    known = s.memory.standby
    memory: Status = replace(
        s.memory,
        candidate=None,
        trial=None,
        standby=known if known is not None and known.revision == target.name else standby,
        retreat=replace(retreat, revision=target.name),
    )
    words = (
        f"going back from version {retreat.source.version} to {target.version} as soon as its first pod is"
        f" ready: {retreat.message}"
    )
    late = _is_late(s, memory, retreat, target)
    if late:
        troubles = sorted({pod.trouble for pod in s.pods(s.idle_color, target.name) if pod.trouble})
        why = troubles[0] if troubles else "its pods give no reason"
        words += f"; none is after {s.spec.progress_deadline_seconds} s: {why}"
    return Step(
        name="RollBack",
        phase="Degraded",
        reason=reasons.ROLLING_BACK,
        message=words,
        memory=memory,
        stalled=late,
        urgent=True,
    )

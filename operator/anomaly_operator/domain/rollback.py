"""Going back: decided from the Service, its pods and the decision alone, before anything that could fail.

The selector is the first write. If the last good revision stands no longer, it is warmed again first and the selector
moves at its first ready pod.
"""

from dataclasses import replace

from anomaly_operator.domain import guard, history, reasons
from anomaly_operator.domain.actions import SwitchTraffic
from anomaly_operator.domain.guard import Breach
from anomaly_operator.domain.manifests.services import users_service
from anomaly_operator.domain.model import Revision
from anomaly_operator.domain.records import Decision, Placed, Retreat, Status
from anomaly_operator.domain.situation import Situation, placed
from anomaly_operator.domain.step import Step


def roll_back(s: Situation) -> Step | None:
    """Leave an active revision that misbehaves, or that somebody asked to leave."""
    if s.active is None:
        return None
    breach = guard.breach(s)
    retreat = _decided_before(s) or _decided_now(s, s.active, breach)
    if retreat is None:
        return None
    target = _target(s, retreat)
    if target is None:
        return None
    if s.ready(s.idle_color, target.name):
        return _switch_back(s, retreat, target)
    return _warm_again(s, retreat, target, passing=breach is not None and breach.passing)


def dead_end(s: Situation) -> tuple[str, Breach] | None:
    """Return why a breach leads nowhere: (reason, breach); None if there is none, or a way out."""
    breach = guard.breach(s)
    if breach is None or s.active is None or s.memory.retreat is not None:
        return None
    if s.stepped_back_recently:
        return reasons.NO_STEP_BACK, breach
    return (reasons.NO_GOOD_REVISION, breach) if s.last_good is None else None


def _decided_before(s: Situation) -> Retreat | None:
    """Return the rollback that was decided and waits for a ready pod, unless it is about another active revision."""
    retreat = s.memory.retreat
    return retreat if retreat is not None and s.active == retreat.source else None


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


def _warm_again(s: Situation, retreat: Retreat, target: Revision, *, passing: bool) -> Step:
    """Give the idle color to the target; a candidate that stands there has to go, unjudged."""
    standby = history.track_at(placed(s.idle_color, target), s.now)
    known = s.memory.standby
    memory: Status = replace(
        s.memory,
        candidate=None,
        trial=None,
        standby=known if known is not None and known.revision == target.name else standby,
        retreat=None if passing and s.memory.retreat is None else replace(retreat, revision=target.name),
    )
    words = (
        f"going back from version {retreat.source.version} to {target.version} as soon as its first pod is"
        f" ready: {retreat.message}"
    )
    deadline, since = s.spec.progress_deadline_seconds, memory.standby.since if memory.standby else s.now
    late = s.is_past(max(since, retreat.since if memory.retreat else since) + deadline)
    if late:
        troubles = sorted({pod.trouble for pod in s.pods(s.idle_color, target.name) if pod.trouble})
        words += f"; none is after {deadline} s: {troubles[0] if troubles else 'its pods give no reason'}"
    return Step(
        name="RollBack",
        phase="Degraded",
        reason=reasons.ROLLING_BACK,
        message=words,
        memory=memory,
        stalled=late,
        urgent=True,
    )

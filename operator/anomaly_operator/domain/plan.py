"""The whole of what the operator does, most urgent first. Pure, total and level-triggered: the same for every event.

First the memory is brought up to date with what is recorded and asked for; then the first stage that has work says
what to do about users' traffic; then both colors and everything beside them are brought to where they shall be.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from anomaly_operator.domain import (
    children,
    codec,
    commands,
    drift,
    events,
    history,
    names,
    publication,
    quarantine,
    reasons,
    retraining,
    smoke,
    tracks,
)
from anomaly_operator.domain.actions import Action, CreateRevision, SwitchTraffic, WriteStatus
from anomaly_operator.domain.manifests.services import users_service
from anomaly_operator.domain.model import Desired, Observed, Revision
from anomaly_operator.domain.promotion import await_promotion, switch
from anomaly_operator.domain.records import Decision, Status
from anomaly_operator.domain.rollback import dead_end, roll_back
from anomaly_operator.domain.rollout import analyse, deploy, resolve, supersede
from anomaly_operator.domain.situation import Situation
from anomaly_operator.domain.smoke import smoke_test
from anomaly_operator.domain.step import Step
from anomaly_operator.domain.summary import status


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now, in this order, and when to look again at the latest."""

    actions: tuple[Action, ...] = ()
    requeue_after: float | None = None
    """Seconds; None: only when something changes."""
    status: Status | None = None
    """Status after these actions; the last `WriteStatus` among them writes it, if it differs from what is there."""


def plan(observed: Observed, desired: Desired, now: float) -> Plan:
    """Decide what to do now, and when to look again."""
    if observed.deleting:
        return Plan()
    s = Situation(observed=observed, desired=desired, now=now, memory=observed.status)
    restored = restore_service(s)
    for review in (
        complete,
        commands.obey,
        quarantine.review,
        supersede,
        drift.review,
        expire,
        retraining.review,
        publication.review,
    ):
        s = s.remembering(review(s))
    if restored is not None:
        return _rolling_back(s) or Plan(actions=tuple(restored), requeue_after=1.0, status=observed.status)
    for stage in (roll_back, resolve, deploy, smoke_test, analyse, await_promotion, switch):
        step = stage(s)
        if step is None:
            continue
        s = s.remembering(step.memory)
        if not step.passes:
            return conclude(s, step)
    return conclude(s, _idle(s))


def _rolling_back(s: Situation) -> Plan | None:
    """Return the plan of a rollback that can be carried out now: it writes the whole Service, whoever edits that."""
    step = roll_back(s)
    return conclude(s.remembering(step.memory), step) if step is not None and step.traffic is not None else None


def restore_service(s: Situation) -> list[Action] | None:
    """Make the users' Service say what was decided: nobody else moves users."""
    service = s.observed.service
    if not s.owns("Service", ""):
        return None
    decision = s.decision or _remembered(s)
    expected = names.selector(s.observed.name, decision.to.color if decision else names.NO_COLOR)
    if service is not None and s.decision == decision and dict(service.selector) == expected:
        return None
    switch = SwitchTraffic(
        manifest=users_service(s.observed, s.spec.service, decision),
        resource_version=service.resource_version if service else None,
        rollback=False,
    )
    if service is None or dict(service.selector) == expected:
        return [switch]
    found = service.selector.get(names.COLOR_LABEL) or "nothing"
    return [switch, events.selector_restored(s, found)]


def complete(s: Situation) -> Status:
    """Complete the memory from the decision on the Service."""
    return history.complete(s.memory, s.decision, s.spec.revision_history_limit)


def expire(s: Situation) -> Status:
    """Let the standby go when its time is over and nobody needs it."""
    standby, memory = s.memory.standby, s.memory
    if standby is None or memory.retreat is not None or drift.needs_control(memory):
        return memory
    over = s.is_past(standby.since + s.spec.blue_green.scale_down_delay_seconds)
    return replace(memory, standby=None) if over else memory


def conclude(s: Situation, step: Step) -> Plan:
    """Put the actions of a step in order, with everything that has to be kept up whatever the step."""
    step = _with_obstacle(s, _with_dead_end(s, step))
    if step.decision is not None:
        s = _after(s, step.decision)
    written = status(s, step)
    actions = tuple(_ordered(s, step, written))
    later = [at - s.now for at in s.alarms if at > s.now] + ([0.0] if step.traffic is not None else [])
    return Plan(actions=actions, requeue_after=min(later, default=None), status=written)


def _ordered(s: Situation, step: Step, written: Status) -> Iterator[Action]:
    if step.traffic is not None:
        yield step.traffic
    yield from tracks.roles(s)
    if step.urgent:
        yield from tracks.converge(s)
    yield from _new_revision(s)
    yield from events.happened(s, s.observed.status)
    if codec.to_json(written) != codec.to_json(s.observed.status):
        yield WriteStatus(status=written)
    if step.traffic is not None:
        return  # all else follows in the next plan, at once: nothing shall delay the selector
    yield from _live_settings(s)
    yield from children.apply(s, children.needed_by_pods(s))
    if not step.urgent:
        yield from tracks.converge(s)
    yield from step.actions
    yield from smoke.of_newcomers(s)
    yield from retraining.start(s)
    yield from children.apply(s, children.others(s))
    yield from children.not_wanted(s)


def _after(s: Situation, decision: Decision) -> Situation:
    """Return the situation as it will be once the Service holds the decision."""
    service = s.observed.service
    if service is None:
        return s
    after = replace(service, decision=decision, selector=names.selector(s.observed.name, decision.to.color))
    return replace(s, observed=replace(s.observed, service=after))


def _remembered(s: Situation) -> Decision | None:
    """Return a decision for a Service that has none: as status remembers; never inferred from who is available."""
    active = s.active
    if active is None:
        return None
    remembered = s.memory.active is not None
    return Decision(
        revision=active.revision,
        to=active,
        outcome="Restored",
        reason=reasons.RESTORED,
        message="the decision was missing from the users' Service",
        time=s.memory.active.since if s.memory.active else s.now,
        epoch=s.memory.decision_epoch if remembered and s.memory.decision_epoch else s.next_epoch(),
    )


def _live_settings(s: Situation) -> Iterator[Action]:
    """Apply ports, type and annotations of the users' Service, which are live; selector and decision stay."""
    manifest = users_service(s.observed, s.spec.service, s.decision)
    if s.observed.service is not None and children.needs_apply(s, manifest):
        version = s.observed.service.resource_version
        yield SwitchTraffic(manifest=manifest, resource_version=version, rollback=False)


def _new_revision(s: Situation) -> Iterator[CreateRevision]:
    """Record the wanted revision as soon as something refers to it."""
    wanted, memory = s.wanted, s.memory
    if not isinstance(wanted, Revision) or wanted.name in s.observed.revisions:
        return
    if wanted.name in {track.revision for track in (memory.active, memory.candidate) if track}:
        yield children.record_revision(s, wanted)


def _with_dead_end(s: Situation, step: Step) -> Step:
    """Say so when the active revision is in breach and there is no way back."""
    found = dead_end(s) if step.decision is None else None
    if found is None:
        return step
    reason, breach = found
    words = f"{step.message}; in breach ({breach.reason}) and not rolled back: {reason}"
    phase = step.phase if step.phase == "Progressing" else "Degraded"
    return replace(step, phase=phase, message=words, ready=False, stalled=phase == "Degraded", reason=reason)


def _with_obstacle(s: Situation, step: Step) -> Step:
    """Say so when children cannot be as they should be, also if there is nothing to roll out."""
    obstacle = None if step.stalled or step.traffic is not None else children.obstacle(s)
    if obstacle is None or (obstacle.reason == reasons.POLICY_MISSING and s.observed.policy_in_place is None):
        return step
    words = f"{step.message}; {obstacle.message}"
    return replace(step, phase="Degraded", message=words, ready=False, stalled=True, reason=obstacle.reason)


def _idle(s: Situation) -> Step:
    return Step(name="Guard", phase="Healthy", reason="Idle", message="nothing to do", memory=s.memory)

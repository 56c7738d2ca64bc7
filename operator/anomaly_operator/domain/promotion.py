"""The end of a candidate's way: promoted by itself or by a person, once it has the capacity."""

from dataclasses import replace

from anomaly_operator.domain import history, reasons, smoke
from anomaly_operator.domain.actions import SwitchTraffic
from anomaly_operator.domain.manifests.services import users_service
from anomaly_operator.domain.records import Decision, Placed, TrackStatus, Trial
from anomaly_operator.domain.revisions import Obstacle, feature_change
from anomaly_operator.domain.rollout import every_pod_is_ready, not_ready, progress, serving
from anomaly_operator.domain.situation import Situation, placed
from anomaly_operator.domain.step import Step


def await_promotion(s: Situation) -> Step | None:
    """Wait for a person, a delay, or the end of a pause."""
    candidate, trial = s.memory.candidate, s.memory.trial
    if candidate is None or trial is None:
        return None
    version, spec = candidate.version, s.spec
    if s.paused:
        words = f"version {version} passed and waits: paused"
        return replace(progress(s, "AwaitPromotion", reasons.PAUSED, words), phase="Paused")
    if s.active is None or trial.promoted_by is not None:
        return None
    by_hand = _needs_a_person(s, s.active, candidate, trial)
    if by_hand is not None:
        reason, why = by_hand
        words = f"version {version} passed and waits for `kubectl anomaly promote {s.observed.name}`{why}"
        return replace(progress(s, "AwaitPromotion", reason, words), phase="Paused")
    delay = spec.blue_green.auto_promotion_seconds
    if not s.is_past((trial.passed_at or s.now) + delay):
        words = f"version {version} passed and is promoted {delay} s later"
        return progress(s, "AwaitPromotion", reasons.AWAITING_PROMOTION, words)
    return None


def switch(s: Situation) -> Step | None:
    """Give users the candidate, once it has the capacity: selector and decision in one write."""
    candidate, trial = s.memory.candidate, s.memory.trial
    if candidate is None or trial is None:
        return None
    revision = s.observed.revisions.get(candidate.revision)
    if revision is None or s.observed.service is None or not s.owns("Service", "") or not _has_the_capacity(s):
        return not_ready(s, trial.passed_at or s.now, name="Switch", reason=reasons.WAITING_FOR_CAPACITY)
    if smoke.untested(s):
        return smoke.waiting(s, "Switch", trial.passed_at or s.now)
    first = s.active is None
    decision = Decision(
        revision=candidate.revision,
        to=placed(candidate.color, revision),
        source=s.active,
        outcome="Promoted",
        reason=reasons.DEPLOYED if first else reasons.PROMOTED,
        message=_why_promoted(candidate, trial, first=first),
        evidence=trial.evidence,
        who=trial.promoted_by or trial.who,
        time=s.now,
        started_at=candidate.since,
        epoch=s.next_epoch(),
    )
    memory = history.complete(s.memory, decision, s.spec.revision_history_limit)
    words = f"version {candidate.version} serves users"
    after = s.remembering(memory)
    return replace(
        serving(after) if _is_wanted(s, candidate) else progress(after, "Switch", reasons.PROMOTED, words),
        message=words,
        traffic=SwitchTraffic(
            manifest=users_service(s.observed, s.spec.service, decision),
            resource_version=s.observed.service.resource_version,
            rollback=False,
        ),
        decision=decision,
    )


def _is_wanted(s: Situation, candidate: TrackStatus) -> bool:
    """Return whether the candidate is still what spec and registry want, as far as they can be asked."""
    wanted = s.wanted
    return not wanted.stalled if isinstance(wanted, Obstacle) else wanted.name == candidate.revision


def _needs_a_person(s: Situation, active: Placed, candidate: TrackStatus, trial: Trial) -> tuple[str, str] | None:
    """Return (reason, words) why the candidate is not promoted by itself; None if it is."""
    spec = s.spec
    if not spec.blue_green.auto_promotion_enabled or (trial.retrained and not spec.retraining.auto_promotion):
        return reasons.AWAITING_PROMOTION, ""
    before, after = s.revision(active.revision), s.revision(candidate.revision)
    change = feature_change(before, after) if before and after else None
    if change is None:
        return None
    # No gate sees it: what users ask in the old way would count as their own error.
    why = f": {change}, so requests made for version {active.version} may be refused or misread"
    return reasons.SIGNATURE_CHANGED, why


def _why_promoted(candidate: TrackStatus, trial: Trial, *, first: bool) -> str:
    if trial.hastened:
        by = (trial.promoted_by.claimed if trial.promoted_by else None) or "a command"
        return f"version {candidate.version} was promoted by {by} before its analysis had come to an end"
    return f"version {candidate.version} passed " + ("the smoke test" if first else "the analysis")


def _has_the_capacity(s: Situation) -> bool:
    """Return whether the candidate alone stands on its color, with as many ready pods as it relieves, or more."""
    candidate = s.memory.candidate
    if candidate is None or not every_pod_is_ready(s):
        return False
    strangers = [p for p in s.track(candidate.color).pods if p.revision != candidate.revision and not p.terminating]
    relieved = [p for p in s.track(s.active.color).pods if p.ready and not p.terminating] if s.active else []
    ready = len(s.ready(candidate.color, candidate.revision))
    return not strangers and ready >= max(len(relieved), s.full_size)

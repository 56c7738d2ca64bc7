"""The way of a candidate: chosen, deployed, tried (`smoke`), analysed on shadow traffic; `promotion` ends it.

Each stage says what it is at work on, or None when its facts hold and the next one may go on.
"""

from dataclasses import replace

from anomaly_operator.domain import analysis, children, drift, history, quarantine, reasons, tracks
from anomaly_operator.domain.model import Revision
from anomaly_operator.domain.records import Evidence, Status, Trial, Who
from anomaly_operator.domain.revisions import Obstacle
from anomaly_operator.domain.shown import Condition
from anomaly_operator.domain.situation import Situation, placed
from anomaly_operator.domain.step import Step, handing_on


def resolve(s: Situation) -> Step | None:
    """Say why there is nothing to roll out; go on when there is."""
    if s.memory.candidate is not None:
        return None
    wanted = s.wanted
    if isinstance(wanted, Obstacle):
        return _nothing_known(s, wanted)
    if s.is_quarantined(wanted.name):
        return _rejected(s, wanted)
    if s.active is not None and wanted.name == s.active.revision:
        return serving(s)
    return None


def deploy(s: Situation) -> Step | None:
    """Choose the candidate and wait until every pod of it is ready."""
    candidate = s.memory.candidate
    if candidate is None:
        return waits_for_its_turn(s) or _chosen(s)
    pods = s.pods(candidate.color, candidate.revision)
    refusal = next((pod.refusal for pod in pods if pod.refusal), None)
    if refusal is not None:
        words = f"version {candidate.version} cannot be served: {refusal}"
        return abort(s, reasons.MODEL_REFUSED, words)
    if _past_deploy(s) or every_pod_is_ready(s):
        return None if candidate.digest else _pinning(s)
    return not_ready(s, candidate.since)


def analyse(s: Situation) -> Step | None:
    """Judge the candidate on copies of what users ask, for as long as it is one."""
    candidate, trial = s.memory.candidate, s.memory.trial
    if candidate is None or trial is None:
        return None
    trial = replace(trial, smoke_tested_at=trial.smoke_tested_at or s.now)
    if s.active is None:
        passed = replace(trial, passed_at=trial.passed_at or s.now, evidence=analysis.smoke_evidence(s))
        return handing_on(replace(s.memory, trial=passed))
    trial = replace(trial, analysis_started_at=trial.analysis_started_at or s.now)
    s = s.remembering(replace(s.memory, trial=trial))
    failed = analysis.failed(s)
    if failed is not None:
        return abort(s, failed.reason, f"analysis: {failed.evidence.text}", (failed.evidence,))
    if trial.passed_at is not None:
        return handing_on(s.memory)
    judged = analysis.judge(s)
    if judged.passed:
        return handing_on(replace(s.memory, trial=replace(trial, passed_at=s.now, evidence=judged.evidence)))
    step = progress(s, "Analyse", judged.reason, judged.message)
    step = replace(step, phase="Paused" if judged.paused else "Progressing", actions=judged.actions)
    return step if judged.trouble is None else _never_ending(s, step, judged.trouble)


def _never_ending(s: Situation, step: Step, trouble: str) -> Step:
    """Say that an analysis does not come to its end, once that has lasted; it still may."""
    trial, spec = s.memory.trial, s.spec
    ends = (trial.analysis_started_at if trial else None) or s.now
    deadline = spec.progress_deadline_seconds
    if not s.is_past(ends + spec.blue_green.pre_promotion_analysis.duration + deadline):
        return step
    words = f"{step.message}; that has not come about in {deadline} s: {trouble}"
    return replace(step, phase="Degraded", stalled=True, message=words)


def supersede(s: Situation) -> Status:
    """Return the memory without a candidate that is wanted no longer: the registry or spec points elsewhere."""
    candidate = s.memory.candidate
    if candidate is None or not isinstance(s.wanted, Revision) or s.wanted.name == candidate.revision:
        return s.memory
    return replace(s.memory, candidate=None, trial=None)


def _nothing_known(s: Situation, obstacle: Obstacle) -> Step:
    before = s.observed.status
    ready = next((c for c in before.conditions if c.type == "Ready"), None)
    if s.active is not None and not obstacle.stalled and ready is not None and not _is_asked_anew(s, ready):
        was_ready = ready.status == "True"
        return Step(
            name=before.step or "Guard",
            phase=before.phase,
            reason=ready.reason,
            message=before.message or f"version {s.active.version} serves users",
            memory=s.memory,
            ready=was_ready,
            stalled=any(c.type == "Stalled" and c.status == "True" for c in before.conditions),
        )
    return Step(
        name="Resolve",
        phase="Degraded" if obstacle.stalled else "Progressing",
        reason=obstacle.reason,
        message=obstacle.message,
        memory=s.memory,
        stalled=obstacle.stalled,
    )


def _is_asked_anew(s: Situation, ready: Condition) -> bool:
    """Return whether what status said is about another spec, or about a breach of that moment: not to be kept up."""
    passing = (reasons.RESOLVING, reasons.UNREACHABLE, reasons.NO_GOOD_REVISION, reasons.NO_STEP_BACK)
    return s.observed.generation != s.observed.status.observed_generation or ready.reason in passing


def _rejected(s: Situation, wanted: Revision) -> Step:
    """Report a quarantined revision that the registry still points at; it is not deployed again."""
    entry = next(q for q in s.memory.quarantine if q.revision == wanted.name)
    newest = next((e for e in s.memory.history if e.revision == wanted.name), None)
    rolled_back = newest is not None and newest.outcome == "RolledBack"
    what = "rolled back" if rolled_back else "rejected"
    serving = f"version {s.active.version} serves users" if s.active else "no version serves users"
    return Step(
        name="RollBack" if rolled_back else "Abort",
        phase="Degraded",
        reason=reasons.ROLLED_BACK if rolled_back else reasons.ABORTED,
        message=f"version {wanted.version} was {what} ({entry.reason}: {entry.message}); {serving}",
        memory=s.memory,
        stalled=True,
    )


def serving(s: Situation) -> Step:
    """Return the step of a model whose wanted revision serves users."""
    version = s.memory.active.version if s.memory.active else s.active.version if s.active else "?"
    paused = "; paused" if s.paused else ""
    return Step(
        name="Guard",
        phase="Paused" if s.paused else "Healthy",
        reason=reasons.SERVING,
        message=f"version {version} serves users{paused}",
        memory=s.memory,
        ready=True,
    )


def waits_for_its_turn(s: Situation) -> Step | None:
    """Say why the wanted revision cannot become the candidate yet."""
    wanted = s.wanted
    if isinstance(wanted, Obstacle):
        return _nothing_known(s, wanted)
    version, obstacle = wanted.version, children.obstacle(s)
    if obstacle is not None:
        return _nothing_known(s, replace(obstacle, message=f"version {version} waits: {obstacle.message}"))
    if s.paused:
        return replace(progress(s, "Resolve", reasons.PAUSED, f"version {version} waits: paused"), phase="Paused")
    return _waits_for_the_active(s, version)


def _waits_for_the_active(s: Situation, version: str) -> Step | None:
    """Say what the active revision, or its drift, still needs the other color for."""
    if drift.needs_control(s.memory):
        words = f"version {version} waits until it is known whether the drift is the active revision's fault"
        return progress(s, "Resolve", reasons.COMPARING, words)
    if s.active is None or not s.ready(s.active.color, s.active.revision):
        return None
    since = s.memory.active.since if s.memory.active else s.now
    guarded = s.is_past(since + s.spec.blue_green.pre_promotion_analysis.duration)
    if guarded and not tracks.loser_is_draining(s):
        return None
    words = f"version {version} waits until version {s.active.version} has been guarded for a while"
    return progress(s, "Resolve", reasons.WAITING_FOR_GUARD, words)


def _chosen(s: Situation) -> Step:
    wanted = s.wanted
    if isinstance(wanted, Obstacle):
        return _nothing_known(s, wanted)
    moved = s.active is None or wanted.version != s.active.version
    memory = replace(
        s.memory,
        candidate=history.track_at(placed(s.idle_color, wanted), s.now),
        trial=Trial(revision=wanted.name, who=Who(source="alias" if moved else "spec"), retrained=wanted.retrained),
        standby=None,
    )
    return not_ready(s.remembering(memory), s.now)


def abort(s: Situation, reason: str, words: str, evidence: tuple[Evidence, ...] = ()) -> Step:
    """Send the candidate away: it failed a gate, or refused its model."""
    memory = quarantine.abort(s, reason, words, evidence)
    version = s.memory.candidate.version if s.memory.candidate else "?"
    serving = f"version {s.active.version} serves users" if s.active else "no version serves users"
    return Step(
        name="Abort",
        phase="Degraded",
        reason=reasons.ABORTED,
        message=f"version {version} was rejected ({reason}: {words}); {serving}",
        memory=memory,
        stalled=True,
    )


def not_ready(s: Situation, since: float, *, name: str = "Deploy", reason: str = reasons.DEPLOYING) -> Step:
    """Wait for the candidate's pods; after the deadline say what ails them, and go on waiting: nobody is to blame."""
    candidate = s.memory.candidate
    version = candidate.version if candidate else "?"
    step = progress(s, name, reason, f"version {version} waits for {tracks.candidate_size(s)} ready pods")
    if not s.is_past(since + s.spec.progress_deadline_seconds) or candidate is None:
        return step
    troubles = sorted({pod.trouble for pod in s.pods(candidate.color, candidate.revision) if pod.trouble})
    words = f"version {version} is not ready after {s.spec.progress_deadline_seconds} s: " + (
        troubles[0] if troubles else "its pods give no reason"
    )
    return replace(step, phase="Degraded", stalled=True, reason=reasons.CANDIDATE_NOT_READY, message=words)


def _pinning(s: Situation) -> Step:
    words = "waits for the digest that the first pod computes"
    return progress(s, "Deploy", reasons.DEPLOYING, words)


def _past_deploy(s: Situation) -> bool:
    trial = s.memory.trial
    return trial is not None and trial.smoke_tested_at is not None


def every_pod_is_ready(s: Situation) -> bool:
    """Return whether the candidate stands on its color with as many ready pods as it shall have now."""
    candidate = s.memory.candidate
    if candidate is None:
        return False
    deployment = s.track(candidate.color).deployment
    size = tracks.candidate_size(s)
    ready = len(s.ready(candidate.color, candidate.revision))
    return deployment is not None and deployment.revision == candidate.revision and ready >= size


def progress(s: Situation, name: str, reason: str, message: str) -> Step:
    """Return a step that is under way."""
    return Step(name=name, phase="Progressing", reason=reason, message=message, memory=s.memory)

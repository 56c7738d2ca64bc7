"""`status.conditions`: metav1.Condition, as kstatus and `kubectl wait` read them; they never flap."""

from typing import Literal

from anomaly_operator.domain import reasons, retraining
from anomaly_operator.domain.model import Resolved
from anomaly_operator.domain.shown import Condition
from anomaly_operator.domain.situation import Situation
from anomaly_operator.domain.step import Step
from anomaly_operator.domain.times import rfc3339

Truth = Literal["True", "False", "Unknown"]
_DRIFT_WORDS = {
    "Drifted": "the input has drifted: the last good revision sees the drift too, so going back would not help",
    "NoControl": "the input has drifted, or the model is worse than it was: there is no good revision to compare with",
    "NoStepBack": "drift soon after a rollback to this revision: no second step back by itself",
}


def conditions(s: Situation, step: Step) -> tuple[Condition, ...]:
    """Return all conditions, each with the time of its last change of status."""
    found = (
        ("Ready", _truth(step.ready), step.reason, step.message),
        ("Reconciling", _truth(step.phase == "Progressing"), step.reason, step.message),
        ("Stalled", _truth(step.stalled), step.reason if step.stalled else "NotStalled", _if(step)),
        ("Servable", *_servable(s)),
        ("ModelResolved", *_resolved(s)),
        ("Drifted", *_drifted(s)),
        *_retrained(s),
    )
    before = {condition.type: condition for condition in s.observed.status.conditions}
    result = []
    for kind, status, reason, message in found:
        old = before.get(kind)
        since = old.last_transition_time if old is not None and old.status == status else float(int(s.now))
        result.append(
            Condition(
                type=kind,
                status=status,
                reason=reason,
                message=message,
                observed_generation=s.observed.generation,
                last_transition_time=since,
            )
        )
    return tuple(result)


def _truth(fact: bool) -> Truth:  # noqa: FBT001 - a fact is what it is about
    return "True" if fact else "False"


def _if(step: Step) -> str:
    return step.message if step.stalled else ""


def _servable(s: Situation) -> tuple[Truth, str, str]:
    active = s.memory.active
    if active is None:
        return "False", "NoActiveRevision", "no revision has passed yet, so users get no answer"
    ready = any(pod.ready for pod in s.pods(active.color, active.revision))
    if ready:
        return "True", "Serving", f"version {active.version} answers users"
    return "False", "NoReadyPod", f"no pod of version {active.version} is ready"


def _resolved(s: Situation) -> tuple[Truth, str, str]:
    resolution = s.desired.resolution
    if s.desired.unreachable is not None:
        return "Unknown", reasons.UNREACHABLE, s.desired.unreachable
    if resolution is None:
        old = next((c for c in s.observed.status.conditions if c.type == "ModelResolved"), None)
        return (old.status, old.reason, old.message) if old else ("Unknown", reasons.RESOLVING, "")
    if isinstance(resolution, Resolved):
        words = f"{resolution.reference} of {resolution.model} is version {resolution.version}"
        return "True", "Resolved", words
    return ("Unknown" if resolution.reason == "Unreachable" else "False"), resolution.reason, resolution.message


def _drifted(s: Situation) -> tuple[Truth, str, str]:
    episode = s.memory.drift
    if episode is None:
        return "False", reasons.NO_DRIFT, ""
    numbers = episode.evidence[0].text if episode.evidence else ""
    if episode.verdict == "Pending":
        words = f"{numbers}; comparing with revision {episode.control} on the same traffic"
        return "Unknown", reasons.COMPARING, words
    reason = {"Drifted": reasons.DRIFTED, "NoControl": reasons.NO_CONTROL, "NoStepBack": reasons.NO_STEP_BACK}
    return "True", reason[episode.verdict], f"{_DRIFT_WORDS[episode.verdict]}; {numbers}"


def _retrained(s: Situation) -> tuple[tuple[str, Truth, str, str], ...]:
    """Return what came of the newest retraining that has ended; nothing while there has been none."""
    memory = s.memory
    if not memory.retrainings:
        return ()
    ended = next((line for line in memory.retrainings if line.outcome != "Running"), None)
    if ended is None:
        return (("Retrained", "Unknown", reasons.RETRAINING, retraining.progress(s, memory.retrainings[0])),)
    if ended.outcome == "Succeeded":
        return (("Retrained", "True", reasons.RETRAINED, f"by the Job {ended.job}: {ended.message}".rstrip(": ")),)
    count = retraining.failures(memory)
    words = f"attempt {count} failed (Job {ended.job}, {ended.trigger}): {ended.message}"
    if s.spec.retraining.enabled and not retraining.is_running(memory):
        words += f"; no other before {rfc3339(retraining.earliest(memory, s.spec.retraining))} unless asked for"
    return (("Retrained", "False", ended.failure or reasons.JOB_FAILED, words),)

"""What people ask for through the annotation `anomalymodel.dev/command`: obeyed once, answered always."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from anomaly_operator.domain import analysis, quarantine, reasons, retraining
from anomaly_operator.domain.model import Command, Revision
from anomaly_operator.domain.records import LastCommand, PausedStatus, Retreat, Status, Who
from anomaly_operator.domain.revisions import Obstacle
from anomaly_operator.domain.situation import Situation


@dataclass(frozen=True, slots=True)
class _Refused(Exception):  # noqa: N818 - an answer, not an error
    """Why a command is not obeyed, in words for who asked."""

    why: str


def obey(s: Situation) -> Status:
    """Return the memory after the newest command; the same if it was answered before."""
    command = s.observed.command
    if command is None or (s.memory.last_command is not None and s.memory.last_command.id == command.id):
        return s.memory
    if s.decision is not None and s.decision.who.command == command.id:
        return _answered(s, s.memory, command, "Accepted", f"done: {s.decision.message}")
    verb = _VERBS.get(command.verb)
    if verb is None:
        words = f"unknown verb {command.verb!r}: use one of {', '.join(_VERBS)}"
        return _answered(s, s.memory, command, "Refused", words)
    try:
        memory, words = verb(s, command)
    except _Refused as refused:
        return _answered(s, s.memory, command, "Refused", refused.why)
    return _answered(s, memory, command, "Accepted", words)


def _promote(s: Situation, command: Command) -> tuple[Status, str]:
    trial, candidate = s.memory.trial, s.memory.candidate
    if trial is None or candidate is None:
        raise _Refused(f"there is no candidate to promote: {_what_serves(s)}")
    if s.paused:
        raise _Refused("the AnomalyModel is paused: resume it first (and set spec.paused to false if it is true)")
    if trial.smoke_tested_at is None:
        raise _Refused(f"version {candidate.version} has not passed its smoke test yet: {s.observed.status.message}")
    promoted = replace(trial, promoted_by=_who(command))
    if trial.passed_at is None:
        promoted = replace(promoted, passed_at=s.now, hastened=True, evidence=analysis.evidence_so_far(s))
    return replace(s.memory, trial=promoted), f"version {candidate.version} gets users as soon as it has the capacity"


def _abort(s: Situation, command: Command) -> tuple[Status, str]:
    candidate, retreat = s.memory.candidate, s.memory.retreat
    if candidate is None and retreat is not None and retreat.who.source == "command":
        return replace(s.memory, retreat=None), f"the rollback of version {retreat.source.version} is called off"
    if candidate is None:
        raise _Refused(f"there is no candidate to abort: {_what_serves(s)}")
    words = f"aborted by {command.by or 'a command'}"
    memory = quarantine.abort(s, reasons.REQUESTED, words, (), who=_who(command))
    return memory, f"version {candidate.version} is aborted and quarantined"


def _retry(s: Situation, command: Command) -> tuple[Status, str]:
    name = command.revision or (s.wanted.name if isinstance(s.wanted, Revision) else None)
    kept = tuple(q for q in s.memory.quarantine if name not in (q.revision, q.version))
    if name is None or len(kept) == len(s.memory.quarantine):
        known = ", ".join(f"{q.revision} (version {q.version})" for q in s.memory.quarantine) or "none"
        raise _Refused(f"revision {name} is not quarantined; quarantined: {known}")
    return replace(s.memory, quarantine=kept), f"the quarantine of {name} is lifted"


def _rollback(s: Situation, command: Command) -> tuple[Status, str]:
    if s.active is None:
        raise _Refused("no revision serves users yet, so there is nothing to roll back")
    target = _named(s, command.revision) if command.revision else s.last_good
    if target is None:
        raise _Refused("there is no earlier revision to go back to that is not quarantined")
    if target.name == s.active.revision:
        raise _Refused(f"revision {target.name} (version {target.version}) serves users already")
    if s.is_quarantined(target.name):
        raise _Refused(f"revision {target.name} (version {target.version}) is quarantined: retry it first")
    retreat = Retreat(
        source=s.active,
        revision=target.name,
        reason=reasons.REQUESTED,
        message=f"rollback to version {target.version} asked for by {command.by or 'a command'}",
        who=_who(command),
        since=s.now,
    )
    return replace(s.memory, retreat=retreat), f"going back to version {target.version} (revision {target.name})"


def _pause(s: Situation, command: Command) -> tuple[Status, str]:
    words = f"paused by {command.by or 'a command'}"
    paused = s.memory.paused or PausedStatus(reason=words, since=s.now, by=command.by)
    return replace(s.memory, paused=paused), "nothing new is begun or promoted; rollbacks still happen"


def _resume(s: Situation, command: Command) -> tuple[Status, str]:
    del command
    if s.memory.paused is None and s.spec.paused:
        raise _Refused("spec.paused is true: set it to false to resume")
    return replace(s.memory, paused=None), "resumed" + (", but spec.paused is true" if s.spec.paused else "")


def _retrain(s: Situation, command: Command) -> tuple[Status, str]:
    if not s.spec.retraining.enabled:
        raise _Refused("spec.retraining.enabled is false: set it to true first")
    if s.active is None:
        raise _Refused("no revision serves users yet: train the first version with anomaly-train")
    if retraining.is_running(s.memory):
        raise _Refused("a retraining is running: one at a time")
    memory = retraining.asked_for(s, command)
    return memory, f"retraining {memory.retrainings[0].job} is started"


_VERBS: dict[str, Callable[[Situation, Command], tuple[Status, str]]] = {
    "promote": _promote,
    "abort": _abort,
    "retry": _retry,
    "rollback": _rollback,
    "pause": _pause,
    "resume": _resume,
    "retrain": _retrain,
}


def _named(s: Situation, text: str) -> Revision:
    """Return the revision of this name, else the newest of this version."""
    if text in s.observed.revisions:
        return s.observed.revisions[text]
    same = [r for r in s.observed.revisions.values() if r.version == text.removeprefix("v")]
    if not same:
        known = ", ".join(f"{r.name} (version {r.version})" for r in s.observed.revisions.values()) or "none"
        raise _Refused(f"there is no revision or version {text!r}; known: {known}")
    return max(same, key=lambda revision: revision.sequence)


def _what_serves(s: Situation) -> str:
    if s.active is None:
        return s.wanted.message if isinstance(s.wanted, Obstacle) else "no revision serves users yet"
    return f"version {s.active.version} serves users"


def _who(command: Command) -> Who:
    return Who(source="command", claimed=command.by or None, command=command.id)


def _answered(s: Situation, memory: Status, command: Command, outcome: str, message: str) -> Status:
    answer = LastCommand(
        id=command.id,
        verb=command.verb,
        by=command.by,
        outcome="Accepted" if outcome == "Accepted" else "Refused",
        message=message,
        time=s.now,
    )
    return replace(memory, last_command=answer)

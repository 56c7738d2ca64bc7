"""Kubernetes Events: what has just happened, in the past tense, once each."""

import hashlib
from collections.abc import Iterator

from anomaly_operator.domain import guard, publication, reasons, retraining, rollback, tracks
from anomaly_operator.domain.actions import Action, EmitEvent
from anomaly_operator.domain.model import Malformed
from anomaly_operator.domain.records import Status
from anomaly_operator.domain.situation import Situation
from anomaly_operator.domain.times import parse_time


def happened(s: Situation, before: Status) -> Iterator[Action]:
    """Tell people what is new in the memory, compared to the status that was read."""
    yield from publication.tell(s)
    yield from _answered(s, before)
    yield from retraining.events(s, before)
    yield from _dead_end(s)
    yield from _warned(s)
    yield from _drained(s)
    yield from _untold(s)
    yield from _malformed(s)


def selector_restored(s: Situation, found: str) -> EmitEvent:
    """Tell that somebody had changed the selector of the users' Service."""
    return EmitEvent(
        type="Warning",
        reason=reasons.SELECTOR_RESTORED,
        message=f"The users' Service selected {found}, against the decision on it; it was restored",
        key=f"selector/{found}/{s.observed.service.resource_version if s.observed.service else ''}",
        action="Restore",
    )


def _answered(s: Situation, before: Status) -> Iterator[EmitEvent]:
    answer = s.memory.last_command
    if answer is None or (before.last_command is not None and before.last_command.id == answer.id):
        return
    accepted = answer.outcome == "Accepted"
    by = f" by {answer.by}" if answer.by else ""
    yield EmitEvent(
        type="Normal" if accepted else "Warning",
        reason=reasons.COMMAND_ACCEPTED if accepted else reasons.COMMAND_REFUSED,
        message=f"The command {answer.verb}{by} was {answer.outcome.lower()}: {answer.message}",
        key=f"command/{answer.id}",
        action=answer.verb.capitalize() or "Command",
    )


def _dead_end(s: Situation) -> Iterator[EmitEvent]:
    found = rollback.dead_end(s)
    if found is None or s.active is None:
        return
    reason, breach = found
    words = f"Version {s.active.version} is in breach and was not rolled back ({reason}): {breach.message}"
    key = f"breach/{s.epoch}/{reason}/{breach.reason}"
    yield EmitEvent(type="Warning", reason=reason, message=words, key=key, action="Guard")


def _warned(s: Situation) -> Iterator[EmitEvent]:
    for verdict in guard.warnings(s):
        words = f"Version {s.active.version if s.active else '?'}: {verdict.evidence.text}"
        key = f"gate/{s.epoch}/{verdict.reason}"
        yield EmitEvent(type="Warning", reason=verdict.reason, message=words, key=key, action="Guard")


def _untold(s: Situation) -> Iterator[EmitEvent]:
    pods = tracks.untold(s)
    if pods:
        words = (
            f"{len(pods)} pods that serve users cannot be told so ({pods[0]}): their admin port does not answer the"
            " operator, or refuses its key; only their errors are judged, and with each heartbeat"
        )
        yield EmitEvent(type="Warning", reason=reasons.NOT_TOLD, message=words, key=f"untold/{s.epoch}", action="Guard")


def _drained(s: Situation) -> Iterator[EmitEvent]:
    """Tell when the loser of a switch has no open user connection left, and when it answered its last request."""
    decision = s.decision
    if decision is None or decision.source is None:
        return
    pods = s.pods(decision.source.color, decision.source.revision)
    reports = [pod.report for pod in pods if pod.report is not None and not pod.report_foreign]
    told = [report for report in reports if report.role != "active"]
    since = [report for report in told if (parse_time(report.time) or 0.0) >= decision.time]
    if not pods or len(since) < len(pods) or any(report.openUserConnections for report in since):
        return
    answers = [at for report in since if (at := parse_time(report.lastOwnUserAnswer)) is not None]
    last = max(answers, default=None)
    when = (
        f"{last - decision.time:.3f} s after the switch" if last is not None and last > decision.time else "before it"
    )
    words = f"No user is connected to version {decision.source.version} any more; it answered its last request {when}"
    if all(report.role == "draining" for report in since):
        itself = sum(report.ownUserAnswers or 0 for report in since)
        passed_on = sum(report.passedOn or 0 for report in since)
        words += f". Since it was told to drain it answered {itself} itself and passed {passed_on} on"
    yield EmitEvent(
        type="Normal", reason=reasons.DRAINED, message=words, key=f"drained/{decision.epoch}", action="Drain"
    )


def _malformed(s: Situation) -> Iterator[EmitEvent]:
    schedule = retraining.problem(s)
    if schedule is not None:
        yield EmitEvent(
            type="Warning",
            reason=reasons.INVALID_SPEC,
            message=f"No retraining by schedule: {schedule}",
            key=f"schedule/{s.observed.generation}",
            action="Observe",
        )
    for problem in s.observed.malformed:
        yield _unreadable(problem, "AnomalyModel", None)
    for track in s.observed.tracks.values():
        for pod in track.pods:
            for problem in pod.malformed:
                yield _unreadable(problem, pod.uid, pod.name)


def _unreadable(problem: Malformed, owner: str, pod: str | None) -> EmitEvent:
    digest = hashlib.sha256(problem.problem.encode()).hexdigest()[:12]
    return EmitEvent(
        type="Warning",
        reason=reasons.MALFORMED_ANNOTATION,
        message=f"The annotation {problem.key} was ignored: {problem.problem}",
        key=f"malformed/{owner}/{problem.key}/{digest}",
        action="Observe",
        pod=pod,
    )

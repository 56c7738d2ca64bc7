"""When a model is trained anew: drift that holds, a schedule, a command. One Job at a time, within a budget.

A line of `status.retrainings` is written before its Job is started, and the Job's name follows from what asked for
it: so nothing is started twice, whenever the operator is killed. A failed Job changes nothing else.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile
from typing import Literal

from anomaly_operator.domain import reasons
from anomaly_operator.domain.actions import Action, EmitEvent, StartJob
from anomaly_operator.domain.cron import Cron, CronError
from anomaly_operator.domain.jobs import Job
from anomaly_operator.domain.manifests.common import canonical_hash
from anomaly_operator.domain.manifests.jobs import reads_pods, retraining_job
from anomaly_operator.domain.model import Command
from anomaly_operator.domain.records import Retraining, Status
from anomaly_operator.domain.rollback import is_stuck
from anomaly_operator.domain.situation import Situation
from anomaly_operator.domain.spec import Retraining as RetrainingSpec
from anomaly_operator.domain.times import Time

KEPT = 20
"""Lines of `status.retrainings`, or as many as the day's budget."""
DAY = 86_400.0
_GRACE_SECONDS = 60.0
_WORDS_SECONDS = 5.0
"""How long what a Job's pod said is waited for after the Job has ended."""
_LONGEST_BACK_OFF = DAY
_LOST = "the Job is gone without a word"
_KEPT_OUT = (
    "the Secret that opens the pods' windows could not be created (the chart's value"
    " retraining.fromPods allows it; or set spec.retraining.data)"
)
_NEVER_BEGAN = f"the Job could not begin: {_KEPT_OUT}"
Trigger = Literal["Drift", "Schedule", "Command"]


def review(s: Situation) -> Status:
    """Return the memory with what became of the Jobs, and the next retraining if one is due."""
    lines = tuple(_ended(s, line, _job_of(s, line)) for line in s.memory.retrainings)
    s = s.remembering(replace(s.memory, retrainings=lines))
    new = _due(s)
    return s.memory if new is None else _with(s, new)


def asked_for(s: Situation, command: Command) -> Status:
    """Return the memory with a retraining that somebody asked for."""
    by = command.by or "a command"
    return _with(s, _line(s, "Command", command.id, f"asked for by {by}"))


def start(s: Situation) -> Iterator[Action]:
    """Start the Job of the line that runs, if it is not there or was left suspended.

    One that reads the pods' rows waits for a ready pod.
    """
    line = _running(s.memory)
    if line is None or s.active is None:
        return
    job = _job_of(s, line)
    if job is not None and (not job.suspended or job.finished is not None):
        return
    from_pods = reads_pods(s.spec.retraining)
    pods = s.ready(s.active.color, s.active.revision) if from_pods else ()
    if from_pods and not pods:
        return
    yield StartJob(
        manifest=retraining_job(s.observed, s.spec, s.desired.settings, line, s.memory.drift, s.active.version),
        pods=tuple((pod.name, pod.uid, pod.ip) for pod in pods),
    )


def progress(s: Situation, line: Retraining) -> str:
    """Return how far the Job of a line that runs has come."""
    job = _job_of(s, line)
    if job is None:
        return f"the Job {line.job} is being started"
    if job.suspended:
        return f"the Job {line.job} waits for a ready pod of the active color, or {_KEPT_OUT}"
    return f"the Job {line.job} is running"


def events(s: Situation, before: Status) -> Iterator[EmitEvent]:
    """Tell of retrainings that began or ended."""
    known = {line.job: line.outcome for line in before.retrainings}
    for line in reversed(s.memory.retrainings):
        if known.get(line.job) == line.outcome:
            continue
        running, failed = line.outcome == "Running", line.outcome == "Failed"
        what = "was started" if running else f"{line.outcome.lower()}: {line.message}".rstrip(": ")
        yield EmitEvent(
            type="Warning" if failed else "Normal",
            reason=reasons.RETRAINING_STARTED if running else reasons.RETRAINING_ENDED,
            message=f"The retraining {line.job} ({line.trigger}: {line.reason}) {what}",
            key=f"retraining/{line.job}/{line.outcome}",
            action="Retrain",
        )


def is_running(status: Status) -> bool:
    """Return whether a retraining is under way."""
    return _running(status) is not None


def _running(status: Status) -> Retraining | None:
    return next((line for line in status.retrainings if line.outcome == "Running"), None)


def _job_of(s: Situation, line: Retraining) -> Job | None:
    return next((job for job in s.observed.jobs if job.name == line.job), None)


def _with(s: Situation, line: Retraining) -> Status:
    kept = max(KEPT, s.spec.retraining.max_per_day)  # the budget is counted on what is remembered
    return replace(s.memory, retrainings=(line, *s.memory.retrainings)[:kept])


def _line(s: Situation, trigger: Trigger, event: str, reason: str) -> Retraining:
    name = f"{s.observed.name}-retraining-{canonical_hash([s.observed.uid, trigger, event])[:8]}"
    return Retraining(job=name, trigger=trigger, reason=reason, started_at=s.now)


def _ended(s: Situation, line: Retraining, job: Job | None) -> Retraining:
    if line.outcome != "Running":
        return line
    if job is not None and job.finished is not None:
        if not job.heard and not s.is_past(job.finished + _WORDS_SECONDS):
            return line
        words = job.message or (f"version {job.version} was registered" if job.version else "")
        return replace(
            line,
            outcome="Succeeded" if job.succeeded else "Failed",
            failure=job.failure,
            ended_at=job.finished,
            message=words,
            version=job.version,
            run_id=job.run_id,
        )
    waits = job is None or job.suspended
    if waits and s.is_past(line.started_at + s.spec.retraining.deadline + _GRACE_SECONDS):
        failure, words = (reasons.LOST, _LOST) if job is None else (reasons.NEVER_BEGAN, _NEVER_BEGAN)
        return replace(line, outcome="Failed", failure=failure, ended_at=s.now, message=words)
    return line


def _due(s: Situation) -> Retraining | None:
    """Return the retraining that is due now, if there is one and the budget allows it."""
    spec, memory = s.spec.retraining, s.memory
    if not spec.enabled or s.desired.spec_error or s.active is None or is_running(memory):
        return None
    if memory.retreat is not None and not is_stuck(s):
        return None  # going back may be all that it takes, and rows of the version that is left would be learned from
    line = _by_drift(s) or _by_schedule(s)
    if line is None:
        return None
    return line if s.is_past(earliest(memory, spec)) else None


def earliest(memory: Status, spec: RetrainingSpec) -> Time:
    """Return before when no retraining begins but by command: cooldown, back-off after failures, the day's budget.

    The pause after a failure doubles with each one that follows, up to a day.
    """
    lines, failed = memory.retrainings, failures(memory)
    if not lines:
        return 0.0
    newest = lines[0]
    times = [newest.started_at + spec.cooldown]
    if failed and newest.ended_at is not None:
        doubled = min(spec.cooldown * 2.0 ** (failed - 1), _LONGEST_BACK_OFF)
        times.append(newest.ended_at + max(spec.cooldown, doubled))
    if len(lines) >= spec.max_per_day:
        times.append(lines[spec.max_per_day - 1].started_at + DAY)
    return max(times)


def failures(memory: Status) -> int:
    """Return how many retrainings in a row have failed up to now."""
    ended = (line for line in memory.retrainings if line.outcome != "Running")
    return sum(1 for _ in takewhile(lambda line: line.outcome == "Failed", ended))


def _by_drift(s: Situation) -> Retraining | None:
    """Return the retraining that an established drift asks for: one version for one event, more tries if it failed."""
    episode = s.memory.drift
    if episode is None or episode.verdict == "Pending" or episode.cleared_since is not None:
        return None
    if not s.is_past(episode.since + s.spec.retraining.min_drift_duration):
        return None
    reason = episode.evidence[0].text if episode.evidence and episode.evidence[0].text else "drift"
    tries = [old for old in s.memory.retrainings if old.trigger == "Drift" and old.started_at >= episode.since]
    if any(old.outcome == "Succeeded" for old in tries):
        return None
    return _line(s, "Drift", f"{episode.revision}/{int(episode.since)}/{len(tries)}", reason)


def _by_schedule(s: Situation) -> Retraining | None:
    schedule = s.spec.retraining.schedule
    if schedule is None:
        return None
    try:
        cron = Cron.parse(schedule)
    except CronError:
        return None  # `problem` says so
    following, last = cron.after(s.now), cron.before(s.now)
    if following is not None:
        s.is_past(following)
    since = s.memory.history[-1].ended_at if s.memory.history else s.now
    since = max((old.started_at for old in s.memory.retrainings if old.trigger == "Schedule"), default=since)
    if last is None or last <= since:
        return None
    return _line(s, "Schedule", str(int(last)), f"schedule {schedule}")


def problem(s: Situation) -> str | None:
    """Return what is wrong with the schedule, in words."""
    schedule = s.spec.retraining.schedule
    if schedule is None or not s.spec.retraining.enabled:
        return None
    try:
        Cron.parse(schedule)
    except CronError as error:
        return f"spec.retraining.schedule {schedule!r}: {error}"
    return None

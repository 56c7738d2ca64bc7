"""Read a retraining Job, and what its pod said when it ended (docs/pod-contract.md, "A training Job")."""

import json
from dataclasses import dataclass

from anomaly_operator.domain import names, reasons
from anomaly_operator.domain.records import Json
from anomaly_operator.domain.times import parse_time

_MOST_WORDS = 500
"""Characters of a termination message that is not JSON: the end of a log may come instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A retraining Job of this model, from its body (`jobs.job`)."""

    name: str
    trigger: str = "Command"
    """Annotation `anomalymodel.dev/trigger`: Drift, Schedule or Command."""
    reason: str = ""
    """Annotation `anomalymodel.dev/reason`."""
    created: float = 0.0
    finished: float | None = None
    succeeded: bool = False
    failure: str = ""
    """Why it failed, in one word (`records.Retraining.failure`)."""
    message: str = ""
    suspended: bool = False
    """Not begun yet: what its pods need is not all there."""
    version: str | None = None
    """The version that it registered, from the termination message of its pod (`jobs.said_by`)."""
    run_id: str | None = None
    """The run that logged the version, from there too."""
    heard: bool = True
    """Whether a pod of it was seen to end: Jobs and pods are watched apart, and either may be seen first."""


def job(body: Json, said: Json | None = None) -> Job:
    """Read a retraining Job, and what its pod `said` of it (`said_by`)."""
    metadata, status = body.get("metadata") or {}, body.get("status") or {}
    annotations = metadata.get("annotations") or {}
    ended = [c for c in status.get("conditions") or () if c.get("status") == "True"]
    complete = next((c for c in ended if c.get("type") == "Complete"), None)
    failed = next((c for c in ended if c.get("type") == "Failed"), None)
    last = complete or failed
    finished = None
    if last is not None:
        finished = parse_time(status.get("completionTime")) or parse_time(last.get("lastTransitionTime"))
    return Job(
        name=metadata.get("name", ""),
        trigger=annotations.get(names.TRIGGER, "Command"),
        reason=annotations.get(names.REASON, ""),
        created=parse_time(metadata.get("creationTimestamp")) or 0.0,
        finished=finished,
        succeeded=complete is not None,
        failure=_failure(failed, said or {}) if failed else "",
        message=_words(failed or {}, said or {}),
        suspended=bool((body.get("spec") or {}).get("suspend")),
        version=_text(said or {}, "version"),
        run_id=_text(said or {}, "runId"),
        heard=bool(said),
    )


def said_by(pod: Json) -> Json:
    """Return the termination message of a training Job's pod (docs/pod-contract.md); words become `message`.

    One that left no message said how it ended, if that was not well.
    """
    ended = [
        (status.get("name") or "", terminated)
        for status in (pod.get("status") or {}).get("containerStatuses") or ()
        if (terminated := (status.get("state") or {}).get("terminated"))
    ]
    for _, terminated in ended:
        text = terminated.get("message")
        if not text:
            continue
        try:
            said = json.loads(text)
        except ValueError:
            said = None
        return said if isinstance(said, dict) else {"message": text.strip()[-_MOST_WORDS:]}
    for name, terminated in ended:
        if terminated.get("exitCode"):
            why = terminated.get("reason") or "Error"
            return {"message": f"container {name} ended with exit code {terminated['exitCode']} ({why})"}
    return {}


def _failure(failed: Json, said: Json) -> str:
    """Return in one word why a Job failed."""
    if said.get("aliasMoved") is False and said.get("version"):
        return reasons.NOT_BETTER
    return reasons.DEADLINE_EXCEEDED if failed.get("reason") == reasons.DEADLINE_EXCEEDED else reasons.JOB_FAILED


def _words(failed: Json, said: Json) -> str:
    """Return why a Job failed, in its own words: an error, or the comparison that the new version lost."""
    if said.get("aliasMoved") is False and said.get("version"):
        return f"version {said['version']} was registered, but the alias stayed: {said.get('verdict') or 'no reason'}"
    own, about = _text(said, "message") or "", failed.get("message") or ""
    if own and failed.get("reason") == reasons.DEADLINE_EXCEEDED:
        return f"{about}; {own}"
    return own or about


def _text(said: Json, name: str) -> str | None:
    return None if said.get(name) is None else str(said[name])

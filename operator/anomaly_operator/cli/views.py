"""What the reading commands show, as text made of an AnomalyModel."""

from collections.abc import Iterator, Sequence

from anomaly_operator.cli.memory import Remembered
from anomaly_operator.cli.tables import age, evidence, number, percent, table
from anomaly_operator.domain.codec import status_from_json
from anomaly_operator.domain.records import HistoryEntry, Json, Status, TrackStatus
from anomaly_operator.domain.shown import LastReport
from anomaly_operator.domain.times import Time, parse_time, rfc3339

_SERVING = {"Promoted", "RolledBack", "Restored"}
_GOOD_WHEN_FALSE = {"Stalled", "Reconciling", "Drifted"}


def listing(models: Sequence[Json], now: Time, *, everywhere: bool) -> str:
    """Return one line a model."""
    if not models:
        return "No AnomalyModels found."
    header = ["NAME", "PHASE", "ACTIVE", "VERSION", "CANDIDATE", "DRIFT", "ERRORS", "READY", "AGE"]
    rows = []
    for model in sorted(models, key=lambda m: (m["metadata"]["namespace"], m["metadata"]["name"])):
        status, metadata = status_from_json(model.get("status")), model["metadata"]
        report = status.last_report
        row: list[object] = [
            metadata["name"],
            status.phase if model.get("status") else "",
            status.active.color if status.active else "",
            status.active.version if status.active else "",
            status.candidate.version if status.candidate else "",
            number(report.drift_confidence) if report else "",
            percent(report.error_rate) if report else "",
            _condition(status, "Ready"),
            age(parse_time(metadata.get("creationTimestamp")), now),
        ]
        rows.append([metadata["namespace"], *row] if everywhere else row)
    return table(["NAMESPACE", *header] if everywhere else header, rows)


def overview(model: Json, now: Time) -> str:
    """Return everything about one model that a person asks first."""
    status = status_from_json(model.get("status"))
    metadata, wanted = model["metadata"], model["spec"]["model"]
    followed = next(f"{key} {wanted[key]}" for key in ("alias", "version", "stage") if key in wanted)
    parts = [
        f"Name:      {metadata['namespace']}/{metadata['name']}",
        f"Model:     {wanted['name']}, {followed}",
        f"Phase:     {status.phase}" + (f", {status.step}" if status.step else ""),
        f"Message:   {status.message or '-'}",
    ]
    if status.observed_generation != metadata.get("generation"):
        parts.append("Note:      the operator has not taken up the newest spec yet")
    parts += ["", _tracks(status, now), "", f"Report:    {_report(status.last_report, now)}", ""]
    parts.append(
        table(
            ["CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"],
            [(c.type, c.status, c.reason, age(c.last_transition_time, now), c.message) for c in status.conditions],
        )
    )
    parts += _extras(status, now)
    return "\n".join(parts)


def _tracks(status: Status, now: Time) -> str:
    named: tuple[tuple[str, TrackStatus | None], ...] = (
        ("active", status.active),
        ("candidate", status.candidate),
        ("standby", status.standby),
    )
    rows = [
        (part, t.color, t.version, t.revision, t.ready_replicas, age(t.since, now), t.digest[:19])
        if t
        else (part, *[""] * 6)
        for part, t in named
    ]
    return table(["TRACK", "COLOR", "VERSION", "REVISION", "READY", "SINCE", "DIGEST"], rows)


def _report(report: LastReport | None, now: Time) -> str:
    if report is None:
        return "none yet"
    words = (
        f"errors {percent(report.error_rate) or 'unknown'}",
        f"drift {number(report.drift_confidence) or '-'} ({report.drift_verdict})",
        f"anomalies {percent(report.anomaly_rate) or 'unknown'}",
        f"p95 {number(report.latency_p95_milliseconds) or '-'} ms",
        f"{report.requests} requests from {report.pods} pods",
        f"{age(report.time, now)} ago",
    )
    return ", ".join(words)


def _extras(status: Status, now: Time) -> Iterator[str]:
    if status.quarantine:
        yield ""
        yield table(
            ["QUARANTINED", "VERSION", "REASON", "SINCE", "MESSAGE"],
            [(q.revision, q.version, q.reason, age(q.since, now), q.message) for q in status.quarantine],
        )
    if status.retrainings:
        yield ""
        yield table(
            ["RETRAINING", "TRIGGER", "WHY", "STARTED", "OUTCOME", "VERSION", "RUN", "MESSAGE"],
            [
                (
                    r.job,
                    r.trigger,
                    r.reason,
                    age(r.started_at, now),
                    r.failure or r.outcome,
                    r.version,
                    r.run_id,
                    r.message,
                )
                for r in status.retrainings
            ],
        )
    if (last := status.last_command) is not None:
        yield ""
        answer = f"{last.outcome}" + (f": {last.message}" if last.message else "")
        yield f"Command:   {last.verb} by {last.by or 'unknown'}, {age(last.time, now)} ago: {answer}"


def history(decisions: Sequence[Remembered]) -> str:
    """Return the decisions, newest first."""
    if not decisions:
        return "No decisions yet."
    return table(
        ["ENDED", "OUTCOME", "VERSION", "REVISION", "FROM", "NOW ACTIVE", "REASON", "WHO", "KEPT IN", "EVIDENCE"],
        [
            (
                rfc3339(e.ended_at),
                e.outcome,
                e.version,
                e.revision,
                _versioned(e.previous_version, e.previous),
                _versioned(e.active_version, e.active),
                e.reason,
                e.who.claimed or e.who.source,
                "+".join(one.kept_in),
                evidence(e.evidence),
            )
            for one in decisions
            for e in (one.entry,)
        ],
    )


def served_at(entries: Sequence[HistoryEntry], at: Time) -> HistoryEntry | None:
    """Return the newest decision about who serves that was made by `at`; None if the history does not reach back."""
    made = [e for e in entries if e.outcome in _SERVING and e.ended_at <= at]
    return max(made, key=lambda e: e.ended_at, default=None)


def why(model: Json) -> str:
    """Return in sentences why the model is as it is: the newest decision, then what holds it up."""
    status = status_from_json(model.get("status"))
    lines = [f"{status.phase}: {status.message}" if status.message else f"{status.phase}."]
    if status.active:
        lines.append(f"Version {_versioned(status.active.version, status.active.revision)} serves users.")
    if status.history:
        lines.append(_sentence(status.history[0]))
    for c in status.conditions:
        if c.status != ("False" if c.type in _GOOD_WHEN_FALSE else "True"):
            said = "" if c.message == status.message else f": {c.message}"  # the first line has said it already
            lines.append(f"Condition {c.type} is {c.status} ({c.reason}){said}")
    lines += [
        f"Version {_versioned(q.version, q.revision)} is quarantined ({q.reason}): {q.message}"
        for q in status.quarantine
    ]
    return "\n".join(lines)


def _sentence(entry: HistoryEntry) -> str:
    verb = {
        "Promoted": "promoted",
        "RolledBack": "rolled back",
        "Restored": "restored",
        "Aborted": "rejected before users saw it",
    }[entry.outcome]
    measured = evidence(entry.evidence)
    who = entry.who.claimed or entry.who.source
    return (
        f"The newest decision: version {_versioned(entry.version, entry.revision)} was {verb}"
        f" at {rfc3339(entry.ended_at)} by {who}, reason {entry.reason}"
        + (f": {entry.message}" if entry.message else "")
        + (f" [{measured}]" if measured else "")
        + "."
    )


def _versioned(version: str, revision: str) -> str:
    return f"{version} ({revision})" if version and revision else version or revision


def _condition(status: Status, kind: str) -> str:
    return next((c.status for c in status.conditions if c.type == kind), "")

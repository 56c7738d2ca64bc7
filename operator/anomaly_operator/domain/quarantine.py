"""Revisions that must not get users: how they get there, and how they get out."""

from dataclasses import replace

from anomaly_operator.domain import history
from anomaly_operator.domain.model import Resolved, Revision
from anomaly_operator.domain.records import AUTOMATIC, Evidence, HistoryEntry, Quarantined, Status, Who
from anomaly_operator.domain.situation import Situation

LIMIT = 50
"""Entries kept, newest first."""


def abort(s: Situation, reason: str, message: str, evidence: tuple[Evidence, ...], *, who: Who = AUTOMATIC) -> Status:
    """Return the memory without the candidate: quarantined, and in the history with its reason."""
    candidate = s.memory.candidate
    if candidate is None:
        return s.memory
    entry = HistoryEntry(
        revision=candidate.revision,
        version=candidate.version,
        digest=candidate.digest,
        run_id=candidate.run_id,
        outcome="Aborted",
        reason=reason,
        message=message,
        evidence=evidence,
        who=who,
        active=s.active.revision if s.active else "",
        active_version=s.active.version if s.active else "",
        started_at=candidate.since,
        ended_at=s.now,
    )
    rejected = Quarantined(
        revision=candidate.revision, version=candidate.version, reason=reason, message=message, since=s.now
    )
    memory = history.add(s.memory, entry, s.spec.revision_history_limit)
    return replace(history.quarantine(memory, rejected), candidate=None, trial=None)


def review(s: Situation) -> Status:
    """Return the memory with what the registry and the clock release: the alias left and returned, or time is up."""
    kept = []
    for entry in s.memory.quarantine[:LIMIT]:
        if _time_is_up(s, entry):
            continue
        wanted = _is_wanted(s, entry)
        if wanted and entry.alias_left:
            continue
        kept.append(replace(entry, alias_left=True) if wanted is False else entry)
    return replace(s.memory, quarantine=tuple(kept))


def _time_is_up(s: Situation, entry: Quarantined) -> bool:
    duration = s.spec.quarantine.duration
    return duration is not None and s.is_past(entry.since + duration)


def _is_wanted(s: Situation, entry: Quarantined) -> bool | None:
    """Return whether the registry points at the quarantined revision; None if it did not say."""
    if not isinstance(s.desired.resolution, Resolved) or not isinstance(s.wanted, Revision):
        return None
    if s.wanted.name == entry.revision:
        return True
    return None if s.wanted.version == entry.version else False

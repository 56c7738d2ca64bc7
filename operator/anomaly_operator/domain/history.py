"""`status.history`: who served when and why, as a hash chain, newest first."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from anomaly_operator.domain.codec import to_json
from anomaly_operator.domain.records import Decision, HistoryEntry, Placed, Quarantined, Status, TrackStatus


def add(status: Status, entry: HistoryEntry, limit: int) -> Status:
    """Put an entry on top, chained to the one below; what falls off leaves its hash in the anchor."""
    before = status.history[0].hash if status.history else status.history_anchor
    history = (replace(entry, hash=entry_hash(entry, before)), *status.history)
    kept, dropped = history[:limit], history[limit:]
    return replace(status, history=kept, history_anchor=dropped[0].hash if dropped else status.history_anchor)


def entry_hash(entry: HistoryEntry, before: str) -> str:
    """Return the sha256 over an entry without its hash, and the hash of the entry before it."""
    value = _numbers(to_json(replace(entry, hash="")))
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(f"{before}\n{text}".encode()).hexdigest()


def verify(history: Sequence[HistoryEntry], anchor: str) -> str | None:
    """Return what is wrong with the chain, None if it is unbroken."""
    before = anchor
    for entry in reversed(history):
        if entry.hash != entry_hash(entry, before):
            return f"the entry about version {entry.version} ({entry.outcome}, {entry.reason}) does not match its hash"
        before = entry.hash
    return None


def complete(status: Status, decision: Decision | None, limit: int) -> Status:
    """Complete `active`, `standby`, `history` and `quarantine` from the decision on the Service.

    This is what makes a crash between the selector's write and the status's harmless.
    """
    if decision is None:
        return status
    for one in (*decision.pending, decision):
        if one.epoch > status.decision_epoch:
            status = _record(status, one, limit)
    if status.active is None or place_of(status.active) != decision.to:
        status = replace(status, active=track_at(decision.to, decision.time), decision_epoch=decision.epoch)
    return status


def unrecorded(status: Status, decision: Decision | None) -> tuple[Decision, ...]:
    """Return the decisions that `status` does not hold yet, oldest first, for the next decision to carry on."""
    if decision is None:
        return ()
    flat = (*decision.pending, replace(decision, pending=()))
    return tuple(one for one in flat if one.epoch > status.decision_epoch)


def quarantine(status: Status, entry: Quarantined) -> Status:
    """Add a revision to the quarantine, once."""
    others = tuple(one for one in status.quarantine if one.revision != entry.revision)
    return replace(status, quarantine=(entry, *others))


def _record(status: Status, decision: Decision, limit: int) -> Status:
    status, left = add(status, _entry(decision), limit), decision.source
    rejected = left and _rejected(status, decision, left)
    standby = track_at(left, decision.time) if left and not rejected else None
    if decision.outcome == "Restored":
        standby = status.standby
    moved = status.active is None or status.active.revision != decision.to.revision
    status = replace(
        status,
        active=track_at(decision.to, decision.time),
        standby=standby,
        candidate=None,
        trial=None,
        retreat=None,
        drift=None if moved else status.drift,
        decision_epoch=decision.epoch,
    )
    return quarantine(status, rejected) if rejected else status


def _entry(decision: Decision) -> HistoryEntry:
    about = decision.source if decision.outcome == "RolledBack" and decision.source else decision.to
    return HistoryEntry(
        revision=about.revision,
        version=about.version,
        digest=about.digest,
        run_id=about.run_id,
        outcome=decision.outcome,
        reason=decision.reason,
        message=decision.message,
        evidence=decision.evidence,
        who=decision.who,
        active=decision.to.revision,
        active_version=decision.to.version,
        previous=decision.source.revision if decision.source else "",
        previous_version=decision.source.version if decision.source else "",
        started_at=decision.started_at,
        ended_at=decision.time,
        epoch=decision.epoch,
    )


def _rejected(status: Status, decision: Decision, left: Placed) -> Quarantined | None:
    """Return the quarantine of what was left: rolled back from, or relieved while it was to be rolled back."""
    retreat = status.retreat
    if decision.outcome == "RolledBack":
        reason, message = decision.reason, decision.message
    elif decision.outcome == "Promoted" and retreat is not None and retreat.source == left:
        reason, message = retreat.reason, retreat.message
    else:
        return None
    return Quarantined(
        revision=left.revision, version=left.version, reason=reason, message=message, since=decision.time
    )


def track_at(place: Placed, since: float) -> TrackStatus:
    """Return the line of status for a place."""
    return TrackStatus(
        color=place.color,
        revision=place.revision,
        version=place.version,
        digest=place.digest,
        run_id=place.run_id,
        since=since,
    )


def place_of(track: TrackStatus) -> Placed:
    """Return the place that a line of status names."""
    return Placed(
        color=track.color,
        revision=track.revision,
        version=track.version,
        digest=track.digest,
        run_id=track.run_id,
    )


def _numbers(value: Any) -> Any:
    """Return the value with whole floats as integers: the API server writes 1.0 as 1."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value

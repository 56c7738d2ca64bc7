"""What of the recorded history has still to be told: in the log and as Events.

Derived from what status has recorded, never from what a plan is about to record: a decision that could not be written
down is made anew and told once. `status.historyTold` says how far that went, so nothing is lost when the operator dies.
"""

from collections.abc import Iterator
from dataclasses import replace

from anomaly_operator.domain.actions import Action, EmitEvent, PublishDecision
from anomaly_operator.domain.records import HistoryEntry, Status
from anomaly_operator.domain.situation import Situation

_WORDS = {
    "Promoted": "Version {0.version} was promoted: {0.message}",
    "RolledBack": "Version {0.version} was rolled back to {0.active_version}: {0.message}",
    "Aborted": "Version {0.version} was rejected before users saw it: {0.message}",
    "Restored": "The users' Service was restored to version {0.version}",
}


def review(s: Situation) -> Status:
    """Return the memory with how far the recorded history will have been told after this plan."""
    recorded = s.observed.status.history
    return replace(s.memory, history_told=recorded[0].hash) if recorded else s.memory


def tell(s: Situation) -> Iterator[Action]:
    """Tell what has been recorded since; Events bear names made of their entries, so a repetition is none."""
    for entry in _untold(s.observed.status):
        yield _about(entry)
        yield PublishDecision(entry=entry)


def _untold(status: Status) -> tuple[HistoryEntry, ...]:
    """Return the entries after the last one that was told, oldest first; all of them if that is not known."""
    hashes = [entry.hash for entry in status.history]
    known = hashes.index(status.history_told) if status.history_told in hashes else len(hashes)
    return tuple(reversed(status.history[:known]))


def _about(entry: HistoryEntry) -> EmitEvent:
    bad = entry.outcome in ("RolledBack", "Aborted")
    return EmitEvent(
        type="Warning" if bad else "Normal",
        reason=entry.outcome if entry.outcome != "Promoted" else entry.reason,
        message=_WORDS[entry.outcome].format(entry),
        key=f"history/{entry.hash}",
        action=entry.outcome,
    )

"""What the registry remembers of a deployment, as tags: each decision with its version, retrainings with the model.

A decision's tag bears a part of its hash in its name, so none overwrites another and writing it twice changes nothing.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from anomaly_detector.report import PREFIX
from anomaly_operator.domain import codec
from anomaly_operator.domain.records import HistoryEntry, Retraining, Status
from anomaly_operator.domain.times import rfc3339

LONGEST = 5000
"""Characters of a tag's value, by MLflow."""
_LONGEST_MESSAGE = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A decision as the registry remembers it."""

    entry: HistoryEntry
    uid: str
    """Of the AnomalyModel: another one may have had the name before, or have it in another cluster."""
    shortened: bool
    """Whether words were left out, so that only the hash can be compared."""


def prefix(namespace: str, name: str) -> str:
    """Return how the names of the tags about one AnomalyModel's decisions begin."""
    return f"{PREFIX}history.{namespace}.{name}."


def key(namespace: str, name: str, entry: HistoryEntry) -> str:
    """Return the name of the tag about a decision."""
    return prefix(namespace, name) + entry.hash[:12]


def value(namespace: str, name: str, uid: str, entry: HistoryEntry) -> str:
    """Return a decision as a tag's value: words are left out before it gets too long; the hash never is."""
    place = {"namespace": namespace, "anomalyModel": name, "uid": uid}
    full = codec.to_json(entry)
    bare = [{name: value for name, value in seen.items() if name != "text"} for seen in full.get("evidence", ())]
    shorter = full | {"evidence": bare, "shortened": True}
    needed = ("revision", "version", "active", "activeVersion", "outcome", "reason", "endedAt", "hash", "shortened")
    for candidate in (full, shorter, shorter | {"message": ""}):
        text = _compact(candidate | place)
        if len(text) <= LONGEST:
            return text
    return _compact({name: shorter[name] for name in needed if name in shorter} | place)


def read(tags: Mapping[str, str], namespace: str, name: str) -> list[Recorded]:
    """Return the decisions about one AnomalyModel among a version's tags; what cannot be read is left out."""
    found = []
    for tag, text in tags.items():
        if not tag.startswith(prefix(namespace, name)):
            continue
        try:
            said: Any = json.loads(text)
            entry = codec.from_json(HistoryEntry, said, tag)
        except ValueError:
            continue
        found.append(Recorded(entry=entry, uid=str(said.get("uid")), shortened=bool(said.get("shortened"))))
    return found


def contradictions(status: Status, recorded: Sequence[Recorded]) -> list[str]:
    """Return in words where status and the registry's memory of the same AnomalyModel differ."""
    by_hash = {one.entry.hash: one for one in recorded}
    held = {entry.hash for entry in status.history}
    problems = []
    for entry in status.history:
        known = by_hash.get(entry.hash)
        if known is None and entry.version:
            problems.append(f"the registry has no tag about {_named(entry)}")
        elif known is not None and not known.shortened and known.entry != entry:
            problems.append(f"the registry's tag about {_named(entry)} says something else")
    if status.history_anchor and status.history_anchor not in by_hash:
        problems.append(f"historyAnchor {status.history_anchor[:12]} is the hash of no decision that the registry has")
    oldest = min((entry.ended_at for entry in status.history), default=0.0)
    lost = (one.entry for one in recorded if one.entry.hash not in held and one.entry.ended_at > oldest)
    return problems + [f"status lacks {_named(entry)}, which the registry has" for entry in lost]


def retrainings_key(namespace: str, name: str) -> str:
    """Return the name of the registered model's tag about the retrainings of one AnomalyModel."""
    return f"{PREFIX}retrainings.{namespace}.{name}"


def retrainings_value(lines: Iterable[Retraining]) -> str:
    """Return as many retrainings, newest first, as a tag can hold."""
    short = [codec.to_json(replace(line, message=line.message[:_LONGEST_MESSAGE])) for line in lines]
    while len(text := _compact(short)) > LONGEST:
        short.pop()
    return text


def _named(entry: HistoryEntry) -> str:
    return f"version {entry.version} ({entry.outcome}, {entry.reason}, {rfc3339(entry.ended_at)})"


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))

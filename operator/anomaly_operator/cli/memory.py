"""A model's decisions, as status and the registry remember them together."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from anomaly_operator.cli.errors import CliError
from anomaly_operator.cli.registry import RegistryUnavailableError, version_tags
from anomaly_operator.domain import registry_tags
from anomaly_operator.domain.codec import status_from_json, to_json
from anomaly_operator.domain.history import verify
from anomaly_operator.domain.records import HistoryEntry, Json, Status
from anomaly_operator.domain.registry_tags import Recorded

NO_ANSWER = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """A decision, and who holds it."""

    entry: HistoryEntry
    kept_in: tuple[str, ...]

    def to_json(self) -> Json:
        """Return the decision as a JSON object with `keptIn`."""
        return to_json(self.entry) | {"keptIn": list(self.kept_in)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is remembered of one AnomalyModel."""

    model: Json
    status: Status
    recorded: tuple[Recorded, ...] = ()
    unasked: str | None = None
    """Why the registry was not asked, or did not answer."""

    def decisions(self) -> list[Remembered]:
        """Return all decisions, newest first: those of status, then those that only the registry still has."""
        known = {one.entry.hash for one in self.recorded}
        held = {entry.hash for entry in self.status.history}
        of_status = [
            Remembered(entry=entry, kept_in=("status", "registry") if entry.hash in known else ("status",))
            for entry in self.status.history
        ]
        others = [Remembered(entry=one.entry, kept_in=("registry",)) for one in self.recorded]
        return sorted(
            [*of_status, *(other for other in others if other.entry.hash not in held)],
            key=lambda one: one.entry.ended_at,
            reverse=True,
        )


def recall(model: Json, uri: str | None, *, ask_registry: bool) -> Memory:
    """Gather what status and, if `ask_registry`, the registry at `uri` or `spec.model.trackingUri` hold."""
    status, metadata, wanted = status_from_json(model.get("status")), model["metadata"], model["spec"]["model"]
    if not ask_registry:
        return Memory(model=model, status=status, unasked="not asked (--no-registry)")
    try:
        versions = version_tags(uri or wanted.get("trackingUri"), wanted["name"])
    except RegistryUnavailableError as error:
        return Memory(model=model, status=status, unasked=str(error))
    found = [
        one
        for tags in versions
        for one in registry_tags.read(tags, metadata["namespace"], metadata["name"])
        if one.uid == metadata["uid"]
    ]
    return Memory(model=model, status=status, recorded=tuple(found))


def warn(memory: Memory, *, ask_registry: bool) -> None:
    """Say that the registry's part is missing where somebody may expect it."""
    if ask_registry and memory.unasked:
        sys.stderr.write(f"note: only what status holds: {memory.unasked}\n")


def check(memory: Memory, *, ask_registry: bool) -> None:
    """Verify the hash chain, its anchor and the registry's tags, and say so.

    Raises CliError: code 1 if anything was changed or is missing, 3 if the registry could not be compared.
    """
    problem = verify(memory.status.history, memory.status.history_anchor)
    if len(memory.status.history) != len((memory.model.get("status") or {}).get("history") or ()):
        problem = "an entry cannot be read"  # and the readable rest must not pass for all of it
    if problem:
        raise CliError(f"the history was changed after it was written: {problem}")
    count = len(memory.status.history)
    sys.stderr.write(f"hash chain: {count} entries, unbroken\n")
    if not ask_registry:
        return
    if memory.unasked:
        raise CliError(f"not compared with the registry: {memory.unasked}", NO_ANSWER)
    problems = registry_tags.contradictions(memory.status, memory.recorded)
    if problems:
        raise CliError("status and registry differ: " + "; ".join(problems))
    older = len(memory.decisions()) - count
    sys.stderr.write(f"registry: has the same{f', and {older} older ones' if older else ''}\n")


def entries(memory: Memory) -> Sequence[HistoryEntry]:
    """Return the decisions without who holds them."""
    return [one.entry for one in memory.decisions()]

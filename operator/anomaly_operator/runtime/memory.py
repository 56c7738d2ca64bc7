"""What no object holds: the volatile memory about each model. All of it may be lost; the plan then asks again."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from anomaly_operator.domain.availability import Shortage
from anomaly_operator.domain.model import ReplayResult, Resolved, RoleOrder, Unresolved
from anomaly_operator.domain.records import Color
from anomaly_operator.domain.spec import Spec
from anomaly_operator.runtime.workqueue import Key

TOLD_REMEMBERED = 200
Container = tuple[str, float | None]
"""A pod's UID and when its container started: another process behind the same name has been told nothing."""


@dataclass(slots=True)
class Memory:
    """Volatile memory about one AnomalyModel."""

    uid: str
    spec: Spec | None = None
    """The last that parsed."""
    spec_error: str | None = None
    """Why the newest does not parse."""
    generation: int = -1
    """Of the newest that was looked at."""
    resolution: Resolved | Unresolved | None = None
    unreachable: str | None = None
    acknowledged: dict[Container, RoleOrder] = field(default_factory=dict)
    smoke_tests: dict[str, ReplayResult] = field(default_factory=dict)
    replays: dict[str, ReplayResult] = field(default_factory=dict)
    candidate: str | None = None
    """Revision that the results of replays are about."""
    applied: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    shortages: Mapping[Color, Shortage] = field(default_factory=dict)
    recorded: set[str] = field(default_factory=set)
    """Hashes of decisions that the registry has, or refused."""
    recorded_retrainings: str = ""
    """What it was last told of retrainings."""
    record_failures: int = 0
    """Times in a row that it did not answer."""
    told: dict[str, None] = field(default_factory=dict)
    """Events and log lines written of late, oldest first: once is enough."""

    def note_told(self, what: str) -> None:
        """Remember that an Event or a log line was written."""
        self.told[what] = None
        if len(self.told) > TOLD_REMEMBERED:
            del self.told[next(iter(self.told))]


class Memories:
    """Memory by key; a model of the same name but another UID begins anew."""

    def __init__(self) -> None:
        self._by_key: dict[Key, Memory] = {}

    def of(self, key: Key, uid: str) -> Memory:
        """Return the memory about a model."""
        known = self._by_key.get(key)
        if known is None or known.uid != uid:
            known = self._by_key[key] = Memory(uid)
        return known

    def forget(self, key: Key) -> None:
        """Drop the memory about a model that is gone."""
        self._by_key.pop(key, None)

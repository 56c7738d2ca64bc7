"""The arithmetic of a rolling update: pure functions of sizes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from anomaly_devcluster.client import Object
from anomaly_devcluster.controllers.base import share


@dataclass(frozen=True, slots=True)
class Size:
    """A ReplicaSet as the arithmetic sees it."""

    name: str
    wanted: int
    """`spec.replicas`."""
    available: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a rolling update may go over and under the wanted number of pods."""

    surge: int
    unavailable: int

    @classmethod
    def resolve(cls, replicas: int, surge: int | str, unavailable: int | str) -> "Limits":
        """Resolve numbers or percentages: surge is rounded up, unavailable down, and both are never zero."""
        limits = cls(math.ceil(share(surge, replicas)), math.floor(share(unavailable, replicas)))
        return limits if limits.surge or limits.unavailable else cls(0, 1)

    @classmethod
    def of(cls, deployment: Object) -> "Limits":
        """Return what a Deployment's strategy says."""
        rolling = deployment["spec"].get("strategy", {}).get("rollingUpdate") or {}
        surge, unavailable = rolling.get("maxSurge", "25%"), rolling.get("maxUnavailable", "25%")
        return cls.resolve(deployment["spec"].get("replicas", 1), surge, unavailable)


def grown(replicas: int, limits: Limits, new: Size, old: Sequence[Size]) -> int:
    """Return the size that the new ReplicaSet may have now."""
    if new.wanted >= replicas:
        return replicas
    total = new.wanted + sum(size.wanted for size in old)
    room = replicas + limits.surge - total
    return new.wanted + max(0, min(room, replicas - new.wanted))


def shrunk(replicas: int, limits: Limits, new: Size, old: Sequence[Size]) -> dict[str, int]:
    """Return the sizes that old ReplicaSets (oldest first) must have now, those that change only.

    Pods that are not available go first; then as many as stay above the least number of available pods.
    """
    least = replicas - limits.unavailable
    total = new.wanted + sum(size.wanted for size in old)
    budget = total - least - max(0, new.wanted - new.available)
    sizes = {size.name: size.wanted for size in old}
    for size in old:
        cut = max(0, min(budget, size.wanted - size.available))
        sizes[size.name] -= cut
        budget -= cut
    spare = new.available + sum(min(size.available, sizes[size.name]) for size in old) - least
    for size in old:
        cut = max(0, min(spare, budget, sizes[size.name]))
        sizes[size.name] -= cut
        spare -= cut
        budget -= cut
    return {size.name: sizes[size.name] for size in old if sizes[size.name] != size.wanted}

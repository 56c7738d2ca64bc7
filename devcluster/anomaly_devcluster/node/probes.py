"""How often a container is asked how it is, and what its answers amount to, as a kubelet counts them. Pure."""

from dataclasses import dataclass
from typing import Literal, Self

from anomaly_devcluster.client import Object

Kind = Literal["startup", "readiness", "liveness"]


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe's numbers with Kubernetes' defaults."""

    handler: Object
    delay: float
    period: float
    timeout: float
    successes: int
    failures: int

    @classmethod
    def from_spec(cls, spec: Object) -> Self:
        """Read a container's startupProbe, readinessProbe or livenessProbe."""
        return cls(
            handler=spec,
            delay=spec.get("initialDelaySeconds") or 0,
            period=spec.get("periodSeconds") or 10,
            timeout=spec.get("timeoutSeconds") or 1,
            successes=spec.get("successThreshold") or 1,
            failures=spec.get("failureThreshold") or 3,
        )


class Verdict:
    """What a row of results amounts to: it flips only after the threshold's number of equal results."""

    def __init__(self, probe: Probe, kind: Kind) -> None:
        self.healthy: bool | None = {"startup": None, "readiness": False, "liveness": True}[kind]
        self._probe = probe
        self._last: bool | None = None
        self._run = 0

    def observe(self, succeeded: bool) -> bool:  # noqa: FBT001 - the result of a probe is a truth value
        """Take in one result; return whether the verdict changed."""
        self._run = self._run + 1 if succeeded == self._last else 1
        self._last = succeeded
        threshold = self._probe.successes if succeeded else self._probe.failures
        if self._run < threshold or self.healthy == succeeded:
            return False
        self.healthy = succeeded
        return True

"""How often a container is asked how it is, and what its answers amount to, as a kubelet counts them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Self

from anomaly_devcluster.client import Object

Kind = Literal["startup", "readiness", "liveness"]


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe's numbers with Kubernetes' defaults."""

    delay: float
    period: float
    timeout: float
    successes: int
    failures: int

    @classmethod
    def from_spec(cls, spec: Object) -> Self:
        """Read a container's startupProbe, readinessProbe or livenessProbe."""
        return cls(
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


async def observe(
    kind: Kind, spec: Object, begun: float, act: Callable[[Object, float], Awaitable[str | None]]
) -> AsyncIterator[tuple[str | None, bool | None]]:
    """Probe a container that began at `begun` (loop time); yield after each time what was wrong and the verdict."""
    probe, loop = Probe.from_spec(spec), asyncio.get_running_loop()
    verdict = Verdict(probe, kind)
    due = begun + probe.delay
    while True:
        await asyncio.sleep(max(0.0, due - loop.time()))
        due = loop.time() + probe.period
        problem = await act(spec, probe.timeout)
        verdict.observe(not problem)
        yield problem, verdict.healthy

"""How often a container is asked how it is, and what its answers amount to, as a kubelet counts them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal

from anomaly_devcluster.client import Object

Kind = Literal["startup", "readiness", "liveness"]


class Verdict:
    """What a row of results amounts to: it flips only after the threshold's number of equal results."""

    def __init__(self, kind: Kind, spec: Object) -> None:
        self.healthy: bool | None = {"startup": None, "readiness": False, "liveness": True}[kind]
        self._thresholds = {True: spec.get("successThreshold") or 1, False: spec.get("failureThreshold") or 3}
        self._last: bool | None = None
        self._run = 0

    def observe(self, succeeded: bool) -> bool:  # noqa: FBT001 - the result of a probe is a truth value
        """Take in one result; return whether the verdict changed."""
        self._run = self._run + 1 if succeeded == self._last else 1
        self._last = succeeded
        if self._run < self._thresholds[succeeded] or self.healthy == succeeded:
            return False
        self.healthy = succeeded
        return True


async def observe(
    kind: Kind, spec: Object, begun: float, act: Callable[[Object, float], Awaitable[str | None]]
) -> AsyncIterator[tuple[str | None, bool | None]]:
    """Probe a container that began at `begun` (loop time); yield after each time what was wrong and the verdict."""
    verdict, loop = Verdict(kind, spec), asyncio.get_running_loop()
    due = begun + (spec.get("initialDelaySeconds") or 0)
    while True:
        await asyncio.sleep(max(0.0, due - loop.time()))
        due = loop.time() + (spec.get("periodSeconds") or 10)
        problem = await act(spec, spec.get("timeoutSeconds") or 1)
        verdict.observe(not problem)
        yield problem, verdict.healthy

"""Which replica may write: an elector on a coordination.k8s.io/v1 Lease.

A leader is fenced: `holds()` turns false well before another replica can take the Lease over, also when the API
server does not answer. A replica that waits judges the Lease by its own clock, from when it saw the Lease change last,
so clocks need not agree. A leader that ends releases the Lease, and the next one sees that within half a second.
"""

import asyncio
import logging
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from anomaly_operator.adapters.kube import ConflictError, Kube, KubeError, NotFoundError

log = logging.getLogger(__name__)

NAME = "anomaly-operator"
_FENCE = 0.8
"""Share of the Lease during which its holder writes."""


class Elector:
    """Hold or wait for the Lease; `holds()` is the fence that is checked before every write."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        identity: str,
        *,
        seconds: float = 8,
        on_change: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._identity = identity
        self._seconds = seconds
        self._on_change = on_change
        self._held_until = 0.0
        self._leading = False
        self._seen: tuple[Any, ...] = ()
        self._seen_at = 0.0

    @property
    def _clock(self) -> Callable[[], float]:
        return asyncio.get_running_loop().time

    def holds(self) -> bool:
        """Return whether this replica may write now."""
        return self._leading and self._clock() < self._held_until

    def seconds_left(self) -> float:
        """Return how long a write that begins now may take: until the Lease ends at the earliest."""
        return max(0.0, self._held_until + self._seconds * (1 - _FENCE) - self._clock())

    async def run(self, stop: asyncio.Event) -> None:
        """Acquire and renew until `stop` is set, then release."""
        while not stop.is_set():
            held = await self._attempt()
            self._note()
            pause = self._seconds / 5 if held else min(0.4, self._seconds / 5) * random.uniform(0.8, 1.2)
            await _pause(stop, pause)
        await self.release()

    async def watch_fence(self) -> None:
        """Notice the moment when the fence closes although no renewal returned; runs for ever."""
        while True:
            await asyncio.sleep(max(0.05, min(self._held_until - self._clock(), self._seconds / 5)))
            self._note()

    def _note(self) -> None:
        """Tell of a change of leadership once."""
        leading = self._clock() < self._held_until
        if leading != self._leading:
            self._leading = leading
            log.info("leader" if leading else "standing by", extra={"identity": self._identity})
            self._on_change(leading)

    async def _attempt(self) -> bool:
        """Renew or take the Lease if it is free; returns whether it is held."""
        began = self._clock()
        # A request may not outlive the fence: what arrives later would be a write without a lease.
        seconds = self._seconds / 4
        try:
            lease = await self._kube.get("Lease", self._namespace, NAME, seconds=seconds)
            if not self._free(lease):
                return False
            lease["spec"] = self._spec(lease.get("spec") or {})
            await self._kube.replace("Lease", self._namespace, lease, seconds=seconds)
        except NotFoundError:
            if not await self._create(seconds):
                return False
        except ConflictError:
            return False
        except KubeError as error:
            log.warning("the lease could not be renewed: %s", error)
            return False
        # Counted from before the request, and fenced before others, who count from when they saw it, may take it.
        self._held_until = began + self._seconds * _FENCE
        return True

    async def _create(self, seconds: float) -> bool:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": NAME, "namespace": self._namespace},
            "spec": self._spec({}),
        }
        try:
            await self._kube.create("Lease", self._namespace, body, seconds=seconds)
        except KubeError as error:
            log.warning("the lease could not be created: %s", error)
            return False
        return True

    def _free(self, lease: dict[str, Any]) -> bool:
        """Return whether we hold the Lease already, or nobody does, or its holder has not renewed it in time."""
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity")
        seen = (holder, spec.get("renewTime"), spec.get("leaseTransitions"))
        if seen != self._seen:
            self._seen, self._seen_at = seen, self._clock()
        if not holder or holder == self._identity:
            return True
        lasting = float(spec.get("leaseDurationSeconds") or self._seconds)
        return self._clock() - self._seen_at > lasting

    def _spec(self, before: dict[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        transitions = int(before.get("leaseTransitions") or 0)
        ours = before.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, math.ceil(self._seconds)),
            "acquireTime": before.get("acquireTime") if ours and before.get("acquireTime") else now,
            "renewTime": now,
            "leaseTransitions": transitions if ours else transitions + 1,
        }

    async def release(self) -> None:
        """Give the Lease back, so that the next replica need not wait for its end; nothing is written from here on."""
        held = self.holds()
        self._held_until = 0.0
        self._note()
        if not held:
            return
        try:
            lease = await self._kube.get("Lease", self._namespace, NAME, seconds=1)
            if (lease.get("spec") or {}).get("holderIdentity") == self._identity:
                lease["spec"]["holderIdentity"] = ""
                await self._kube.replace("Lease", self._namespace, lease, seconds=1)
        except KubeError as error:
            log.warning("the lease could not be released, it ends by itself: %s", error)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return

"""Which pod reads the points: a Lease of the model, which also keeps the position, so that both change in one write.

The holder is fenced: `holds()` turns false before another pod can take the Lease over. A pod that waits judges the
Lease by its own clock, from when it saw it change last, so clocks need not agree. Every write names the version that
it replaces, so whoever was second learns that and changes nothing.
"""

import asyncio
import json
import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from anomaly_detector.kube import ApiServer, ApplyError
from anomaly_detector.report import PREFIX
from anomaly_detector.source.rows import nanoseconds, rfc3339

log = logging.getLogger(__name__)

POSITION = PREFIX + "source-position"
SECONDS = 15.0
WATCH_SECONDS = 0.5
"""How often is looked whether the Lease is still wanted, which asks nobody."""
_FENCE = 0.8
"""Share of the Lease during which its holder reads and writes."""
_OK_BELOW, _NOT_FOUND, _CONFLICT = 300, 404, 409
Body = dict[str, Any]


class SourceLease:
    """Hold or wait for the Lease `<model>-source` while `wanted()`."""

    def __init__(
        self,
        api: ApiServer,
        *,
        namespace: str,
        model: str,
        pod: str,
        boot_id: str,
        owner_uid: Callable[[], str | None],
        wanted: Callable[[], bool],
        seconds: float = SECONDS,
    ) -> None:
        self._api, self._namespace, self._model, self._pod = api, namespace, model, pod
        self._boot_id, self._owner_uid, self._wanted, self._seconds = boot_id, owner_uid, wanted, seconds
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._body: Body = {}
        self._held_until = 0.0
        self._seen: tuple[Any, ...] = ()
        self._seen_at = 0.0
        self._turn = asyncio.Lock()

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def holds(self) -> bool:
        """Say whether this pod may read and write now."""
        return self._now < self._held_until and self._wanted()

    @property
    def position(self) -> int | None:
        """Return the position as the Lease has it, nanoseconds since the epoch; none where nobody read yet."""
        return _position(self._body)

    async def run(self) -> None:
        """Acquire and renew, until cancelled; release as soon as it is not wanted any more."""
        next_look = 0.0
        try:
            while True:
                if not self._wanted():
                    await self.release()
                elif self._now >= next_look:
                    next_look = self._now + self._seconds / 3 * random.uniform(0.8, 1.0)
                    await self._look()
                await asyncio.sleep(min(WATCH_SECONDS, self._seconds / 3))
        finally:
            await self.release()

    async def advance(self, position: int) -> bool:
        """Write the position, and renew; return whether the Lease was still ours."""
        async with self._turn:
            if not self.holds():
                return False
            return await self._guarded(lambda: self._put(self._pod, position))

    async def release(self) -> None:
        """Let another pod take the Lease at once."""
        async with self._turn:
            held, self._held_until = self._now < self._held_until, 0.0
            if held:
                await self._guarded(lambda: self._put("", None))
                self._held_until = 0.0

    async def _look(self) -> None:
        async with self._turn:
            held = self._now < self._held_until
            if await self._guarded(self._renew if held else self._acquire) and not held:
                log.info("this pod holds the Lease %s", self._name)

    async def _guarded(self, attempt: Callable[[], Any]) -> bool:
        try:
            done: bool = await attempt()
        except (ApplyError, ValueError, KeyError, TypeError) as error:
            log.warning("the Lease %s was not written: %s", self._name, error)
            return False
        return done

    async def _renew(self) -> bool:
        if await self._put(self._pod, None):
            return True
        return await self._acquire()  # somebody changed it: it is ours still, or not

    async def _acquire(self) -> bool:
        answer = await self._api.send("GET", f"{self._path}/{self._name}")
        if answer.status == _NOT_FOUND:
            return await self._create()
        if answer.status >= _OK_BELOW:
            raise answer.error
        self._body = json.loads(answer.text)
        return self._is_free() and await self._put(self._pod, None)

    def _is_free(self) -> bool:
        """Say whether we hold the Lease already, or nobody does, or its holder has not renewed it in time."""
        spec = self._body.get("spec") or {}
        holder = spec.get("holderIdentity")
        seen = (holder, self._body["metadata"].get("resourceVersion"))
        if seen != self._seen:
            self._seen, self._seen_at = seen, self._now
        if not holder or holder == self._pod:
            return True
        return self._now - self._seen_at > float(spec.get("leaseDurationSeconds") or self._seconds)

    @property
    def _name(self) -> str:
        return f"{self._model}-source"

    async def _create(self) -> bool:
        owner_uid = self._owner_uid()
        if owner_uid is None:
            return False
        owner = {"apiVersion": f"{PREFIX}v1alpha1", "kind": "AnomalyModel", "name": self._model, "uid": owner_uid}
        self._body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": self._name,
                "namespace": self._namespace,
                "labels": {f"{PREFIX}model": self._model},
                "ownerReferences": [owner],
            },
        }
        return await self._write("POST", self._path, self._pod, None)

    async def _put(self, holder: str, position: int | None) -> bool:
        return await self._write("PUT", f"{self._path}/{self._name}", holder, position)

    async def _write(self, method: str, path: str, holder: str, position: int | None) -> bool:
        """Write holder and position over what was last seen; return false if that is no longer what is there."""
        began = self._now
        metadata = dict(self._body["metadata"])
        if position is not None:
            said = json.dumps({"time": rfc3339(position), "boot": self._boot_id}, separators=(",", ":"))
            metadata["annotations"] = {**(metadata.get("annotations") or {}), POSITION: said}
        spec = self._spec(self._body.get("spec") or {}, holder)
        answer = await self._api.send(method, path, {**self._body, "metadata": metadata, "spec": spec})
        if answer.status in (_NOT_FOUND, _CONFLICT):
            self._held_until = 0.0
            return False
        if answer.status >= _OK_BELOW:
            raise answer.error
        self._body = json.loads(answer.text)
        # Counted from before the request: others count from when they see it.
        self._held_until = began + self._seconds * _FENCE
        return True

    def _spec(self, before: Body, holder: str) -> Body:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        same = before.get("holderIdentity") == holder
        return {
            **before,
            "holderIdentity": holder,
            "leaseDurationSeconds": max(1, round(self._seconds)),
            "acquireTime": before.get("acquireTime") if same and before.get("acquireTime") else now,
            "renewTime": now,
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (not same),
        }


def _position(body: Body) -> int | None:
    """Read the annotation; one that is unreadable is as none."""
    text = ((body.get("metadata") or {}).get("annotations") or {}).get(POSITION)
    if text is None:
        return None
    try:
        return nanoseconds(json.loads(text)["time"])
    except (ValueError, KeyError, TypeError):
        log.warning("annotation %s cannot be read, points are scored from now on: %s", POSITION, text[:200])
        return None

"""One pod on the node: volumes, init containers, containers, status, end."""

import asyncio
import contextlib
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly_devcluster import clock
from anomaly_devcluster.client import CONFLICT, FAILURES, NOT_FOUND, PODS, ApiError, Object
from anomaly_devcluster.node import environment, status, volumes
from anomaly_devcluster.node.container import Container
from anomaly_devcluster.node.environment import ConfigurationError

if TYPE_CHECKING:
    from anomaly_devcluster.node.agent import Node

_MOUNT_RETRY_SECONDS = 0.25
_API_RETRY_SECONDS = 0.2
_log = logging.getLogger(__name__)


class Pod:
    """Run one pod from the moment it is bound to the node until its object is gone."""

    def __init__(self, node: "Node", body: Object) -> None:
        self.body = body
        self.images = node.images
        self.backoff = node.backoff
        self.folder: Path = node.folder / "pods" / body["metadata"]["uid"]
        self.gone = False
        """The object no longer exists."""
        self._node = node
        self._address = node.addresses.take(body.get("status", {}).get("podIP"))
        self._volumes = volumes.Volumes(
            body, self.folder / ".volumes", node.folder / "claims", self._lookup, self._issue_token
        )
        policy = body["spec"].get("restartPolicy", "Always")
        init_policy = "Never" if policy == "Never" else "OnFailure"
        self.init = [Container(spec, self, init_policy) for spec in body["spec"].get("initContainers") or []]
        self.containers = [Container(spec, self, policy) for spec in body["spec"]["containers"]]
        self._policy = policy
        self._initialization: status.Initialization = "waiting" if self.init else "complete"
        self._mounted = asyncio.Event()
        self._volumes_changed = asyncio.Event()
        self._status_changed = asyncio.Event()
        self._deletion = asyncio.Event()
        self._deadline = float("inf")
        self._recover()

    @property
    def address(self) -> str:
        """The pod's address."""
        return self._address

    def _recover(self) -> None:
        known = self.body.get("status", {})
        for containers, field in ((self.init, "initContainerStatuses"), (self.containers, "containerStatuses")):
            statuses = {s["name"]: s for s in known.get(field) or []}
            for container in containers:
                container.recover(statuses.get(container.name, {}))

    def update(self, body: Object) -> None:
        """Take in a newer body; a deletion, or a shorter grace, takes effect at once."""
        if "deletionTimestamp" in body["metadata"]:
            self._end_within(body["metadata"].get("deletionGracePeriodSeconds") or 0)
        if int(body["metadata"]["resourceVersion"]) < int(self.body["metadata"]["resourceVersion"]):
            return  # the answer to a write of the node's own was here before the watch
        before, self.body = self.body["metadata"], body
        if any(before.get(name) != body["metadata"].get(name) for name in ("labels", "annotations")):
            self.volumes_changed()

    def vanished(self) -> None:
        """End at once: the object has been deleted without waiting for the node."""
        self.gone = True
        self._end_within(0)

    def _end_within(self, grace: float) -> None:
        loop = asyncio.get_running_loop()
        if not self._deletion.is_set():
            self._deletion.set()
            if any(c.process is not None and c.process.running for c in self.containers):
                self.event("Normal", "Killing", f"Stopping container {', '.join(c.name for c in self.containers)}")
        self._deadline = min(self._deadline, loop.time() + grace)

    def volumes_changed(self) -> None:
        """Look at the volumes again: an object that they show may have changed."""
        self._volumes_changed.set()

    def changed(self) -> None:
        """Publish the status soon."""
        self._status_changed.set()

    def event(self, kind: str, reason: str, message: str) -> None:
        """Record an event about the pod."""
        record = self._node.events.warning if kind == "Warning" else self._node.events.normal
        record(self.body, reason, message)

    def environment(self, container: Object) -> tuple[dict[str, str], dict[str, str]]:
        """Return the container's own variables and those of every container; raises ConfigurationError."""
        body = {**self.body, "status": {**self.body.get("status", {}), "podIP": self.address}}
        body["status"]["hostIP"] = self._node.address
        base = {**self._node.base_environment(body), "HOSTNAME": body["metadata"]["name"]}
        return environment.build(body, container, base, self._lookup, self._node.capacity), base

    def mount_table(self, container: Object) -> dict[str, str]:
        """Return the container's mounts; raises ConfigurationError."""
        return self._volumes.table(container)

    def _lookup(self, kind: str, name: str) -> Object | None:
        return self._node.lookup(kind, self.body["metadata"]["namespace"], name)

    async def _issue_token(self, audience: str | None, seconds: int) -> Object:
        return await self._node.issue_token(self.body, audience, seconds)

    async def run(self) -> None:
        """Live, end, and have the object removed once no process is left."""
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(self._write_status())
                keeper = tasks.create_task(self._keep_volumes())
                life = tasks.create_task(self._live())
                await self._deletion.wait()
                await self._end(life)
                keeper.cancel()
                writer.cancel()
            await self._confirm_deletion()
        finally:
            for container in [*self.init, *self.containers]:
                if container.process is not None:
                    container.process.kill()
            self._node.addresses.release(self.address)
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    async def _end(self, life: "asyncio.Task[None]") -> None:
        everything = [*self.init, *self.containers]
        await asyncio.gather(*(container.stop(lambda: self._deadline) for container in everything))
        await asyncio.wait({life}, timeout=1)
        life.cancel()

    async def _live(self) -> None:
        self.changed()
        await self._mounted.wait()
        for container in self.init:
            if "terminated" in container.state and container.state["terminated"]["exitCode"] == 0:
                continue  # it was complete before the node was restarted
            container.ready = await container.run() == 0
            self.changed()
            if self._deletion.is_set():
                return
            if not container.ready:
                self._initialization = "failed"
                return
        self._initialization = "complete"
        self.changed()
        await asyncio.gather(*(container.run() for container in self.containers if not self._finished(container)))

    def _finished(self, container: Container) -> bool:
        ended = container.state.get("terminated")
        return ended is not None and (
            self._policy == "Never" or (self._policy == "OnFailure" and ended["exitCode"] == 0)
        )

    async def _keep_volumes(self) -> None:
        """Mount the volumes, renew them in time, and look again when something that they show may have changed."""
        told = False
        while True:
            try:
                seconds = await self._volumes.refresh(self.body)
                self._mounted.set()
            except (ConfigurationError, *FAILURES) as error:
                if not told and not self._mounted.is_set():
                    self.event("Warning", "FailedMount", f"MountVolume.SetUp failed: {error}")
                told, seconds = True, _MOUNT_RETRY_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._volumes_changed.wait()
            self._volumes_changed.clear()

    def status(self) -> Object:
        """Return the pod's status as it is now."""
        running = [c.status() for c in self.containers]
        now = clock.now()
        if self._initialization != "complete":
            for container in running:
                if not container["lastState"]:
                    container["state"] = {"waiting": {"reason": "PodInitializing"}}
        phase = status.phase(self._policy, self._initialization, running)
        finished = phase if phase in ("Succeeded", "Failed") else ""
        result = {
            "phase": phase,
            "hostIP": self._node.address,
            "hostIPs": [{"ip": self._node.address}],
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "startTime": self.body.get("status", {}).get("startTime") or now,
            "conditions": status.conditions(self.body, self._initialization, running, now, finished),
            "containerStatuses": running,
        }
        if self.init:
            result["initContainerStatuses"] = [c.status() for c in self.init]
        return result

    async def _write_status(self) -> None:
        while True:
            await self._status_changed.wait()
            self._status_changed.clear()
            await self._publish()

    async def _publish(self) -> None:
        while not self.gone:
            try:
                self.body = await self._node.client.patch(PODS, self.body, {"status": self.status()}, "status")
            except ApiError as error:
                if error.code == NOT_FOUND:
                    return
                if error.code != CONFLICT:
                    _log.warning("status of pod %s: %s", self.body["metadata"]["name"], error)
            except FAILURES as error:
                _log.debug("status of pod %s: %r", self.body["metadata"]["name"], error)
            else:
                return
            await asyncio.sleep(_API_RETRY_SECONDS)

    async def _confirm_deletion(self) -> None:
        await self._publish()
        while not self.gone:
            with contextlib.suppress(*FAILURES):
                await self._node.client.delete(PODS, self.body, grace=0)
                return
            await asyncio.sleep(_API_RETRY_SECONDS)

"""What the demo sees of the cluster: the newest AnomalyModel, Service and pods, and when each changed."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from anomaly_detector.report import DRIFT_CONFIDENCE, ERROR_RATE, REPORT
from anomaly_devcluster.client import PODS, SERVICES, ApiError, Client, Resource

AM = Resource("anomalymodel.dev/v1alpha1", "anomalymodels", "AnomalyModel")
COLOR = "anomalymodel.dev/color"
VERSION = "anomalymodel.dev/version"
Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Breach:
    """An error rate that a pod of a version reported: when it was seen (wall clock)."""

    version: str
    seen: float


@dataclass
class World:
    """Kept current by watches; wait with `until`."""

    model: Object = field(default_factory=dict)
    service: Object = field(default_factory=dict)
    pods: dict[str, Object] = field(default_factory=dict)
    breaches: list[Breach] = field(default_factory=list)
    switches: list[tuple[str, float]] = field(default_factory=list)
    """Color that the users' Service selected and when that was seen (wall clock)."""
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def status(self) -> Object:
        """Return the AnomalyModel's status, empty before there is one."""
        return dict(self.model.get("status") or {})

    def condition(self, kind: str) -> Object:
        """Return one condition of the AnomalyModel, empty if it is not there."""
        conditions: list[Object] = self.status.get("conditions", [])
        return next((c for c in conditions if c["type"] == kind), {})

    def retraining(self) -> Object:
        """Return the newest retraining, empty if there was none."""
        lines: list[Object] = self.status.get("retrainings", [])
        return lines[0] if lines else {}

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until `holds()` is true; asked after each change."""
        async with self._changed:
            await self._changed.wait_for(holds)

    def seen_pods(self) -> dict[str, Object]:
        """Return color, version and drift confidence of each pod, for the view."""
        return {
            name: {
                "color": pod["metadata"]["labels"].get(COLOR),
                "drift": pod["metadata"].get("annotations", {}).get(DRIFT_CONFIDENCE),
            }
            for name, pod in self.pods.items()
        }

    def reports(self, color: str, version: str) -> list[Object]:
        """Return the newest reports of the pods of a color and version."""
        bodies = [pod["metadata"] for pod in self.pods.values()]
        wanted = {COLOR: color, VERSION: version}.items()
        texts = [body.get("annotations", {}).get(REPORT) for body in bodies if wanted <= body["labels"].items()]
        return [json.loads(text) for text in texts if text]

    async def _take(self, resource: Resource, kind: str, body: Object) -> None:
        name = body["metadata"]["name"]
        if resource is AM:
            self.model = body
        elif resource is SERVICES and name == self.model.get("metadata", {}).get("name"):
            self._take_service(body)
        elif resource is PODS and "anomalymodel.dev/model" in body["metadata"].get("labels", {}):
            self._take_pod(kind, name, body)
        async with self._changed:
            self._changed.notify_all()

    def _take_service(self, body: Object) -> None:
        color = body["spec"]["selector"].get(COLOR)
        if not self.switches or self.switches[-1][0] != color:
            self.switches.append((color, time.time()))
        self.service = body

    def _take_pod(self, kind: str, name: str, body: Object) -> None:
        if kind == "DELETED":
            self.pods.pop(name, None)
            return
        rate = body["metadata"].get("annotations", {}).get(ERROR_RATE)
        before = self.pods.get(name, {}).get("metadata", {}).get("annotations", {}).get(ERROR_RATE)
        if rate and rate != before and float(rate) > 0:
            version = body["metadata"]["labels"].get("anomalymodel.dev/version", "")
            self.breaches.append(Breach(version, time.time()))
        self.pods[name] = body


@asynccontextmanager
async def watched(client: Client) -> AsyncIterator[World]:
    """Watch the AnomalyModels, Services and Pods of the cluster for the length of the body."""
    world = World()
    watches = [asyncio.create_task(_watch(client, world, resource)) for resource in (AM, SERVICES, PODS)]
    try:
        yield world
    finally:
        for task in watches:
            task.cancel()
        for task in watches:
            with suppress(asyncio.CancelledError):
                await task


async def _watch(client: Client, world: World, resource: Resource) -> None:
    while True:
        with suppress(ApiError, aiohttp.ClientError, TimeoutError):
            listed = await client.list(resource)
            for body in listed["items"]:
                await world._take(resource, "ADDED", body)  # noqa: SLF001 - same module
            async for kind, body in client.watch(resource, listed["metadata"]["resourceVersion"]):
                if kind != "BOOKMARK":
                    await world._take(resource, kind, body)  # noqa: SLF001 - same module
        await asyncio.sleep(0.2)

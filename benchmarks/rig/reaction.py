"""How long it takes from a pod's annotation to the users' Service: written here, seen there by a watch."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
import orjson
from fleet import Model
from http_api import MERGE, Api

from anomaly_detector.report import ERROR_RATE
from anomaly_devcluster.client import PODS, SERVICES
from anomaly_operator.domain.names import COLOR_LABEL

PATIENCE = 60.0


class Witness:
    """A watch of all Services, which notes when each was first seen to lead to blue."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], float] = {}
        self._news = asyncio.Condition()

    async def follow(self, server: Api, version: str) -> None:
        timeout = aiohttp.ClientTimeout(total=None)
        query = {"watch": "1", "resourceVersion": version}
        async with server.session.get(SERVICES.path(), params=query, timeout=timeout) as events:
            async for line in events.content:
                at = time.perf_counter()
                service = orjson.loads(line)["object"]
                metadata = service["metadata"]
                if (service["spec"].get("selector") or {}).get(COLOR_LABEL) == "blue":
                    async with self._news:
                        self._seen.setdefault((metadata["namespace"], metadata["name"]), at)
                        self._news.notify_all()

    async def switched(self, model: Model) -> float:
        """Wait until a model's users are at blue; return when that was seen. Raises TimeoutError."""
        key = (model.namespace, model.name)
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: key in self._seen)
        return self._seen[key]


@asynccontextmanager
async def witness(server: Api) -> AsyncIterator[Witness]:
    """Watch Services for the time of the body."""
    listed = await server.done("GET", SERVICES.path(), limit="1")
    one = Witness()
    following = asyncio.create_task(one.follow(server, listed["metadata"]["resourceVersion"]))
    try:
        yield one
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def breach(server: Api, model: Model) -> float:
    """Annotate a pod of the active color as `kubectl annotate` would; return when the request was sent."""
    change = {"metadata": {"annotations": {ERROR_RATE: "0.5"}}}
    sent = time.perf_counter()
    path = PODS.path(model.namespace, model.green[0].name)
    await server.done("PATCH", path, change, media=MERGE, manager="kubectl-annotate")
    return sent


async def reactions(server: Api, models: Sequence[Model], *, pause: float) -> list[float]:
    """Return for each model the milliseconds from the annotation's request to the Service's new selector."""
    found = []
    async with witness(server) as watching:
        for model in models:
            sent = await breach(server, model)
            found.append((await watching.switched(model) - sent) * 1000)
            await asyncio.sleep(pause)
    return found

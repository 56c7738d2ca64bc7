"""Speed and size of the devcluster's API server, through its HTTPS, from one client process.

.venv/bin/python benchmarks/api_server.py
"""

import asyncio
import json
import time
from statistics import quantiles
from typing import Any

import aiohttp
import orjson
import psutil

from anomaly_devcluster import testing
from anomaly_devcluster.client import Access
from anomaly_devcluster.state import Run

OBJECTS = 10_000
WATCHERS = 20
WRITES = 200
CONNECTIONS = 16
PATH = "/api/v1/namespaces/default/configmaps"


async def create(session: aiohttp.ClientSession) -> float:
    """Create all objects over a few connections; return how many a second."""

    async def some(first: int) -> None:
        for number in range(first, OBJECTS, CONNECTIONS):
            body = {"metadata": {"name": f"c{number}", "labels": {"a": "b"}}, "data": {"k": "v" * 100}}
            headers = {"Content-Type": "application/json"}
            async with session.post(PATH, data=orjson.dumps(body), headers=headers) as answer:
                answer.raise_for_status()
                await answer.read()

    started = time.perf_counter()
    await asyncio.gather(*(some(first) for first in range(CONNECTIONS)))
    return OBJECTS / (time.perf_counter() - started)


async def fan_out(session: aiohttp.ClientSession, revision: str) -> list[float]:
    """Write one object after the other; return for each after how many milliseconds the last watcher had it."""
    arrived: dict[str, list[float]] = {}
    complete = asyncio.Condition()

    async def follow() -> None:
        timeout = aiohttp.ClientTimeout(total=None)
        async with session.get(PATH, params={"watch": "1", "resourceVersion": revision}, timeout=timeout) as answer:
            async for line in answer.content:
                at = time.perf_counter()
                seen = orjson.loads(line)["object"]["metadata"]["resourceVersion"]
                async with complete:
                    arrived.setdefault(seen, []).append(at)
                    complete.notify_all()

    watchers = [asyncio.create_task(follow()) for _ in range(WATCHERS)]
    latencies = []
    for number in range(WRITES):
        patch = orjson.dumps({"data": {"k": str(number)}})
        headers = {"Content-Type": "application/merge-patch+json"}
        started = time.perf_counter()
        async with session.patch(f"{PATH}/c{number}", data=patch, headers=headers) as answer:
            written = orjson.loads(await answer.read())["metadata"]["resourceVersion"]
        async with complete:
            await complete.wait_for(lambda seen=written: len(arrived.get(seen, ())) == WATCHERS)
        latencies.append((max(arrived[written]) - started) * 1000)
    for watcher in watchers:
        watcher.cancel()
    await asyncio.gather(*watchers, return_exceptions=True)
    return latencies


async def exercise(cluster: testing.Cluster) -> tuple[float, list[float]]:
    """Return objects a second and the latencies of the fan-out."""
    access = Access.from_kubeconfig(cluster.kubeconfig)
    headers = {"Authorization": f"Bearer {access.token}"} if access.token else {}
    connector = aiohttp.TCPConnector(ssl=access.context, limit=0)
    async with aiohttp.ClientSession(base_url=access.server, headers=headers, connector=connector) as session:
        rate = await create(session)
        async with session.get(PATH, params={"limit": "1"}) as answer:
            revision = (await answer.json())["metadata"]["resourceVersion"]
        return rate, await fan_out(session, revision)


def measurements() -> list[dict[str, Any]]:
    """Start a cluster, fill it, follow it, and weigh its process."""
    started = time.perf_counter()
    with testing.cluster() as cluster:
        ready = time.perf_counter() - started
        rate, latencies = asyncio.run(exercise(cluster))
        run = Run.read(cluster.folder)
        resident = psutil.Process(run.pid).memory_info().rss / 1e6 if run else None
    cut = quantiles(latencies, n=100)
    spread = {"p50": cut[49], "p95": cut[94], "p99": cut[98], "n": len(latencies)}
    return [
        {"name": "devcluster: start until ready", "unit": "s", "value": ready},
        {"name": "devcluster: objects created", "unit": "1/s", "value": rate, "n": OBJECTS},
        {"name": f"devcluster: one write to {WATCHERS} watchers", "unit": "ms", "value": cut[49], **spread},
        {
            "name": f"devcluster: resident with {OBJECTS} objects and {WATCHERS} watchers",
            "unit": "MB",
            "value": resident,
        },
    ]


if __name__ == "__main__":
    print(json.dumps(measurements(), indent=2))

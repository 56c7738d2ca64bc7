"""How soon a candidate's Deployment is there after an alias was moved; see docs/benchmarks.md.

    .venv/bin/python benchmarks/webhook.py [--quick]

Real: MLflow server with its webhooks, operator, API server. The pods do nothing: what is measured ends before them.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

import aiohttp
import orjson

ROOT = Path(__file__).parent.parent
RIG = Path(__file__).parent / "rig"
sys.path[:0] = [str(RIG), str(ROOT / "demo")]

from http_api import Api, api  # noqa: E402 - the path comes first
from whole import NAMESPACE, operating  # noqa: E402

from anomaly_devcluster import testing  # noqa: E402
from anomaly_devcluster.client import DEPLOYMENTS, Resource  # noqa: E402
from anomaly_operator.domain import names  # noqa: E402
from mlflow_server import mlflow_server  # noqa: E402

MODELS = Resource(names.API_VERSION, names.PLURAL, names.KIND)
SECRET = "of this benchmark alone"
SERVER = {
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": "0" * 43 + "=",
    "MLFLOW_WEBHOOK_CACHE_TTL": "1",
}
SLEEPING = ("/bin/sh", "-c", "exec sleep 3600")
HOOKED, POLLED = "hooked", "polled"
INTERVALS = {POLLED: "1s", HOOKED: "1h"}
REGISTERED = "benchmark"
NOTICED = 2.0
"""Seconds after which the server knows its webhooks."""
GOAL = 1000.0
PATIENCE = 60.0
ALIAS, VERSION = "champion", "1"


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    moves: int = 50
    """Of the alias, each way."""


QUICK = Size(moves=2)


class Registry:
    """The REST API of the MLflow server."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def send(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        async with self._session.request(method, f"/api/2.0/mlflow/{path}", json=body) as answer:
            answer.raise_for_status()
            found: dict[str, Any] = orjson.loads(await answer.read())
            return found

    async def register(self) -> None:
        """Register a model with a version that need not be servable."""
        await self.send("POST", "registered-models/create", {"name": REGISTERED})
        tags = [{"key": "anomalymodel.dev/digest", "value": "sha256:" + "0" * 64}]
        version = {"name": REGISTERED, "source": "s3://somewhere/model", "tags": tags}
        await self.send("POST", "model-versions/create", version)

    async def call(self, url: str) -> None:
        """Have the operator called from now on when an alias moves."""
        events = [{"entity": "MODEL_VERSION_ALIAS", "action": action} for action in ("CREATED", "DELETED")]
        await self.send("POST", "webhooks", {"name": "operator", "url": url, "events": events, "secret": SECRET})
        await asyncio.sleep(NOTICED)

    async def give_alias(self) -> None:
        await self.send("POST", "registered-models/alias", {"name": REGISTERED, "alias": ALIAS, "version": VERSION})

    async def take_alias(self) -> None:
        await self.send("DELETE", "registered-models/alias", {"name": REGISTERED, "alias": ALIAS})


class Births:
    """When each Deployment and each verdict on a registry's answer was first seen."""

    def __init__(self, server: Api) -> None:
        self._server, self._news = server, asyncio.Condition()
        self._deployments: dict[str, float] = {}
        self._asked: set[str] = set()

    async def follow(self, resource: Resource) -> None:
        forever = aiohttp.ClientTimeout(total=None)
        async with self._server.session.get(
            resource.path(NAMESPACE), params={"watch": "1"}, timeout=forever, read_bufsize=2**20
        ) as events:
            async for line in events.content:
                at, body = time.perf_counter(), orjson.loads(line)["object"]
                async with self._news:
                    self._note(resource, body, at)
                    self._news.notify_all()

    def _note(self, resource: Resource, body: dict[str, Any], at: float) -> None:
        name = body["metadata"]["name"]
        if resource is DEPLOYMENTS:
            self._deployments.setdefault(name, at)
        elif any(c["type"] == "ModelResolved" and c["status"] == "False" for c in _conditions(body)):
            self._asked.add(name)

    async def asked(self, model: str) -> None:
        """Wait until the operator has asked the registry for a model in vain."""
        await self._until(lambda: model in self._asked, f"{model}: the registry was asked")

    async def of(self, deployment: str) -> float:
        """Wait for a Deployment; return when it was first seen."""
        await self._until(lambda: deployment in self._deployments, f"Deployment {deployment}")
        return self._deployments[deployment]

    async def _until(self, condition: Any, what: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE), self._news:
                await self._news.wait_for(condition)
        except TimeoutError:
            raise TimeoutError(f"not within {PATIENCE:.0f} s: {what}") from None


def _conditions(body: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (body.get("status") or {}).get("conditions") or []
    return found


def model(name: str, interval: str) -> dict[str, Any]:
    """Return an AnomalyModel that follows the alias."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "model": {"name": REGISTERED, "alias": ALIAS, "pollInterval": interval},
            "detector": {"replicas": 1},
        },
    }


async def moved(server: Api, registry: Registry, births: Births, wanted: dict[str, Any]) -> float:
    """Move the alias that a new model follows; return the milliseconds until there is a Deployment."""
    name = wanted["metadata"]["name"]
    await server.done("POST", MODELS.path(NAMESPACE), wanted)
    await births.asked(name)
    await asyncio.sleep(random.random())  # an alias is moved at any moment between two polls
    began = time.perf_counter()
    await registry.give_alias()
    seen = await births.of(f"{name}-blue")
    await server.done("DELETE", MODELS.path(NAMESPACE, name))
    await registry.take_alias()
    return (seen - began) * 1000


async def play(kubeconfig: Path, tracking_uri: str, hook: str, size: Size) -> dict[str, list[float]]:
    """Return milliseconds: while the registry is asked every second, and while it calls."""
    found: dict[str, list[float]] = {}
    async with AsyncExitStack() as open_:
        server = await open_.enter_async_context(api(kubeconfig))
        registry = Registry(await open_.enter_async_context(aiohttp.ClientSession(tracking_uri)))
        await registry.register()
        births = Births(server)
        tasks = [asyncio.create_task(births.follow(resource)) for resource in (DEPLOYMENTS, MODELS)]
        try:
            for way, interval in INTERVALS.items():
                if way == HOOKED:
                    await registry.call(hook)
                wanted = [model(f"{way}-{number}", interval) for number in range(size.moves + 1)]
                times = [await moved(server, registry, births, one) for one in wanted]
                found[way] = times[1:]  # the first one warms everything up
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return found


def reported(seen: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return what was seen as measurements."""
    cuts = {name: quantiles(times, n=100, method="inclusive") for name, times in seen.items()}
    shown = {name: {"p50": cut[49], "p95": cut[94], "p99": cut[98]} for name, cut in cuts.items()}
    polled = "polling every second"
    return [
        {
            "name": "webhook: alias moved until the candidate's Deployment exists",
            "unit": "ms",
            "value": cuts[HOOKED][49],
            **shown[HOOKED],
            "n": len(seen[HOOKED]),
            "goal": GOAL,
            "peers": {polled: cuts[POLLED][49]},
            "ratio": {polled: cuts[POLLED][49] / cuts[HOOKED][49]},
        },
        {
            "name": f"{polled}: alias moved until the candidate's Deployment exists",
            "unit": "ms",
            "value": cuts[POLLED][49],
            **shown[POLLED],
            "n": len(seen[POLLED]),
        },
    ]


def measurements(size: Size = Size()) -> list[dict[str, Any]]:
    """Measure; `size` says how much of it."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        mlflow_server(Path(name) / "mlflow", env=SERVER) as registry,
        testing.cluster() as cluster,
    ):
        folder = Path(name)
        secret = folder / "secret"
        secret.write_text(SECRET)
        with operating(cluster, folder, registry.uri, image=SLEEPING, WEBHOOK_SECRET_FILE=str(secret)) as operator:
            hook = f"{operator.url}/webhooks/mlflow"
            return reported(asyncio.run(play(cluster.kubeconfig, registry.uri, hook, size)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two of each: says whether it works")
    print(json.dumps(measurements(QUICK if parser.parse_args().quick else Size()), indent=2))

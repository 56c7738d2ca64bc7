"""Requests lost while users are switched and rolled back, again and again, under load; see docs/benchmarks.md.

    .venv/bin/python benchmarks/switching.py [--quick]

Everything is real: devcluster, MLflow server, operator, detectors with a small model, users.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

import aiohttp
import numpy as np
import orjson

ROOT = Path(__file__).parent.parent
RIG = Path(__file__).parent / "rig"
sys.path[:0] = [str(RIG), str(ROOT / "demo")]

from http_api import MERGE, Api, api  # noqa: E402 - the path comes first
from operator_process import BIN  # noqa: E402
from whole import NAMESPACE, operating  # noqa: E402

from anomaly_detector.report import ERROR_RATE  # noqa: E402
from anomaly_devcluster import testing  # noqa: E402
from anomaly_devcluster.client import PODS, SERVICES, Resource  # noqa: E402
from anomaly_operator.domain import names  # noqa: E402
from mlflow_server import mlflow_server  # noqa: E402

NAME, REGISTERED, ALIAS = "cpu", "switching", "champion"
MODELS = Resource(names.API_VERSION, names.PLURAL, names.KIND)
PATIENCE = 180.0
HOLD = 0.2
"""Seconds that users stay where they are before the next step."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    cycles: int = 50
    """Switches, and rollbacks."""
    rate: float = 600.0
    """Requests a second."""


QUICK = Size(cycles=2, rate=100)


class Newest:
    """The newest body of one object, as a watch brings it."""

    def __init__(self) -> None:
        self.body: dict[str, Any] = {}
        self.at = 0.0
        self._news = asyncio.Condition()

    async def follow(self, server: Api, resource: Resource) -> None:
        query = {"watch": "1", "fieldSelector": f"metadata.name={NAME}"}
        async with server.session.get(
            resource.path(NAMESPACE), params=query, timeout=aiohttp.ClientTimeout(total=None), read_bufsize=2**20
        ) as events:
            async for line in events.content:
                at = time.perf_counter()
                async with self._news:
                    self.body, self.at = orjson.loads(line)["object"], at
                    self._news.notify_all()

    async def until(self, condition: Callable[[dict[str, Any]], bool], what: str, seconds: float = PATIENCE) -> float:
        """Wait until the object is as wanted; return when that was seen. Raises TimeoutError saying what was not."""
        try:
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(lambda: bool(self.body) and condition(self.body))
        except TimeoutError:
            there = {name: self.body.get(name) for name in ("spec", "status")}
            raise TimeoutError(f"not within {seconds:.0f} s: {what}; there was {json.dumps(there)}") from None
        return self.at


class Stage:
    """One AnomalyModel whose users are moved to and fro."""

    def __init__(self, server: Api, service: Newest, model: Newest, user: str) -> None:
        self._server, self._service, self._model, self._user = server, service, model, user
        self._commands = itertools.count(1)

    async def selects(self, color: str) -> float:
        """Wait until users are at a color; return when that was seen."""
        return await self._service.until(
            lambda body: body["spec"]["selector"].get(names.COLOR_LABEL) == color, f"users at {color}"
        )

    async def settled(self, version: str) -> None:
        await self._model.until(lambda body: _active(body) == version, f"version {version} in status.active")

    async def retry(self, version: str) -> None:
        """Lift the quarantine of the version that was rolled back: the alias names it still, so it comes again."""
        await self._model.until(lambda body: version in _quarantined(body), f"version {version} quarantined")
        command = {"id": f"c{next(self._commands)}", "verb": "retry", "revision": version, "by": self._user}
        change = {"metadata": {"annotations": {names.COMMAND: json.dumps(command)}}}
        await self._server.done("PATCH", MODELS.path(NAMESPACE, NAME), change, media=MERGE)

    async def annotate(self, color: str, value: str | None) -> float:
        """Set or remove the error rate of a color's pods, as `kubectl annotate` does; return when it was begun."""
        selector = f"{names.MODEL_LABEL}={NAME},{names.COLOR_LABEL}={color}"
        listed = await self._server.done("GET", PODS.path(NAMESPACE), labelSelector=selector)
        change = {"metadata": {"annotations": {ERROR_RATE: value}}}
        began = time.perf_counter()
        paths = [PODS.path(NAMESPACE, pod["metadata"]["name"]) for pod in listed["items"]]
        await asyncio.gather(
            *(self._server.done("PATCH", path, change, media=MERGE, manager="kubectl-annotate") for path in paths)
        )
        return began


def _active(body: dict[str, Any]) -> str:
    found: str = ((body.get("status") or {}).get("active") or {}).get("version", "")
    return found


def _quarantined(body: dict[str, Any]) -> list[str]:
    return [entry["version"] for entry in (body.get("status") or {}).get("quarantine") or ()]


async def to_and_fro(stage: Stage, registry: "Registered", cycles: int) -> tuple[list[float], list[float]]:
    """Switch users to version 2 and back; return seconds of each switch, milliseconds of each way back."""
    switches, rollbacks = [], []
    for number in range(cycles):
        began = time.perf_counter()
        if number:
            await stage.retry("2")
        else:
            registry.alias("2")
        switches.append(await stage.selects("green") - began)
        await stage.settled("2")
        await asyncio.sleep(HOLD)
        began = await stage.annotate("green", "0.5")
        rollbacks.append((await stage.selects("blue") - began) * 1000)
        await stage.settled("1")
        await stage.annotate("green", None)
        await asyncio.sleep(HOLD)
    return switches, rollbacks


class Registered:
    """Two versions of one small model in a registry; both are the same artifact under two numbers."""

    def __init__(self, uri: str, folder: Path) -> None:
        self._uri = uri
        rng = np.random.default_rng(0)
        data = folder / "rows.csv"
        rows = rng.gamma(3.0, size=(1000, 3)) + 0.1
        np.savetxt(data, rows, delimiter=",", header="cpu_percent,memory_percent,network_mbps", comments="")
        command = [str(BIN / "anomaly-train"), "--data", str(data), "--tracking-uri", uri, "--no-plots", "--json"]
        subprocess.run([*command, "--model", REGISTERED], stdout=subprocess.DEVNULL, check=True, timeout=120)
        first = self._get(f"model-versions/get?name={REGISTERED}&version=1")["model_version"]
        copied = {key: first[key] for key in ("name", "source", "run_id", "tags")}
        copied["model_id"] = first["source"].removeprefix("models:/")
        self._post("model-versions/create", copied)

    def alias(self, version: str) -> None:
        self._post("registered-models/alias", {"name": REGISTERED, "alias": ALIAS, "version": version})

    def _get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self._uri}/api/2.0/mlflow/{path}", timeout=30) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found

    def _post(self, path: str, body: dict[str, Any]) -> None:
        url, headers = f"{self._uri}/api/2.0/mlflow/{path}", {"Content-Type": "application/json"}
        request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()


def model() -> dict[str, Any]:
    """Return an AnomalyModel that moves fast, judged by its error rate alone, as users always ask the same."""
    off = {"enabled": False}
    analysis = {"duration": "500ms", "interval": "250ms", "smokeTest": {"rows": 16}}
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "model": {"name": REGISTERED, "alias": ALIAS, "pollInterval": "500ms"},
            "detector": {"replicas": 2},
            "service": {"port": 8000},
            "blueGreen": {"prePromotionAnalysis": analysis, "abortScaleDownDelaySeconds": 600},
            "gates": {"latency": off, "anomalyRate": off, "drift": off, "memory": off},
        },
    }


@contextlib.contextmanager
def users(url: str, rate: float) -> Iterator[Callable[[], dict[str, Any]]]:
    """Run the users; what is yielded ends them and returns what they got."""
    process = subprocess.Popen(
        [sys.executable, str(RIG / "users.py"), url, str(rate)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def end() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(process.communicate(timeout=60)[0])
        return found

    try:
        yield end
    finally:
        process.kill()
        process.wait()


@contextlib.asynccontextmanager
async def watched(kubeconfig: Path) -> AsyncIterator[Stage]:
    async with api(kubeconfig) as server:
        service, body = Newest(), Newest()
        tasks = [asyncio.create_task(one.follow(server, kind)) for one, kind in ((service, SERVICES), (body, MODELS))]
        try:
            review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
            said = await server.done("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
            yield Stage(server, service, body, said["status"]["userInfo"]["username"])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def play(cluster: testing.Cluster, registry: Registered, size: Size) -> dict[str, Any]:
    """Deploy version 1, let users in, move them to and fro; return what they got."""
    registry.alias("1")
    cluster.kubectl("apply", "-f", "-", stdin=[model()])
    async with watched(cluster.kubeconfig) as stage:
        await stage.selects("blue")
        await stage.settled("1")
        host, port = cluster.address(NAMESPACE, NAME)
        with users(f"http://{host}:{port}/predict", size.rate) as end:
            switches, rollbacks = await to_and_fro(stage, registry, size.cycles)
            return {"users": await asyncio.to_thread(end), "switches": switches, "rollbacks": rollbacks}


def reported(seen: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what was seen as measurements."""
    got, cycles = seen["users"], len(seen["rollbacks"])
    sent, lost = sum(got["sent"].values()), sum(got["lost"].values())
    during = f"during {cycles} switches and {cycles} rollbacks"
    failed = {key: count for key, count in got["answers"].items() if not key.endswith(" 200")}
    cut = quantiles(seen["rollbacks"], n=100, method="inclusive")
    latency = got["milliseconds"]
    return [
        {
            "name": f"users: requests lost {during}",
            "unit": "1",
            "value": lost,
            "n": sent,
            "by": got["lost"],
            "reasons": got["reasons"],
        },
        {
            "name": f"users: answers other than 200 {during}",
            "unit": "1",
            "value": sum(failed.values()),
            "n": sent,
            "by": failed,
        },
        {
            "name": f"users: requests sent {during}",
            "unit": "1/s",
            "value": sent / got["seconds"],
            "n": sent,
            "by": got["answers"],
        },
        {"name": f"users: latency {during}", "unit": "ms", "value": latency["p50"], **latency, "n": sent},
        {
            "name": "rollback under load: pods annotated until the Service is switched",
            "unit": "ms",
            "value": cut[49],
            "p50": cut[49],
            "p95": cut[94],
            "p99": cut[98],
            "n": cycles,
        },
        {
            "name": "switch under load: from the wish to the Service, analysis of 0.5 s included",
            "unit": "s",
            "value": sorted(seen["switches"])[cycles // 2],
            "n": cycles,
        },
    ]


def measurements(size: Size = Size()) -> list[dict[str, Any]]:
    """Measure; `size` says how much of it."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        mlflow_server(Path(name) / "mlflow") as registry,
        testing.cluster() as cluster,
    ):
        folder = Path(name)
        versions = Registered(registry.uri, folder)
        quick = {"REPORT_HEARTBEAT_SECONDS": "1", "READINESS_PERIOD_SECONDS": "1"}
        with operating(cluster, folder, registry.uri, **quick):
            return reported(asyncio.run(play(cluster, versions, size)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two of each: says whether it works")
    print(json.dumps(measurements(QUICK if parser.parse_args().quick else Size()), indent=2))

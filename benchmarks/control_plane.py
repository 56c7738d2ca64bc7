"""Reaction, memory, idle CPU and start of the operator, with one model and with many; see docs/benchmarks.md.

.venv/bin/python benchmarks/control_plane.py [--quick]
"""

import argparse
import asyncio
import contextlib
import json
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

RIG = Path(__file__).parent / "rig"
sys.path.insert(0, str(RIG))

import fleet  # noqa: E402 - the path comes first
from api_process import api_server  # noqa: E402
from http_api import Api, api  # noqa: E402
from operator_process import OperatorProcess, admin_key  # noqa: E402
from reaction import breach, reactions, witness  # noqa: E402

from anomaly_operator.adapters.admin import AdminKeys  # noqa: E402
from anomaly_operator.adapters.kube import Kube  # noqa: E402
from anomaly_operator.adapters.kubeconfig import KubeConfig  # noqa: E402
from anomaly_operator.domain.model import PodSettings  # noqa: E402


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    models: int = 1000
    samples: int = 200
    """Reactions with that many models, and as many of the bare loop."""
    alone: int = 80
    """Reactions with one model in the cluster."""
    starts: int = 3
    idle: float = 20.0
    """Seconds over which idle CPU is measured."""
    heartbeat: float = 60.0
    """Seconds between two reports of a pod."""


QUICK = Size(models=12, samples=2, alone=2, starts=1, idle=3, heartbeat=3)
SETTLE_SECONDS = 300


class Rig:
    """An API server with stand-ins beside it, and an operator when one is wanted."""

    def __init__(self, folder: Path, kubeconfig: Path, registry: int, server: Api, kube: Kube) -> None:
        self._folder, self.kubeconfig, self._registry = folder, kubeconfig, f"http://127.0.0.1:{registry}"
        self.server, self.kube = server, kube

    async def populate(self, models: Sequence[fleet.Model]) -> None:
        """Write models as the operator that is run here would have left them."""
        settings = PodSettings(
            detector_image=fleet.IMAGE,
            tracking_uri=self._registry,
            require_policy=False,
            jwks=AdminKeys.load(admin_key(self._folder)).jwks(),
        )
        await fleet.populate(self.server, self.kube, models, settings)

    @contextlib.contextmanager
    def operator(self) -> Iterator[OperatorProcess]:
        """Run the operator; it ends gracefully, so that the next one need not wait for its Lease."""
        process = OperatorProcess(
            self._folder,
            self.kubeconfig,
            port=free_port(),
            DETECTOR_IMAGE=fleet.IMAGE,
            TRACKING_URI=self._registry,
            REQUIRE_POLICY="false",  # no admission policies are asked for: they are not what is measured
        )
        try:
            yield process
            process.stop()
        finally:
            process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def rig(heartbeat: float, block: int, pods: int) -> AsyncIterator[Rig]:
    with tempfile.TemporaryDirectory(prefix="bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        kubeconfig = stack.enter_context(api_server(folder))
        command = [sys.executable, str(RIG / "stand_ins.py"), str(kubeconfig), str(block), str(pods), str(heartbeat)]
        registry = int(started(stack, command))
        async with api(kubeconfig) as server, Kube(KubeConfig.from_file(kubeconfig)) as kube:
            await fleet.define(server)
            yield Rig(folder, kubeconfig, registry, server, kube)


def started(stack: contextlib.ExitStack, command: list[str]) -> str:
    """Start a process that ends with the stack; return its first line, which says that it is ready."""
    process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    stack.callback(process.kill)
    if process.stdout is None or not (line := process.stdout.readline()):
        raise RuntimeError(f"{command[1]} did not start")
    return line


async def alone(on: Rig, size: Size, models: Sequence[fleet.Model]) -> tuple[float, float, list[float]]:
    """Return memory, idle CPU and reactions with exactly one AnomalyModel in the cluster at any time."""
    found = []
    await on.populate(models[:1])
    with on.operator() as process:
        process.wait_ready()
        process.wait_quiet(quiet=1, seconds=SETTLE_SECONDS)
        resident, idle = process.resident, await idle_cpu(process, size.idle / 2)
        for number, model in enumerate(models):
            found += await reactions(on.server, [model], pause=0)
            await fleet.remove(on.server, model)
            if number + 1 < len(models):
                await on.populate([models[number + 1]])
                await asyncio.to_thread(process.wait_quiet, quiet=0.2, seconds=SETTLE_SECONDS)
    return resident, idle, found


async def idle_cpu(process: OperatorProcess, seconds: float) -> float:
    """Return the share of one core that the operator uses when nothing is to be done, percent."""
    began, before = time.perf_counter(), process.cpu_seconds
    await asyncio.sleep(seconds)
    return (process.cpu_seconds - before) / (time.perf_counter() - began) * 100


async def together(on: Rig, size: Size, models: Sequence[fleet.Model]) -> tuple[float, float, list[float]]:
    """Return memory, idle CPU and reactions of `models`, with the whole fleet there and at rest."""
    with on.operator() as process:
        process.wait_ready()
        process.wait_quiet(quiet=2, seconds=SETTLE_SECONDS, allowance=size.models / 50)
        resident, before = process.resident, await fleet.reports(on.kube)
        idle = await idle_cpu(process, size.idle)
        if await fleet.reports(on.kube) == before:
            raise RuntimeError("no pod reported while idle CPU was measured: it says nothing")
        return resident, idle, await reactions(on.server, models, pause=0.05)


async def start(on: Rig, model: fleet.Model) -> tuple[float, float]:
    """Return the seconds from the start to /readyz, and to the rollback of a breach that was there before."""
    await breach(on.server, model)
    async with witness(on.server) as watching:
        with on.operator() as process:
            ready = await asyncio.to_thread(process.wait_ready)
            return ready, await watching.switched(model) - process.started


async def bare(on: Rig, models: Sequence[fleet.Model]) -> list[float]:
    """Return the reactions of the bare loop; the operator must not run."""
    with contextlib.ExitStack() as stack:
        started(stack, [sys.executable, str(RIG / "bare_loop.py"), str(on.kubeconfig)])
        return await reactions(on.server, models, pause=0.05)


async def measure(size: Size, block: int) -> list[dict[str, Any]]:
    """Measure everything, on one API server."""
    free = fleet.addresses(block)
    singles = [fleet.members(1, free, first=size.models + number, warm=True)[0] for number in range(size.alone)]
    models = fleet.members(size.models, free)
    warm = iter([model for model in models if model.warm])
    members = sum(len(model.green) + len(model.blue) for model in models)
    async with rig(size.heartbeat, block, members + len(singles) * 2 * fleet.REPLICAS) as on:
        say("one model")
        one = await alone(on, size, singles)
        say(f"writing {size.models} models")
        await on.populate(models)
        say("many models")
        many = await together(on, size, take(warm, size.samples))
        say("starts")
        starts = [await start(on, next(warm)) for _ in range(size.starts)]
        say("the bare loop")
        limit = await bare(on, take(warm, size.samples))
    return [*reported(size, one, many, limit), *sized(size, one, many), *begun(size, members, starts)]


def take(models: Iterator[fleet.Model], count: int) -> list[fleet.Model]:
    return [next(models) for _ in range(count)]


def spread(milliseconds: Sequence[float]) -> dict[str, float]:
    cut = quantiles(milliseconds, n=100, method="inclusive")
    return {"value": cut[49], "p50": cut[49], "p95": cut[94], "p99": cut[98], "n": len(milliseconds)}


Weighed = tuple[float, float, list[float]]


def reported(size: Size, one: Weighed, many: Weighed, limit: list[float]) -> list[dict[str, Any]]:
    """Return the reactions beside the bare loop."""
    least = spread(limit)["p50"]
    found = []
    for count, milliseconds in ((1, one[2]), (size.models, many[2])):
        seen = spread(milliseconds)
        name = f"rollback: a pod annotated until the Service is switched, {named(count)}"
        peers = {"peers": {"bare watch and patch": least}, "ratio": {"bare watch and patch": least / seen["p50"]}}
        found.append({"name": name, "unit": "ms", **seen, **peers})
    return found


def sized(size: Size, one: Weighed, many: Weighed) -> list[dict[str, Any]]:
    """Return memory and idle CPU, and what each further model adds."""
    found: list[dict[str, Any]] = []
    for what, unit, place in (("resident memory", "MB", 0), ("idle CPU", "% of a core", 1)):
        few, much = float(one[place]), float(many[place])  # type: ignore[arg-type]
        found += [
            {"name": f"operator: {what}, {named(1)}", "unit": unit, "value": few},
            {"name": f"operator: {what}, {named(size.models)}", "unit": unit, "value": much},
            {"name": f"operator: {what}, each model", "unit": unit, "value": (much - few) / (size.models - 1)},
        ]
    return found


def begun(size: Size, pods: int, starts: list[tuple[float, float]]) -> list[dict[str, Any]]:
    """Return how long a start takes: the slowest one."""
    where = f"{named(size.models)} and {pods} pods"
    return [
        {"name": f"operator: start until {what}, {where}", "unit": "s", "value": max(seconds), "n": len(seconds)}
        for what, seconds in zip(("ready", "the first rollback"), zip(*starts, strict=True), strict=True)
    ]


def named(count: int) -> str:
    return "1 model" if count == 1 else f"{count} models"


def say(what: str) -> None:
    print(f"{time.strftime('%X')} {what}", file=sys.stderr, flush=True)


def measurements(size: Size = Size()) -> list[dict[str, Any]]:
    """Measure the control plane; `size` says how much of it."""
    return asyncio.run(measure(size, block=random.randrange(16, 64)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a dozen models: says whether it works, not how fast")
    print(json.dumps(measurements(QUICK if parser.parse_args().quick else Size()), indent=2))

"""The stage of the demo: a devcluster, a real MLflow server, the operator from its Helm chart, a trainer."""

import asyncio
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from helm_python import HelmError

import chart
import recording
from anomaly_devcluster.addresses import service_address
from anomaly_devcluster.client import Access, Client
from anomaly_devcluster.state import Run
from mlflow_server import launch, stop, wait_until_healthy
from trainer import MODEL
from world import World, watched

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
NAME = "cpu-watch"
NAMESPACE = "demo"
SYSTEM = "anomaly-system"
PORT = 8000


class StageError(Exception):
    """Say which command of the set-up failed and what it printed."""


@dataclass
class Stage:
    """What the story is played on."""

    folder: Path
    name: str
    kubeconfig: Path
    tracking_uri: str
    client: Client
    world: World
    trainer: asyncio.subprocess.Process
    server_pid: int
    """Of the MLflow server."""
    replay: list[recording.Row]
    """The recording's last 30 %, in order."""

    async def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """Run kubectl against the stage and return what it printed."""
        return await run(str(BIN / "kubectl"), "--kubeconfig", str(self.kubeconfig), *arguments, given=given)

    async def train(self) -> dict[str, Any]:
        """Train and register the next version; returns what the trainer says of it."""
        assert self.trainer.stdin is not None  # noqa: S101 - for the type checker: started with pipes
        assert self.trainer.stdout is not None  # noqa: S101
        self.trainer.stdin.write(b"next\n")
        await self.trainer.stdin.drain()
        if not (line := await self.trainer.stdout.readline()):
            raise StageError(f"training failed; see {self.folder / 'trainer.log'}")
        trained: dict[str, Any] = json.loads(line)
        return trained

    async def move_alias(self, version: str, alias: str = "champion") -> None:
        """Move an alias in the registry, as anybody would who promotes a version."""
        url = f"{self.tracking_uri}/api/2.0/mlflow/registered-models/alias"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json={"name": MODEL, "alias": alias, "version": version}) as answer,
        ):
            if not answer.ok:
                raise StageError(f"alias {alias} -> {version}: {await answer.text()}")

    def service_url(self) -> str:
        """Return where the users' Service is reached on this machine."""
        spec = self.world.service["spec"]
        run = Run.read(self.kubeconfig.parent)
        host = service_address(spec["clusterIP"], run.slot) if run else spec["clusterIP"]
        return f"http://{host}:{spec['ports'][0]['port']}"

    async def explain_failure(self) -> str:
        """Return what the operator and Kubernetes say, for a story that broke off."""
        answers = await asyncio.gather(
            self.kubectl("-n", NAMESPACE, "get", "pods,deployments,services,anomalymodels", "-o", "wide"),
            self.kubectl("-n", NAMESPACE, "get", "anomalymodel", NAME, "-o", "jsonpath={.status}"),
            self.kubectl("-n", SYSTEM, "logs", f"deployment/{chart.RELEASE}", "--tail=40"),
            return_exceptions=True,
        )
        return "\n".join(str(answer) for answer in answers)

    def how_to_play(self) -> str:
        """Return what one can do with a stage that was kept."""
        kubectl = f".venv/bin/kubectl --kubeconfig {self.kubeconfig} -n {NAMESPACE}"
        color = (self.world.status.get("active") or {}).get("color", "blue")
        pods = f"-l anomalymodel.dev/model={NAME},anomalymodel.dev/color={color}"
        return "\n".join(
            (
                f"kubeconfig: {self.kubeconfig}",
                f"users:      {self.service_url()}/predict",
                f"registry:   {self.tracking_uri}",
                "See a rollback:",
                f"  {kubectl} annotate pods {pods} anomalymodel.dev/error-rate=0.5 --overwrite",
                f"  {kubectl} get anomalymodels -w",
                f"When done: .venv/bin/devcluster down --name {self.name}; kill {self.server_pid}",
            )
        )


async def run(*command: str, given: str | None = None) -> str:
    """Run a command and return its output. Raises StageError with what it said when it fails."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate(given.encode() if given else None)
    if process.returncode:
        raise StageError(f"{shlex.join(command)}: exit {process.returncode}: {err.decode() or out.decode()}")
    return out.decode()


@asynccontextmanager
async def stage(say: Callable[[str], None], *, keep: bool) -> AsyncIterator[Stage]:
    """Set everything up, yield the stage, and take it down again unless `keep` is set."""
    async with AsyncExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="anomaly-demo-"))
        name = f"demo-{os.getpid()}"
        if not keep:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        server = launch(folder / "mlflow")
        if not keep:
            stack.callback(stop, server)
        replay = recording.split(recording.HERE / "steady.csv", folder / "training.csv")
        trainer = await start_trainer(stack, folder, server.uri)
        say("starting a devcluster (and an MLflow server beside it)")
        kubeconfig = await devcluster(stack, name, keep=keep)
        say("installing the operator from its Helm chart")
        await install(kubeconfig, server.uri)
        say("waiting for the MLflow server")
        await asyncio.to_thread(wait_until_healthy, server)
        client = await stack.enter_async_context(Client(Access.from_kubeconfig(kubeconfig), "demo"))
        world = await stack.enter_async_context(watched(client))
        yield Stage(folder, name, kubeconfig, server.uri, client, world, trainer, server.process.pid, replay)


async def install(kubeconfig: Path, tracking_uri: str) -> None:
    """Install the chart. Raises StageError with the operator's own log if it does not come up."""
    values = chart.values(tracking_uri=tracking_uri)
    kubectl = (str(BIN / "kubectl"), "--kubeconfig", str(kubeconfig), "-n", SYSTEM)
    try:
        await asyncio.to_thread(chart.install, kubeconfig, namespace=SYSTEM, values=values)
        await run(*kubectl, "rollout", "status", f"deployment/{chart.RELEASE}", "--timeout=60s")
    except (HelmError, StageError) as error:
        log = await run(*kubectl, "logs", f"deployment/{chart.RELEASE}", "--tail=20")
        raise StageError(f"helm install: {error}\nThe operator's log:\n{log}") from error


async def devcluster(stack: AsyncExitStack, name: str, *, keep: bool) -> Path:
    """Start a devcluster that knows the two images as commands of this environment."""
    images = {
        "anomaly-operator:demo": f"env ANOMALY_OPERATOR_BIND=$(POD_IP) {BIN / 'anomaly-operator'}",
        "anomaly-detector:demo": f"{BIN / 'anomaly-detector'} --bind $(POD_IP)",
    }
    table = [word for image, command in images.items() for word in ("--image", f"{image}={command}")]
    if not keep:
        stack.push_async_callback(run, str(BIN / "devcluster"), "down", "--name", name)
    await run(str(BIN / "devcluster"), "up", "--name", name, *table)
    return Path((await run(str(BIN / "devcluster"), "kubeconfig", "--name", name)).strip())


async def start_trainer(stack: AsyncExitStack, folder: Path, tracking_uri: str) -> asyncio.subprocess.Process:
    """Start the process that trains; it works at low priority, as the demo's users come first."""
    log = stack.enter_context((folder / "trainer.log").open("wb"))
    process = await asyncio.create_subprocess_exec(
        "nice", sys.executable, str(Path(__file__).parent / "trainer.py"),
        "--data", str(folder / "training.csv"), "--tracking-uri", tracking_uri,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
    )  # fmt: skip

    async def end() -> None:
        if process.returncode is None:
            process.terminate()
            await process.wait()

    stack.push_async_callback(end)
    return process

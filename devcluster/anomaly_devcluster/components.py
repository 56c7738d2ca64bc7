"""The parts of a cluster that are clients of its API: controllers, node and proxy, each a process of its own."""

import asyncio
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anomaly_devcluster.client import Access, Client, wait_ready
from anomaly_devcluster.controllers.autoscaler import AutoscalerController
from anomaly_devcluster.controllers.base import Controller
from anomaly_devcluster.controllers.deployment import DeploymentController
from anomaly_devcluster.controllers.disruption import DisruptionController
from anomaly_devcluster.controllers.endpointslice import EndpointSliceController
from anomaly_devcluster.controllers.garbage import GarbageCollector
from anomaly_devcluster.controllers.job import JobController
from anomaly_devcluster.controllers.namespace import NamespaceController
from anomaly_devcluster.controllers.replicaset import ReplicaSetController
from anomaly_devcluster.controllers.serviceaccount import ServiceAccountController
from anomaly_devcluster.events import EventRecorder
from anomaly_devcluster.informer import Informers
from anomaly_devcluster.node.agent import Node
from anomaly_devcluster.node.container import Backoff
from anomaly_devcluster.node.processes import adopt_orphans, die_with_parent, end_descendants
from anomaly_devcluster.node.server import serve
from anomaly_devcluster.proxy import Proxy

NAMES = ("controllers", "node", "proxy")
_CONTROLLERS: tuple[type[Controller], ...] = (
    DeploymentController,
    ReplicaSetController,
    JobController,
    EndpointSliceController,
    AutoscalerController,
    DisruptionController,
    ServiceAccountController,
    NamespaceController,
    GarbageCollector,
)


@dataclass(frozen=True, slots=True)
class Setup:
    """What the parts of one cluster share."""

    folder: Path
    slot: int
    real_controllers: bool = False
    """A kube-controller-manager runs: only what it cannot do here (autoscaling on the node's numbers) is ours."""
    backoff: Backoff = field(default_factory=Backoff)
    autoscaler_seconds: float = 15

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "kubeconfig"


async def controllers(setup: Setup, _: socket.socket) -> None:
    """Run the controllers until cancelled."""
    AutoscalerController.period = setup.autoscaler_seconds
    kinds = (AutoscalerController,) if setup.real_controllers else _CONTROLLERS
    async with _client(setup, "controllers") as client, asyncio.TaskGroup() as tasks:
        informers = Informers(client, tasks)
        events = EventRecorder(client, "devcluster-controllers")
        tasks.create_task(events.run())
        for kind in kinds:
            tasks.create_task(kind(client, informers, events).run(), name=kind.__name__)


async def node(setup: Setup, listener: socket.socket) -> None:
    """Run the node until cancelled."""
    adopt_orphans()
    async with _client(setup, "node") as client, asyncio.TaskGroup() as tasks:
        agent = Node(client, Informers(client, tasks), setup.folder, setup.slot, setup.backoff)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=client.access.authority)
        context.load_cert_chain(setup.folder / "pki" / "node.crt", setup.folder / "pki" / "node.key")
        context.verify_mode = ssl.CERT_OPTIONAL
        tasks.create_task(serve(agent, listener, context))
        tasks.create_task(agent.run())


async def proxy(setup: Setup, _: socket.socket) -> None:
    """Run the service proxy until cancelled."""
    async with _client(setup, "proxy") as client, asyncio.TaskGroup() as tasks:
        await Proxy(client, Informers(client, tasks), setup.slot).run()


@asynccontextmanager
async def _client(setup: Setup, name: str) -> AsyncIterator[Client]:
    """Wait for the control plane, then open a client to it."""
    while not setup.kubeconfig.exists():  # noqa: ASYNC110 - another process writes it
        await asyncio.sleep(0.01)
    async with Client(Access.from_kubeconfig(setup.kubeconfig), name) as client:
        await wait_ready(client)
        yield client


_ENTRIES: dict[str, Callable[[Setup, socket.socket], Coroutine[Any, Any, None]]] = {
    "controllers": controllers,
    "node": node,
    "proxy": proxy,
}


def start(name: str, setup: Setup, listener: socket.socket) -> int:
    """Fork the process of a component; return its id. Call before any event loop or thread exists."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        run(name, setup, listener)
        status = 0
    except BaseException:
        logging.getLogger(__name__).exception("%s ended", name)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def run(name: str, setup: Setup, listener: socket.socket) -> None:
    """Run a component in this process until SIGTERM."""
    # The node ends its pods itself when the supervisor is killed; the others have nothing to end.
    die_with_parent(signal.SIGTERM if name == "node" else signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    (setup.folder / f"{name}.pid").write_text(str(os.getpid()))
    try:
        asyncio.run(_until_terminated(_ENTRIES[name](setup, listener)))
    finally:
        end_descendants()


async def _until_terminated(work: Awaitable[None]) -> None:
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return

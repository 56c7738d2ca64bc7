"""One run of a cluster: its processes from the first to the last."""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import psutil

from anomaly_devcluster import addresses, components, state
from anomaly_devcluster.components import Setup
from anomaly_devcluster.controlplane.embedded import EmbeddedControlPlane
from anomaly_devcluster.controlplane.envtest import RealControlPlane, assets_folder, has_controller_manager
from anomaly_devcluster.node import processes
from anomaly_devcluster.node.container import Backoff
from anomaly_devcluster.node.processes import CONTAINER_MARK, reap

_NODE_SECONDS = 4
_log = logging.getLogger(__name__)


def run(
    name: str, ready: Callable[[str], None], *, backoff: float, autoscaler: float, die_with_parent: bool = False
) -> None:
    """Run a cluster in this process until SIGTERM or SIGINT, then leave nothing behind.

    `ready` is called with the API server's address. The environment must carry the mark of the run, which every process
    of the cluster inherits. `backoff` is the first pause of a crash loop and `autoscaler` the autoscaler's period, in
    seconds. With `die_with_parent` the cluster ends with the process that started it, however that ends, and leaves no
    empty folder of state to it.
    """
    if die_with_parent:
        processes.die_with_parent(signal.SIGTERM)
    place = state.folder(name)
    slot, holder = addresses.hold_slot()
    assets = assets_folder()
    setup = Setup(
        folder=place,
        slot=slot,
        real_controllers=assets is not None and has_controller_manager(assets),
        backoff=Backoff(first=backoff),
        autoscaler_seconds=autoscaler,
    )
    processes.adopt_orphans()
    mark = os.environ[state.RUN_MARK]
    children = {components.start(part, setup, holder): part for part in components.NAMES}
    try:
        plane = RealControlPlane(assets, place, name, slot) if assets else EmbeddedControlPlane(place, slot)
        asyncio.run(_Supervisor(setup, plane, children, holder, mark).run(name, ready))
    finally:
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        state.end_marked(state.RUN_MARK, {mark})
        shutil.rmtree(place, ignore_errors=True)
        if die_with_parent:
            for folder in place.parents[:2]:
                with contextlib.suppress(OSError):
                    folder.rmdir()


class _Supervisor:
    def __init__(
        self,
        setup: Setup,
        plane: EmbeddedControlPlane | RealControlPlane,
        children: dict[int, str],
        holder: socket.socket,
        mark: str,
    ) -> None:
        self._setup = setup
        self._plane = plane
        self._children = children
        self._holder = holder
        self._mark = mark
        self._stopping = asyncio.Event()

    async def run(self, name: str, ready: Callable[[str], None]) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        stopping = asyncio.create_task(self._stopping.wait())
        serving = asyncio.create_task(self._serve(name, ready))
        try:
            await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
        finally:
            self._stopping.set()
            serving.cancel()
            await asyncio.wait({serving})
            await self._end_children()
            await self._plane.stop()

    async def _serve(self, name: str, ready: Callable[[str], None]) -> None:
        """Start the control plane and return when it has ended by itself."""
        await self._plane.start()
        self._record(name)
        ready(self._plane.server)
        await self._plane.wait()

    def _record(self, name: str) -> None:
        started = psutil.Process().create_time()
        kind = "embedded" if isinstance(self._plane, EmbeddedControlPlane) else "kube-apiserver"
        run = state.Run(name, self._mark, os.getpid(), started, self._setup.slot, kind, self._plane.server)
        run.write(self._setup.folder)

    def _reap(self) -> None:
        """Take note of components that ended, and start them again."""
        for pid in list(self._children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended and not self._stopping.is_set():
                name = self._children.pop(pid)
                _log.warning("%s ended (%s) and is started again", name, os.waitstatus_to_exitcode(status))
                if name == "node":
                    self._end_orphans()
                self._restart(name)
            elif ended:
                del self._children[pid]

    def _end_orphans(self) -> None:
        """Kill what a killed node's pods have left to this process."""
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if CONTAINER_MARK in child.environ():
                    child.kill()
                    asyncio.get_running_loop().call_later(0.2, reap, child.pid)

    def _restart(self, name: str) -> None:
        command = [sys.executable, "-m", "anomaly_devcluster", "component", name, str(self._holder.fileno())]
        setup = self._setup
        command += [str(setup.folder), str(setup.slot), str(int(setup.real_controllers))]
        command += [str(setup.backoff.first), str(setup.autoscaler_seconds)]
        process = subprocess.Popen(command, pass_fds=[self._holder.fileno()])
        process.returncode = 0  # waited for by _reap
        self._children[process.pid] = name

    async def _end_children(self) -> None:
        """End the node first, so that pods end while the API can still hear of it."""
        self._reap()
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_NODE_SECONDS):
                while self._children:
                    await asyncio.sleep(0.02)
                    self._reap()

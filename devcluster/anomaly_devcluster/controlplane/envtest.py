"""A real control plane: etcd and kube-apiserver, and kube-controller-manager if there is one, from one folder."""

import asyncio
import contextlib
import os
import signal
import socket
from pathlib import Path

from anomaly_devcluster.addresses import node_address, service_block
from anomaly_devcluster.certificates import Authority, Pair, encoded, kubeconfig, write_private
from anomaly_devcluster.client import FAILURES, Access, Client
from anomaly_devcluster.data import data
from anomaly_devcluster.node.processes import Process
from anomaly_devcluster.state import ASSETS, UsageError

_START_SECONDS = 60


def assets_folder() -> Path | None:
    """Return the folder that the environment names, None for the emulated control plane."""
    named = os.environ.get(ASSETS)
    return Path(named).absolute() if named else None


class RealControlPlane:
    """Start and stop the processes."""

    def __init__(self, assets: Path, folder: Path, name: str, slot: int) -> None:
        """Check that the programs are there; raises UsageError naming what is missing."""
        missing = [program for program in ("etcd", "kube-apiserver") if not os.access(assets / program, os.X_OK)]
        if missing:
            raise UsageError(f"{ASSETS}={assets}: there is no executable {' and no '.join(missing)} in this folder")
        self._assets = assets
        self._folder = folder
        self._name = name
        self._pki = _pki(slot)
        self._processes: list[tuple[str, Process]] = []
        self._ports = _free_ports(3)
        self.server = f"https://127.0.0.1:{self._ports[2]}"

    async def start(self) -> None:
        """Start everything, write the kubeconfig once the API is ready, and return once pods can be created.

        Raises UsageError with the end of the log of a process that ended, or that is not ready in a minute.
        """
        for name, pair in self._pki.items():
            pair.write(self._folder / "pki", name)
        admin = self._pki["admin"]
        user = {"client-certificate-data": encoded(admin.certificate), "client-key-data": encoded(admin.key)}
        access = kubeconfig(self.server, self._pki["authority"].certificate, user, f"devcluster-{self._name}")
        write_private(self._folder / "pki" / "kubeconfig", access)
        self._start("etcd")
        self._start("kube-apiserver")
        await self._wait_for("/api/v1/namespaces/default")
        write_private(self._folder / "kubeconfig", access)
        if has_controller_manager(self._assets):
            self._start("kube-controller-manager")
        await self._wait_for("/api/v1/namespaces/default/serviceaccounts/default")

    async def wait(self) -> None:
        """Return when one of the processes has ended; raises UsageError that says which."""
        waits = {asyncio.create_task(process.wait()): name for name, process in self._processes}
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        name = waits[done.pop()]
        raise UsageError(f"{name} ended unexpectedly; the end of its log:\n{self._log_end(name)}")

    async def stop(self) -> None:
        """End everything, the API server before its store."""
        for _, process in reversed(self._processes):
            process.send(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await process.wait()
            process.kill()

    def _start(self, program: str) -> None:
        client, peer, port = self._ports
        # A plugin that would wait for a controller that does not run stays off.
        claims = "" if has_controller_manager(self._assets) else ",StorageObjectInUseProtection"
        flags = data("controlplane/envtest", folder=self._folder, client=client, peer=peer, port=port, claims=claims)
        command = [str(self._assets / program), *(f"--{name}={value}" for name, value in flags[program].items())]
        with self._log(program).open("ab", buffering=0) as log:
            self._processes.append((program, Process(command, os.environ, self._folder, log)))

    def _log(self, program: str) -> Path:
        return self._folder / f"{program}.log"

    def _log_end(self, program: str) -> str:
        return "\n".join(self._log(program).read_text(errors="replace").splitlines()[-8:])

    async def _wait_for(self, path: str) -> None:
        access = Access.from_kubeconfig(self._folder / "pki" / "kubeconfig")
        try:
            async with asyncio.timeout(_START_SECONDS), Client(access, "up") as client:
                while True:
                    for name, process in self._processes:
                        if not process.running:
                            raise UsageError(f"{name} did not start; the end of its log:\n{self._log_end(name)}")
                    with contextlib.suppress(*FAILURES):
                        await client.request("GET", path)
                        return
                    await asyncio.sleep(0.1)
        except TimeoutError:
            end = self._log_end("kube-apiserver")
            message = f"kube-apiserver did not answer {path} in {_START_SECONDS} s; the end of its log:\n{end}"
            raise UsageError(message) from None


def _pki(slot: int) -> dict[str, Pair]:
    """Make what the parts of a control plane identify themselves with."""
    authority = Authority.create()
    hosts = ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    return {
        "authority": authority.pair,
        "server": authority.server([*hosts, "10.96.0.1", str(service_block(slot)[1])]),
        "admin": authority.client("kubernetes-admin", ("system:masters",)),
        "kubelet-client": authority.client("kube-apiserver-kubelet-client", ("system:masters",)),
        "node": authority.server([node_address(slot), "devcluster"]),
        "service-account": authority.client("service-accounts"),
    }


def has_controller_manager(assets: Path) -> bool:
    """Tell whether the folder holds a kube-controller-manager."""
    return os.access(assets / "kube-controller-manager", os.X_OK)


def _free_ports(count: int) -> list[int]:
    holders = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return ports

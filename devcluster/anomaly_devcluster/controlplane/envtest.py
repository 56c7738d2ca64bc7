"""A real control plane: etcd and kube-apiserver, and kube-controller-manager if there is one, from one folder."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
from pathlib import Path

import aiohttp

from anomaly_devcluster.controlplane.pki import Pki, write_private
from anomaly_devcluster.node.processes import Process
from anomaly_devcluster.state import UsageError

ASSETS = "KUBEBUILDER_ASSETS"
SERVICE_RANGE = "10.96.0.0/16"
_ISSUER = "https://kubernetes.default.svc.cluster.local"
_START_SECONDS = 60
_CLAIM_FINALIZERS = "StorageObjectInUseProtection"
_OFF = (
    "endpoints-controller",
    "endpointslice-controller",
    "endpointslice-mirroring-controller",
    "horizontal-pod-autoscaler-controller",
    "node-lifecycle-controller",
    "persistentvolume-binder-controller",
)
"""Controllers of kube-controller-manager that stay off: they need pods with addresses of a real network, a metrics API,
a kubelet's leases, or volumes that somebody provisions (the node binds claims itself)."""


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
        self._pki = Pki.create(slot)
        self._processes: list[tuple[str, Process]] = []
        self._ports = _free_ports(3)
        self.server = f"https://127.0.0.1:{self._ports[2]}"

    @property
    def has_controllers(self) -> bool:
        """Whether a kube-controller-manager is there."""
        return has_controller_manager(self._assets)

    async def start(self) -> None:
        """Start everything, write the kubeconfig once the API is ready, and return once pods can be created.

        Raises UsageError with the end of the log of a process that ended, or that is not ready in a minute.
        """
        self._pki.write(self._folder / "pki")
        self._start("etcd", self._etcd_arguments())
        self._start("kube-apiserver", self._apiserver_arguments())
        await self._wait_for("/readyz")
        write_private(self._folder / "kubeconfig", self._pki.kubeconfig(self.server, self._name))
        if self.has_controllers:
            self._start("kube-controller-manager", self._manager_arguments())
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

    def _start(self, program: str, arguments: list[str]) -> None:
        with self._log(program).open("ab", buffering=0) as log:
            command = [str(self._assets / program), *arguments]
            self._processes.append((program, Process(command, os.environ, self._folder, log)))

    def _log(self, program: str) -> Path:
        return self._folder / f"{program}.log"

    def _log_end(self, program: str) -> str:
        return "\n".join(self._log(program).read_text(errors="replace").splitlines()[-8:])

    def _etcd_arguments(self) -> list[str]:
        client, peer = (f"http://127.0.0.1:{port}" for port in self._ports[:2])
        return [
            f"--data-dir={self._folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync=true",
        ]

    def _apiserver_arguments(self) -> list[str]:
        pki = self._folder / "pki"
        return [
            f"--etcd-servers=http://127.0.0.1:{self._ports[0]}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self._ports[2]}",
            f"--tls-cert-file={pki / 'server.crt'}",
            f"--tls-private-key-file={pki / 'server.key'}",
            f"--client-ca-file={pki / 'authority.crt'}",
            f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
            f"--kubelet-client-key={pki / 'kubelet-client.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-account-issuer={_ISSUER}",
            f"--service-account-key-file={pki / 'service-account.crt'}",
            f"--service-account-signing-key-file={pki / 'service-account.key'}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--authorization-mode=RBAC",
            "--endpoint-reconciler-type=none",
            "--allow-privileged=true",
            f"--disable-admission-plugins={','.join(self._admission_off())}",
        ]

    def _admission_off(self) -> list[str]:
        """Return the plugins that would wait for a controller that does not run."""
        return ["TaintNodesByCondition"] if self.has_controllers else ["TaintNodesByCondition", _CLAIM_FINALIZERS]

    def _manager_arguments(self) -> list[str]:
        pki, kubeconfig = self._folder / "pki", self._folder / "kubeconfig"
        return [
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            f"--service-account-private-key-file={pki / 'service-account.key'}",
            f"--root-ca-file={pki / 'authority.crt'}",
            f"--controllers=*,{','.join(f'-{name}' for name in _OFF)}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            "--secure-port=0",
        ]

    async def _wait_for(self, path: str) -> None:
        context = ssl.create_default_context(cadata=self._pki.authority.certificate)
        context.load_cert_chain(self._folder / "pki" / "admin.crt", self._folder / "pki" / "admin.key")
        connector = aiohttp.TCPConnector(ssl=context)
        try:
            async with asyncio.timeout(_START_SECONDS), aiohttp.ClientSession(connector=connector) as session:
                while True:
                    for name, process in self._processes:
                        if not process.running:
                            raise UsageError(f"{name} did not start; the end of its log:\n{self._log_end(name)}")
                    with contextlib.suppress(aiohttp.ClientError):
                        async with session.get(f"{self.server}{path}") as response:
                            if response.ok:
                                return
                    await asyncio.sleep(0.1)
        except TimeoutError:
            end = self._log_end("kube-apiserver")
            message = f"kube-apiserver did not answer {path} in {_START_SECONDS} s; the end of its log:\n{end}"
            raise UsageError(message) from None


def has_controller_manager(assets: Path) -> bool:
    """Tell whether the folder holds a kube-controller-manager."""
    return os.access(assets / "kube-controller-manager", os.X_OK)


def _free_ports(count: int) -> list[int]:
    holders = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return ports

"""What the node says of itself: its Node object and its heartbeat."""

import asyncio
import logging
import platform
import time

import aiohttp
import psutil

from anomaly_devcluster import clock
from anomaly_devcluster.addresses import NODE_PORT
from anomaly_devcluster.client import CONFLICT, NODES, ApiError, Client, Object

_HEARTBEAT_SECONDS = 10
_log = logging.getLogger(__name__)


def labels(name: str) -> dict[str, str]:
    """Return the labels that nodeSelectors may name."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": machine}


class Registration:
    """Keep the Node object."""

    def __init__(self, client: Client, name: str, address: str, capacity: dict[str, float]) -> None:
        self._client = client
        self._name = name
        self._address = address
        self._capacity = capacity

    async def register(self) -> None:
        """Create the Node, or take it over; tried until it succeeds."""
        body = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self._name, "labels": labels(self._name)},
            "spec": {},
        }
        while True:
            try:
                try:
                    body = await self._client.create(NODES, body)
                except ApiError as error:
                    if error.code != CONFLICT:
                        raise
                    body = await self._client.get(NODES, None, self._name)
                await self._write_status(body)
            except (ApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
                _log.warning("registration of the node: %s", error)
                await asyncio.sleep(0.2)
            else:
                return

    async def keep(self) -> None:
        """Repeat the status until cancelled."""
        while True:
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            try:
                await self._write_status({"metadata": {"name": self._name}})
            except (ApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
                _log.debug("heartbeat: %s", error)

    async def _write_status(self, body: Object) -> None:
        conditions = [
            ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ("Ready", "True", "KubeletReady", "pods run as processes of this machine"),
        ]
        amounts = {
            "cpu": f"{self._capacity['cpu']:.0f}",
            "memory": f"{self._capacity['memory'] / 1024:.0f}Ki",
            "ephemeral-storage": f"{self._capacity['ephemeral-storage'] / 1024:.0f}Ki",
            "pods": f"{self._capacity['pods']:.0f}",
        }
        started = clock.render(psutil.Process().create_time())
        status = {
            "addresses": [
                {"type": "InternalIP", "address": self._address},
                {"type": "Hostname", "address": self._name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": NODE_PORT}},
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [
                {
                    "type": kind,
                    "status": holds,
                    "reason": reason,
                    "message": message,
                    "lastHeartbeatTime": clock.render(time.time()),
                    "lastTransitionTime": started,
                }
                for kind, holds, reason, message in conditions
            ],
            "nodeInfo": {
                "architecture": labels(self._name)["kubernetes.io/arch"],
                "operatingSystem": "linux",
                "osImage": f"{platform.system()} (processes, no containers)",
                "kernelVersion": platform.release(),
                "kubeletVersion": "v1.36.0-devcluster",
                "kubeProxyVersion": "v1.36.0-devcluster",
                "containerRuntimeVersion": "devcluster://0.1.0",
                "machineID": "",
                "systemUUID": "",
                "bootID": "",
            },
        }
        await self._client.patch(NODES, body, {"status": status}, "status")

"""What the node says of itself: its Node object and its heartbeat."""

import asyncio
import logging
import platform

import psutil

from anomaly_devcluster import clock
from anomaly_devcluster.addresses import NODE_PORT
from anomaly_devcluster.client import APPLY, FAILURES, NODES, Client, Object
from anomaly_devcluster.data import data

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
        metadata = {"name": self._name, "labels": labels(self._name)}
        body = {"apiVersion": NODES.version, "kind": NODES.kind, "metadata": metadata}
        path, force = NODES.path(None, self._name), {"force": "true"}
        while True:
            try:
                known = await self._client.request("PATCH", path, body, params=force, content_type=APPLY)
                await self._write_status(known)
            except FAILURES as error:
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
            except FAILURES as error:
                _log.debug("heartbeat: %s", error)

    async def _write_status(self, body: Object) -> None:
        sizes = {name: f"{amount / 1024:.0f}Ki" for name, amount in self._capacity.items()}
        status = data(
            "node/node",
            address=self._address,
            architecture=labels(self._name)["kubernetes.io/arch"],
            cpu=round(self._capacity["cpu"]),
            disk=sizes["ephemeral-storage"],
            kernel=platform.release(),
            memory=sizes["memory"],
            name=self._name,
            now=clock.now(),
            pods=round(self._capacity["pods"]),
            port=NODE_PORT,
            started=clock.render(psutil.Process().create_time()),
            system=platform.system(),
        )
        await self._client.patch(NODES, body, {"status": status}, "status")

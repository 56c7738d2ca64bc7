"""The emulated control plane, as a run of a cluster uses it."""

import asyncio
from pathlib import Path

from anomaly_devcluster.addresses import node_address, service_block
from anomaly_devcluster.api.server import ApiServer
from anomaly_devcluster.certificates import write_private


class EmbeddedControlPlane:
    """Start and stop the API server of this package, in this process."""

    def __init__(self, folder: Path, slot: int) -> None:
        self._folder = folder
        self._slot = slot
        self._server = ApiServer(services=service_block(slot))

    @property
    def server(self) -> str:
        """Where the API server listens."""
        return self._server.url

    async def start(self) -> None:
        """Serve, then write the node's certificate and the kubeconfig."""
        await self._server.__aenter__()
        self._server.authority.server([node_address(self._slot), "devcluster"]).write(self._folder / "pki", "node")
        write_private(self._folder / "kubeconfig", self._server.admin_kubeconfig())

    async def wait(self) -> None:
        """Wait for ever: what runs in this process ends with it."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Stop serving."""
        await self._server.__aexit__(None, None, None)

"""What pods use of the machine, as their node says."""

import time

from anomaly_devcluster import clock
from anomaly_devcluster.client import NODES, Client, Object

_SHORTEST_SECONDS = 1.0
PodUsage = dict[str, float | None]
"""`cpu` in cores over the time since the last reading (None at first), `memory` in bytes."""


class Usage:
    """Turn the processor time that nodes count into cores."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._seconds: dict[str, tuple[float, float]] = {}
        self._newest: dict[str, PodUsage] = {}
        self._read_at = 0.0

    async def read(self) -> dict[str, PodUsage]:
        """Return the use of each pod by UID; raises OSError or aiohttp.ClientError when a node does not answer."""
        if time.monotonic() - self._read_at < _SHORTEST_SECONDS:
            return self._newest
        self._read_at = time.monotonic()
        newest: dict[str, PodUsage] = {}
        for node in (await self._client.list(NODES))["items"]:
            status = node.get("status", {})
            addresses = [a["address"] for a in status.get("addresses") or [] if a["type"] == "InternalIP"]
            port = status.get("daemonEndpoints", {}).get("kubeletEndpoint", {}).get("Port")
            if addresses and port:
                summary = await self._client.request("GET", f"https://{addresses[0]}:{port}/stats/summary")
                for pod in summary["pods"]:
                    newest[pod["podRef"]["uid"]] = self._usage(pod)
        self._newest = newest
        return newest

    def _usage(self, pod: Object) -> PodUsage:
        uid, containers = pod["podRef"]["uid"], pod["containers"]
        seconds = sum(c["cpu"]["usageCoreNanoSeconds"] for c in containers) / 1e9
        at = max(clock.parse(c["cpu"]["time"]) for c in containers)
        before = self._seconds.get(uid)
        self._seconds[uid] = at, seconds
        cores = None
        if before is not None and at > before[0] and seconds >= before[1]:
            cores = (seconds - before[1]) / (at - before[0])
        return {"cpu": cores, "memory": float(sum(c["memory"]["workingSetBytes"] for c in containers))}

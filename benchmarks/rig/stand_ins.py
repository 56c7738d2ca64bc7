"""Stand-ins for what a fleet's operator speaks with: one MLflow registry, and the detectors of pods without processes.

    python stand_ins.py KUBECONFIG FIRST_ADDRESS_BLOCK PODS HEARTBEAT_SECONDS

Each pod has an address of its own where `PUT /role` is answered as a detector does, with a report; and each writes its
report once a heartbeat, as a detector does, spread evenly. The registry knows one model, whose alias stands on version
2. Prints the registry's port.
"""

import asyncio
import base64
import json
import signal
import sys
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from typing import Any

from aiohttp import web
from fleet import addresses, report, told, version
from http_api import APPLY, Api, api

from anomaly_detector import report as contract
from anomaly_devcluster.client import PODS
from anomaly_devcluster.node.processes import die_with_parent
from anomaly_operator.domain.model import RoleOrder
from anomaly_operator.domain.names import ADMIN_PORT, MODEL_LABEL


class Detectors:
    """What each pod was told, by its UID, and the reports that follow from it."""

    def __init__(self) -> None:
        self._orders: dict[str, RoleOrder] = {}
        self._sequence = count(2)

    async def put_role(self, request: web.Request) -> web.Response:
        uid = _audience(request.headers["Authorization"])
        self._orders[uid] = _order(await request.json())
        said = report(self._orders[uid], datetime.now(UTC), seq=next(self._sequence))
        return web.Response(text=said.to_json(), content_type="application/json")

    async def heartbeats(self, kubeconfig: Path, period: float) -> None:
        """Write the reports of all pods, evenly over each period, for ever."""
        loop = asyncio.get_running_loop()
        async with api(kubeconfig) as server:
            while True:
                listed = (await server.done("GET", PODS.path(), labelSelector=MODEL_LABEL))["items"]
                pods = [pod for pod in listed if contract.REPORT in pod["metadata"].get("annotations", ())]
                began = loop.time()
                for number, pod in enumerate(pods):
                    await asyncio.sleep(began + period * number / len(pods) - loop.time())
                    await self._beat(server, pod)
                await asyncio.sleep(max(0.2, began + period - loop.time()))

    async def _beat(self, server: Api, pod: dict[str, Any]) -> None:
        metadata, known = pod["metadata"], pod["metadata"]["annotations"]
        before = json.loads(known[contract.REPORT])
        order = self._orders.get(metadata["uid"], _order(before))
        said = report(order, datetime.fromisoformat(before["startedAt"]), seq=next(self._sequence))
        # With the UID, so that a pod that is gone is not made anew.
        own = {name: metadata[name] for name in ("name", "namespace", "uid")}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {**own, "annotations": told(said)}}
        path = PODS.path(metadata["namespace"], metadata["name"])
        status, answer = await server.request("PATCH", path, body, media=APPLY, manager=contract.FIELD_MANAGER)
        # A value that somebody else has set stays theirs (409), and pods come and go (404).
        if status not in (200, 404, 409):
            raise RuntimeError(answer)


def _order(said: dict[str, Any]) -> RoleOrder:
    """Read what `PUT /role` says; a report says the same."""
    return RoleOrder(
        role=said["role"],
        epoch=said["epoch"],
        shadow_percent=said["shadowPercent"],
        pass_through=said["passThrough"],
    )


def _audience(authorization: str) -> str:
    """Return the UID that a token is for; stand-ins take any token."""
    payload = authorization.split()[1].split(".")[1]
    said: str = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["aud"]
    return said


async def alias(_: web.Request) -> web.Response:
    return web.json_response({"model_version": version("2")})


async def known(request: web.Request) -> web.Response:
    return web.json_response({"model_version": version(request.query["version"])})


async def tagged(_: web.Request) -> web.Response:
    return web.json_response({})


async def run(kubeconfig: Path, block: int, pods: int, heartbeat: float) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    detectors = Detectors()
    registry, admin = web.Application(), web.Application()
    registry.router.add_get("/api/2.0/mlflow/registered-models/alias", alias)
    registry.router.add_get("/api/2.0/mlflow/model-versions/get", known)
    registry.router.add_post("/api/2.0/mlflow/model-versions/set-tag", tagged)
    admin.router.add_put("/role", detectors.put_role)
    runners = [web.AppRunner(app, access_log=None) for app in (registry, admin)]
    for runner in runners:
        await runner.setup()
    await web.TCPSite(runners[0], "127.0.0.1", 0).start()
    for address in islice(addresses(block), pods):
        await web.TCPSite(runners[1], address, ADMIN_PORT).start()
    print(runners[0].addresses[0][1], flush=True)
    async with asyncio.TaskGroup() as tasks:
        beating = tasks.create_task(detectors.heartbeats(kubeconfig, heartbeat))
        await stop.wait()
        beating.cancel()
    for runner in runners:
        await runner.cleanup()


if __name__ == "__main__":
    die_with_parent(signal.SIGTERM)
    asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))

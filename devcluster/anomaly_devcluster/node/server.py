"""What the node answers itself, at the paths where a kubelet does: logs of containers and their use of the machine."""

import asyncio
import contextlib
import os
import secrets
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from anomaly_devcluster.client import Object
from anomaly_devcluster.node.container import Container
from anomaly_devcluster.node.pod import Pod

if TYPE_CHECKING:
    from anomaly_devcluster.node.agent import Node


_CHUNK = 65536
_POLL_SECONDS = 0.1
_UNSUPPORTED = ("limitBytes", "timestamps", "sinceSeconds", "sinceTime")


def application(node: "Node") -> web.Application:
    """Return the node's web application."""
    app = web.Application(middlewares=[_authenticated(node.client.access.token)])
    handlers = NodeServer(node)
    app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", handlers.logs)
    app.router.add_get("/stats/summary", handlers.summary)
    return app


async def serve(node: "Node", listener: socket.socket, context: ssl.SSLContext) -> None:
    """Answer until cancelled."""
    runner = web.AppRunner(application(node), access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.SockSite(runner, listener, ssl_context=context).start()
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def _authenticated(token: str | None) -> Middleware:
    """Let in who shows a certificate of the cluster's authority, as a kubelet does, or the administrator's token."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        transport = request.transport
        certificate = transport.get_extra_info("peercert") if transport else None
        shown = request.headers.get("Authorization", "").encode()
        if not certificate and not (token and secrets.compare_digest(shown, f"Bearer {token}".encode())):
            return web.Response(status=401, text="Unauthorized")
        return await handler(request)

    return check


class NodeServer:
    """The handlers."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """Stream a container's output, with the query of the pods/log subresource."""
        query = request.query
        for name in _UNSUPPORTED:
            if query.get(name) not in (None, "", "false"):
                return web.Response(status=501, text=f"devcluster does not emulate logs by {name}")
        if not query.get("tailLines", "0").isdigit():
            return web.Response(status=400, text=f"tailLines: {query['tailLines']!r} is no number of lines")
        tail = int(query["tailLines"]) if "tailLines" in query else None
        info = request.match_info
        pod = self._node.pod_by_name((info["namespace"], info["pod"]))
        container = _container(pod, info["container"])
        if pod is None or container is None:
            return web.Response(status=404, text=f"container {info['container']} of pod {info['pod']} is not here")
        previous, follow = query.get("previous") == "true", query.get("follow") == "true"
        path = container.log_file(previous=previous)
        if not path.exists():
            return web.Response(status=400, text=_no_log(pod, container, previous=previous))
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            async for chunk in _read(path, container, tail=tail, follow=follow and not previous):
                await response.write(chunk)
            await response.write_eof()
        return response

    async def summary(self, _: web.Request) -> web.Response:
        """Return the processor time of each container, in the form of a kubelet's Summary API."""
        return web.json_response(await asyncio.to_thread(_summary, list(self._node.pods.values())))


def _container(pod: Pod | None, name: str) -> Container | None:
    return next((c for c in [*pod.init, *pod.containers] if c.name == name), None) if pod else None


def _no_log(pod: Pod, container: Container, *, previous: bool) -> str:
    name = pod.body["metadata"]["name"]
    if previous:
        return f'previous terminated container "{container.name}" in pod "{name}" not found'
    waiting = container.state.get("waiting", {})
    if waiting.get("reason") in ("ErrImagePull", "ImagePullBackOff"):
        why = "trying and failing to pull image"
    else:
        why = waiting.get("reason", "ContainerCreating")
    return f'container "{container.name}" in pod "{name}" is waiting to start: {why}'


async def _read(path: Path, container: Container, *, tail: int | None, follow: bool) -> AsyncIterator[bytes]:
    process = container.process
    with path.open("rb") as log:
        if tail is not None:
            log.seek(_tail_offset(log.read(), tail))
        while True:
            running = process is not None and process.running
            while chunk := log.read(_CHUNK):
                yield chunk
            if not follow or not running:
                return
            await asyncio.sleep(_POLL_SECONDS)


def _tail_offset(content: bytes, lines: int) -> int:
    end = len(content) - content.endswith(b"\n")
    for _ in range(lines):
        end = content.rfind(b"\n", 0, end)
        if end < 0:
            return 0
    return end + 1 if lines else len(content)


def _summary(pods: list[Pod]) -> Object:
    """Sum up processes by their session, which is one container each."""
    leaders = {
        c.process.pid: (pod, c) for pod in pods for c in pod.containers if c.process is not None and c.process.running
    }
    seconds: dict[int, float] = dict.fromkeys(leaders, 0.0)
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            leader = os.getsid(pid)
            if leader in leaders:
                times = psutil.Process(pid).cpu_times()
                seconds[leader] += times.user + times.system + times.children_user + times.children_system
    now = datetime.now(UTC).isoformat()
    result: dict[str, Object] = {}
    for leader, (pod, container) in leaders.items():
        metadata = pod.body["metadata"]
        reference = {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]}
        entry = result.setdefault(metadata["uid"], {"podRef": reference, "containers": []})
        entry["containers"].append(
            {
                "name": container.name,
                "cpu": {"time": now, "usageCoreNanoSeconds": int(seconds[leader] * 1e9)},
            }
        )
    return {"pods": list(result.values())}

"""Carry connections from Services to their pods.

A Service has an address of its own on loopback, and a listener there while at least one of its pods is ready: so a
Service without endpoints refuses connections, as it does with kube-proxy. New connections go round-robin to ready,
non-terminating pods; a connection once open stays where it is. The endpoints are read from Services and pods
themselves, because a real API server accepts no loopback addresses in EndpointSlices.
"""

import asyncio
import logging
import os
import socket
import struct
from typing import cast

from anomaly_devcluster.addresses import service_address
from anomaly_devcluster.api.selectors import matches_selector as matches
from anomaly_devcluster.client import PODS, SERVICES, Client, Object
from anomaly_devcluster.events import EventRecorder
from anomaly_devcluster.informer import Informers, Key, key_of
from anomaly_devcluster.pods import is_active, is_ready, target_port

_BACKLOG = 4096
_HIGH_WATER = 1 << 18
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_RETRY_SECONDS = 1
_log = logging.getLogger(__name__)

Endpoint = tuple[str, int]
"""Address and port."""


class Side(asyncio.Protocol):
    """One of the two connections of a proxied connection; what comes in here goes out on the other side."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Side | None = None
        self._early: list[bytes] = []
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(_HIGH_WATER)

    @property
    def peer(self) -> asyncio.Transport | None:
        """The transport of the other side."""
        return self.other.transport if self.other else None

    def data_received(self, data: bytes) -> None:
        """Pass data on, or keep it until the other side is connected."""
        if self.peer:
            self.peer.write(data)
            return
        self._early.append(data)
        if self.transport:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """Pass a half-closed connection on."""
        self._ended = True
        if self.other and self.peer and not self.peer.is_closing():
            if self.other._ended:  # noqa: SLF001 - both sides are of this class
                self.peer.close()
                return False
            self.peer.write_eof()
        return True

    def join(self, other: "Side") -> None:
        """Connect two sides and send on what has come in already."""
        self.other, other.other = other, self
        if other.transport is not None:
            other.transport.writelines(self._early)
            if self._ended:
                other.transport.write_eof()
        self._early.clear()
        if self.transport is not None:
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        """Slow down the sender."""
        if self.peer:
            self.peer.pause_reading()

    def resume_writing(self) -> None:
        """Let the sender go on."""
        if self.peer:
            self.peer.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """Close the other side; a reset is passed on as a reset."""
        if self.other and error:
            self.other.reset()
        elif self.peer:
            self.peer.close()

    def reset(self) -> None:
        """Break the connection off with a RST."""
        if self.transport is not None:
            raw = self.transport.get_extra_info("socket")
            if raw is not None and raw.fileno() >= 0:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.transport.abort()


class ClientSide(Side):
    """The connection that a client opened; chooses a pod when it is made."""

    def __init__(self, listener: "Listener") -> None:
        super().__init__()
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect to the next endpoint."""
        super().connection_made(transport)
        endpoint = self._listener.choose()
        if endpoint is None:
            self.reset()
        else:
            self._connecting = asyncio.get_running_loop().create_task(self._connect(endpoint))

    async def _connect(self, endpoint: Endpoint) -> None:
        try:
            _, server = await asyncio.get_running_loop().create_connection(Side, *endpoint)
        except OSError:
            self.reset()
            return
        if self.transport is None or self.transport.is_closing():
            server.reset()
        else:
            self.join(server)


class Listener:
    """A Service port: its endpoints, and a listening socket while there are any."""

    def __init__(self, front: Endpoint) -> None:
        self.front = front
        self.endpoints: tuple[Endpoint, ...] = ()
        self._server: asyncio.Server | None = None
        self._turn = 0

    def choose(self) -> Endpoint | None:
        """Return the endpoint whose turn it is."""
        if not self.endpoints:
            return None
        self._turn = (self._turn + 1) % len(self.endpoints)
        return self.endpoints[self._turn]

    async def update(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Send new connections to these endpoints; raises OSError when the port cannot be listened on."""
        self.endpoints = endpoints
        if endpoints and self._server is None:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: ClientSide(self), *self.front, backlog=_BACKLOG, reuse_address=True
            )
        elif not endpoints and self._server is not None:
            self._server.close()
            self._server = None


def endpoints_of(service: Object, port: Object, pods: list[Object]) -> tuple[Endpoint, ...]:
    """Return where new connections to a Service port may go, in a stable order."""
    selector = service["spec"].get("selector")
    if not selector:
        return ()
    found = []
    for pod in pods:
        if is_active(pod) and is_ready(pod) and matches({"matchLabels": selector}, pod["metadata"].get("labels")):
            number, address = target_port(pod, port), pod["status"].get("podIP")
            if number and address:
                found.append((address, number))
    return tuple(sorted(found))


class Proxy:
    """Keep a listener for each Service port."""

    def __init__(self, client: Client, informers: Informers, slot: int) -> None:
        self._slot = slot
        self._services = informers(SERVICES)
        self._pods = informers(PODS)
        self._informers = informers
        self._events = EventRecorder(client, "kube-proxy")
        self._listeners: dict[Key, dict[Endpoint, Listener]] = {}
        self._changed: set[Key] = set()
        self._wake = asyncio.Event()
        self._labels: dict[Key, Object] = {}

    async def run(self) -> None:
        """Follow Services and pods until cancelled."""
        await self._informers.synced()
        self._services.on_change(lambda _, service: self._mark(key_of(service)))
        self._pods.on_change(self._pod_changed)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._events.run())
            tasks.create_task(self._follow())

    def _mark(self, key: Key) -> None:
        self._changed.add(key)
        self._wake.set()

    def _pod_changed(self, kind: str, pod: Object) -> None:
        """Look again at the Services that select the pod, as it is or as it was."""
        key = key_of(pod)
        before = self._labels.pop(key, None)
        now = pod["metadata"].get("labels")
        if kind != "DELETED":
            self._labels[key] = now or {}
        for service in self._services.namespaced(pod["metadata"]["namespace"]):
            selector = {"matchLabels": service["spec"].get("selector") or {"": ""}}
            if matches(selector, now) or matches(selector, before):
                self._mark(key_of(service))

    async def _follow(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._changed:
                await self._sync(self._changed.pop())

    async def _sync(self, key: Key) -> None:
        service = self._services.get(*key)
        wanted = self._wanted(service) if service else {}
        listeners = self._listeners.setdefault(key, {})
        for front in listeners.keys() - wanted.keys():
            await listeners.pop(front).update(())
        for front, endpoints in wanted.items():
            listener = listeners.setdefault(front, Listener(front))
            try:
                await listener.update(endpoints)
            except OSError as error:
                hint = "; an ordinary user needs ports above 1023" if isinstance(error, PermissionError) else ""
                if service:
                    message = f"cannot listen on {front[0]}:{front[1]}: {os.strerror(error.errno or 0)}{hint}"
                    self._events.warning(service, "FailedToListen", message)
                asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._mark, key)
        if not listeners:
            del self._listeners[key]

    def _wanted(self, service: Object) -> dict[Endpoint, tuple[Endpoint, ...]]:
        spec = service["spec"]
        if spec.get("clusterIP") in (None, "", "None") or spec.get("type") == "ExternalName":
            return {}
        host = service_address(spec["clusterIP"], self._slot)
        pods = self._pods.namespaced(service["metadata"]["namespace"])
        return {
            (host, port["port"]): endpoints_of(service, port, pods)
            for port in spec.get("ports") or []
            if port.get("protocol", "TCP") == "TCP"
        }

"""The short way for everyday requests: small, from a client that keeps its connection, to a model that is quick.

A web framework does much for each request that these do not need, and that takes longer than to score a row. So each
connection begins here. At the first request that is anything else, aiohttp takes the connection over for good, with
every byte that it has not seen; nothing of what it does is done twice.
"""

import asyncio
import gzip
import socket
import time
from collections.abc import Callable, Mapping
from typing import cast

from aiohttp import web

from anomaly_detector import http1
from anomaly_detector.exchange import Exchange
from anomaly_detector.pod import Pod, Serving
from anomaly_detector.problems import Problem
from anomaly_detector.protocols import Answer, Codec, Payload

PATIENCE_SECONDS = 1.0
"""How long an incomplete request may wait here; aiohttp has the time limits."""
GZIP_FROM = 16 * 1024
"""Bytes of an answer from which compressing it is worth the time."""


class Port:
    """What the connections of a port share; call it for the protocol of a new one."""

    def __init__(
        self,
        pod: Pod,
        exchange: Exchange,
        codecs: Callable[[Serving], Mapping[str, Codec]],
        server: web.Server,
        *,
        headers: dict[str, str],
        closing: Callable[[], bool],
        keep_alive: float,
    ) -> None:
        self._pod, self._exchange, self._make_codecs, self._closing = pod, exchange, codecs, closing
        self._codecs: Mapping[str, Codec] = {}
        self._head = http1.Head(headers)
        self.server, self.keep_alive = server, keep_alive
        self.connections: set[Connection] = set()

    def __call__(self) -> "Connection":
        """Return the protocol of a new connection."""
        return Connection(self)

    def close(self) -> None:
        """Close idle connections; aiohttp sees to those where a request is arriving."""
        for connection in list(self.connections):
            connection.end()

    def answer(self, request: http1.Request) -> bytes | None:
        """Return the whole answer; None if aiohttp should give it."""
        pod, serving = self._pod, self._pod.serving
        if serving is None or not serving.plane.model.fast or self._closing():
            return None
        settings = pod.settings
        if pod.in_flight >= settings.max_in_flight or len(request.body) > settings.max_payload_bytes:
            return None
        if not self._codecs:
            self._codecs = self._make_codecs(serving)
        codec = self._codecs.get(request.path)
        answer = None if codec is None else self._score(request, codec, serving)
        return None if answer is None else self._write(request, answer)

    def _score(self, request: http1.Request, codec: Codec, serving: Serving) -> Answer | None:
        exchange, source, began = self._exchange, self._exchange.source(request.headers), time.perf_counter()
        payload = Payload(body=request.body, content_type=request.content_type, headers=request.headers)
        try:
            turn = exchange.begin(codec, payload, source, serving.plane.model.contract)
            if not serving.plane.answers_at_once(turn.query):
                return None
            try:
                scored = serving.plane.answer_at_once(turn.query)
            except Problem as problem:
                return exchange.fail(turn, problem)
            return exchange.finish(turn, scored)
        except Problem as problem:
            return exchange.refuse(codec, problem, source)
        except Exception as error:  # noqa: BLE001 - the connection outlives a fault in one request
            return exchange.crash(codec, source, began, error)

    def _write(self, request: http1.Request, answer: Answer) -> bytes:
        body, headers = answer.body, {"Content-Type": answer.content_type, **answer.headers}
        if (request_id := request.headers.get("x-request-id")) is not None:
            headers["X-Request-Id"] = request_id
        if len(body) >= GZIP_FROM and "gzip" in request.headers.get("accept-encoding", ""):
            body = gzip.compress(body, 6)
            headers["Content-Encoding"] = "gzip"
        return self._head.write(answer.status, len(body), headers) + body


class Connection(asyncio.Protocol):
    """One connection for as long as nothing but everyday requests come over it."""

    __slots__ = ("_last", "_loop", "_port", "_received", "_timer", "_transport", "_waiting", "_writable")

    def __init__(self, port: Port) -> None:
        self._port = port
        self._received = b""
        self._writable = True
        self._waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request, for a while."""
        self._transport = cast("asyncio.Transport", transport)
        opened = transport.get_extra_info("socket")
        if opened is not None:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._timer = self._loop.call_later(self._port.keep_alive, self._look)
        self._port.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        del exc
        self._timer.cancel()
        self._port.connections.discard(self)

    def pause_writing(self) -> None:
        """Read no more from a client that does not take its answers."""
        self._writable = False
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on with what was read before."""
        self._writable = True
        self._transport.resume_reading()
        self.data_received(b"")

    def data_received(self, data: bytes) -> None:
        """Answer what is complete and everyday."""
        received, at = self._received + data, 0
        self._last = self._loop.time()
        while at < len(received) and self._writable:
            try:
                request = http1.read(received, at)
            except http1.UnusualError:
                self._hand_over(received[at:])
                return
            if request is None:
                self._wait_for_rest()
                break
            self._waiting = False
            answer = self._port.answer(request)
            if answer is None:
                self._hand_over(received[at:])
                return
            at = request.end
            self._transport.write(answer)
        self._received = received[at:]

    def end(self) -> None:
        """Close, unless a request is arriving: aiohttp ends when it has been answered."""
        if self._waiting and self._writable:
            self._hand_over(self._received)
        else:
            self._transport.close()

    def _wait_for_rest(self) -> None:
        if self._waiting:
            return  # the time of a request counts from its first byte
        self._waiting = True
        self._timer.cancel()
        self._timer = self._loop.call_later(PATIENCE_SECONDS, self._look)

    def _look(self) -> None:
        """See what has become of the connection since the timer was set."""
        left = self._last + self._port.keep_alive - self._loop.time()
        if self._waiting and self._writable:
            self._hand_over(self._received)
        elif left <= 0:
            self._transport.close()
        else:
            self._timer = self._loop.call_later(left, self._look)

    def _hand_over(self, received: bytes) -> None:
        self._timer.cancel()
        self._port.connections.discard(self)
        heir = self._port.server()
        self._transport.set_protocol(heir)
        heir.connection_made(self._transport)
        heir.data_received(received)


class ExpressSite(web.BaseSite):
    """A port of an aiohttp runner whose connections begin here."""

    def __init__(self, runner: web.BaseRunner, port: Port, address: tuple[str | None, int]) -> None:
        super().__init__(runner, backlog=1024)
        self._port, self._address = port, address

    @property
    def name(self) -> str:
        """The address, for people."""
        host, number = self._address
        return f"http://{host}:{number}"

    async def start(self) -> None:
        """Listen."""
        await super().start()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._port, *self._address, backlog=self._backlog)

    async def stop(self) -> None:
        """Listen no more, and close what is idle."""
        await super().stop()
        self._port.close()

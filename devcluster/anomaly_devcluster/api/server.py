"""The API server: HTTPS in front of the emulated control plane."""

import asyncio
import ipaddress
import ssl
import tempfile
from types import TracebackType
from typing import Self

import orjson
from aiohttp import web

from anomaly_devcluster.api.call import Answer
from anomaly_devcluster.api.control_plane import ControlPlane, Stream
from anomaly_devcluster.api.errors import StatusError
from anomaly_devcluster.api.faults import Drop
from anomaly_devcluster.certificates import Authority, kubeconfig

DEFAULT_SERVICES = ipaddress.IPv4Network("127.128.0.0/16")
HOSTS = ["localhost", "127.0.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]


class ApiServer:
    """Serve a cluster on loopback; an asynchronous context manager.

    `services` is the block that Services get their addresses from; its first address is the Service `kubernetes`.
    """

    def __init__(
        self, *, bind: str = "127.0.0.1", port: int = 0, services: ipaddress.IPv4Network = DEFAULT_SERVICES
    ) -> None:
        self._bind = bind
        self._port = port
        self.authority = Authority.create("devcluster")
        """Signs the server's certificate, and may sign those of nodes and clients."""
        self.control_plane = ControlPlane(services)
        self._runner: web.ServerRunner | None = None

    async def __aenter__(self) -> Self:
        server = web.Server(self._handle, access_log=None, keepalive_timeout=90, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._bind, self._port, ssl_context=self._context(), backlog=1024)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.control_plane.start(self._bind, self._port, self.ca_pem)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.control_plane.stop()
        if self._runner:
            await self._runner.cleanup()

    @property
    def url(self) -> str:
        """Where the server listens."""
        return f"https://{self._bind}:{self._port}"

    @property
    def ca_pem(self) -> str:
        """The authority that signed the server's certificate."""
        return self.authority.pair.certificate

    def admin_kubeconfig(self) -> str:
        """Return a kubeconfig of a member of system:masters, as YAML."""
        return kubeconfig(self.url, self.ca_pem, {"token": self.control_plane.authenticator.admin_token})

    def _context(self) -> ssl.SSLContext:
        pair = self.authority.server([*dict.fromkeys([self._bind, *HOSTS])])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=self.ca_pem)
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as both:  # load_cert_chain takes paths only
            both.write(pair.certificate + pair.key)
            both.flush()
            context.load_cert_chain(both.name)
        return context

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; whatever goes wrong becomes a Status."""
        try:
            answer = await self.control_plane.answer(request)
        except StatusError as error:
            answer = Answer(error.code, orjson.dumps(error.as_object()), headers=error.headers)
        except Drop:
            _cut(request)
            return web.Response()
        except Exception as error:  # noqa: BLE001 - a client gets an answer, and the traceback is in the server's log
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"{request.method} {request.path_qs}", "exception": error}
            )
            status = StatusError(500, "InternalError", f"Internal error occurred: {type(error).__name__}: {error}")
            answer = Answer(500, orjson.dumps(status.as_object()))
        if isinstance(answer, Answer):
            headers = {"Content-Type": answer.content_type, **answer.headers}
            return web.Response(status=answer.code, body=answer.body, headers=headers)
        return await self._stream(request, answer)

    @staticmethod
    async def _stream(request: web.BaseRequest, answer: Stream) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": answer.content_type})
        await response.prepare(request)
        try:
            async for chunk in answer.chunks:
                await response.write(chunk)
            await response.write_eof()
        except (ConnectionError, Drop):
            _cut(request)
        return response


def _cut(request: web.BaseRequest) -> None:
    if request.transport:
        request.transport.abort()

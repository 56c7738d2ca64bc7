"""Requests to the other color, one at a time over a connection that is kept.

Copies are many and small, and a whole HTTP client does more for each than the model does; so the connection speaks the
little HTTP that our own answers need. From the first answer that is written otherwise, by some proxy, aiohttp carries
the requests. A connection that was kept may have been closed meanwhile: then the request was not read, and is sent once
more over a new one.
"""

import asyncio
from collections.abc import Mapping
from typing import cast
from urllib.parse import urlsplit

import aiohttp

from anomaly_detector import http1

SECONDS, CONNECT_SECONDS = 5.0, 1.0
SMALL_BYTES = 64 * 1024
"""Bodies up to this size go over the connection of our own."""


class NobodyThereError(Exception):
    """Say that no connection could be made."""


class NoAnswerError(Exception):
    """Say that a request was not answered."""


class UnreadAnswerError(Exception):
    """Say that an answer came that nobody has read: the next one will be."""


class Courier:
    """Posts JSON to `url`, http without user or query."""

    def __init__(self, url: str) -> None:
        self._url, where = url, urlsplit(url)
        self._address = (where.hostname or "", where.port or 80)
        self._start = f"POST {where.path} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\n"
        self._line: _Line | None = None
        self._session: aiohttp.ClientSession | None = None
        self._by_aiohttp = False
        self._kept = False
        """Whether aiohttp's newest request went over a connection that was used before."""

    async def post(self, body: bytes, headers: Mapping[str, str]) -> http1.Response:
        """Return the answer. Raises NobodyThereError, NoAnswerError or UnreadAnswerError."""
        if self._by_aiohttp or len(body) > SMALL_BYTES:
            return await self._post_by_aiohttp(body, headers)
        try:
            async with asyncio.timeout(SECONDS):
                return await self._post(body, headers)
        except http1.UnusualError:  # to ask again would count twice over there
            self._hang_up()
            self._by_aiohttp = True
            raise UnreadAnswerError from None
        except (OSError, TimeoutError) as error:  # its line may still bring an answer that nobody waits for
            self._hang_up()
            raise NoAnswerError(repr(error)) from None

    async def close(self) -> None:
        """Close the connections."""
        self._hang_up()
        if self._session is not None:
            await self._session.close()

    async def _post(self, body: bytes, headers: Mapping[str, str]) -> http1.Response:
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        head = f"{self._start}{lines}Content-Length: {len(body)}\r\n\r\n"
        answer = await self._ask(head.encode("utf-8", "surrogateescape") + body)
        if answer.headers.get("connection", "").lower() == "close":
            self._hang_up()
        return answer

    async def _ask(self, request: bytes) -> http1.Response:
        kept = self._line
        if kept is not None and not kept.closed:
            try:
                return await kept.ask(request)
            except ConnectionError:
                if kept.answering:
                    raise
        self._line = await self._connect()
        return await self._line.ask(request)

    async def _connect(self) -> "_Line":
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, line = await asyncio.get_running_loop().create_connection(_Line, *self._address)
        except (OSError, TimeoutError) as error:
            raise NobodyThereError(repr(error)) from None
        return line

    async def _post_by_aiohttp(self, body: bytes, headers: Mapping[str, str]) -> http1.Response:
        session = self._session = self._session or self._open_session()
        while True:
            self._kept = False
            try:
                async with session.post(self._url, data=body, headers=headers) as answer:
                    return http1.Response(answer.status, answer.headers, await answer.read())
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
                raise NobodyThereError(repr(error)) from None
            except (aiohttp.ClientError, TimeoutError) as error:
                closed = isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)
                if not (closed and self._kept):
                    raise NoAnswerError(repr(error)) from None

    def _open_session(self) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(self._note_kept)
        limits = aiohttp.ClientTimeout(total=SECONDS, connect=CONNECT_SECONDS)
        return aiohttp.ClientSession(
            timeout=limits, headers={"content-type": "application/json"}, trace_configs=[trace]
        )

    async def _note_kept(self, *_: object) -> None:
        self._kept = True

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
        self._line = None


class _Line(asyncio.Protocol):
    """A connection, and the answer that it waits for."""

    def __init__(self) -> None:
        self.closed = False
        self._received = b""
        self._answer: asyncio.Future[http1.Response] | None = None

    @property
    def answering(self) -> bool:
        """Say whether part of the newest answer has come."""
        return bool(self._received)

    async def ask(self, request: bytes) -> http1.Response:
        """Return the answer. Raises OSError when the connection ends before, UnusualError when it cannot be read."""
        self._received = b""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """End the connection."""
        self.closed = True
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what to write to."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits."""
        self.closed = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc if isinstance(exc, OSError) else ConnectionResetError("closed"))

    def data_received(self, data: bytes) -> None:
        """Hand over the answer when it is complete."""
        if self._answer is None or self._answer.done():
            self.close()  # an answer that nobody has asked for
            return
        self._received += data
        try:
            answer = http1.read_answer(self._received)
        except http1.UnusualError as error:
            self._answer.set_exception(error)
            return
        if answer is not None:
            self._answer.set_result(answer)

"""What a draining pod does with requests that still arrive after a rollback: pass them on to the other color.

It is tried once. If the other color cannot be reached or fails, None tells the caller to answer itself; after some
failures in a row it is not even tried for a while, so that users do not wait for a time limit each.
"""

import logging
import time

import aiohttp
from aiohttp import web

from anomaly_detector.circuit import Breaker

log = logging.getLogger(__name__)

TIMEOUT = aiohttp.ClientTimeout(total=5, connect=1)
_NOT_PASSED = frozenset(
    {"host", "connection", "keep-alive", "content-length", "content-encoding", "transfer-encoding", "te", "upgrade"}
)
_KEPT = ("content-type", "inference-header-content-length", "retry-after")
_SERVER_ERROR = 500


class PassThrough:
    """Sends users' requests to `url`, the other color's Service."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: aiohttp.ClientSession | None = None
        self._breaker = Breaker()
        self.passed = 0

    async def ask(self, request: web.Request, body: bytes) -> web.Response | None:
        """Return the other color's answer; None if it has none to give."""
        if not self._breaker.allows(time.monotonic()):
            return None
        answered = await self._try(request, body)
        self._breaker.note(success=answered is not None, now=time.monotonic())
        self.passed += answered is not None
        return answered

    async def _try(self, request: web.Request, body: bytes) -> web.Response | None:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=TIMEOUT, auto_decompress=True)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_PASSED}
        headers["x-anomaly-source"] = "user"
        try:
            async with self._session.request(
                request.method, f"{self._url}{request.raw_path}", data=body, headers=headers, allow_redirects=False
            ) as answer:
                content = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("the other color did not answer; this pod does: %r", error)
            return None
        if answer.status >= _SERVER_ERROR:
            return None
        kept = {
            name: value
            for name, value in answer.headers.items()
            if name.lower() in _KEPT or name.lower().startswith("x-")
        }
        return web.Response(status=answer.status, body=content, headers=kept)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

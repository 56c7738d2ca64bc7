"""From a request to its body: within a time, a size, and what all bodies that are still arriving may hold together.

A client that sends slowly costs a connection and what it has sent, and none of the requests that may be in flight.
"""

import asyncio

from aiohttp import web

from anomaly_detector.problems import Problem

SECONDS = 30.0
"""How long a client may take to send its body."""
ARRIVING_BYTES = 64 * 2**20
"""What has arrived of all incomplete bodies; one alone may have more."""
SMALL_BYTES = 8 * 2**10
"""Bodies up to this size find room whatever others send; the number of connections alone bounds them."""
OVERLOADED = "Overloaded"
"""Reason of requests for which there is no room."""


class Intake:
    """Reads bodies, for all ports of a pod."""

    def __init__(self) -> None:
        self.arriving = 0
        """Requests whose body is not complete."""
        self._held = 0

    async def body(self, request: web.Request) -> bytes:
        """Return the whole body, decompressed.

        Raises Problem: 400 for a body that cannot be decoded, 408 for a slow one, 413 for a large one, 503 when there
        is no room; ConnectionError when the client goes away.
        """
        if request.content.is_eof():  # it came with the head, as small ones do
            return await self._read(request)
        self.arriving += 1
        try:
            async with asyncio.timeout(SECONDS):
                return await self._read(request)
        except TimeoutError:
            raise Problem(408, "BodyTimeout", f"body: not received within {SECONDS:g} s", "body") from None
        finally:
            self.arriving -= 1

    async def _read(self, request: web.Request) -> bytes:
        body = bytearray()
        try:
            while chunk := await request.content.readany():
                body += chunk
                self._held += len(chunk)
                self._check(len(body), request.client_max_size)
        except (Problem, web.HTTPException, ConnectionError, TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever a decompressor raises, the client sent it
            raise Problem(400, "BadEncoding", f"body: cannot be decoded: {type(error).__name__}", "body") from None
        finally:
            self._held -= len(body)
        return bytes(body)

    def _check(self, size: int, limit: int) -> None:
        if size > limit:
            most = f"at most {limit} bytes"
            raise Problem(413, "TooLarge", f"body: expected {most}", "body", most)
        if self._held > ARRIVING_BYTES and self._held > size > SMALL_BYTES:
            raise Problem(503, OVERLOADED, "too many large requests are arriving; try again")

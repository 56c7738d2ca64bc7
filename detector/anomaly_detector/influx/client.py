"""HTTP to InfluxDB 2: write lines, ask in Flux. The client library would do it, and bring 30 MiB with it."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp

from anomaly_detector.config import InfluxServer

TIMEOUT = aiohttp.ClientTimeout(total=10, connect=2)
QUERY_TIMEOUT = aiohttp.ClientTimeout(total=30, connect=2)
ERROR_BYTES = 2**16
LONGEST_RETRY_AFTER = 300.0
REFUSED_SECONDS = 0.01
"""Pause after each point that is refused by itself, so that a server that refuses them all is not flooded."""
_OK_BELOW, _BAD_REQUEST, _TOO_LARGE, _UNPROCESSABLE = 300, 400, 413, 422


class InfluxError(Exception):
    """Say what InfluxDB answered instead, and when to ask again at the earliest."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RejectedError(InfluxError):
    """InfluxDB will never take it as it is."""


class TooLargeError(InfluxError):
    """More than it takes, or than we take, at once."""


@dataclass(frozen=True, slots=True)
class InfluxClient:
    """Speaks with one server. The token is read anew each time, since it rotates."""

    session: aiohttp.ClientSession
    server: InfluxServer

    async def write(self, lines: Sequence[str]) -> None:
        """Write points of line protocol, precision nanoseconds.

        Raises RejectedError, TooLargeError, or InfluxError for what may be tried again.
        """
        server = self.server
        status, content, retry_after = await self._post(
            "/api/v2/write",
            params={"org": server.org, "bucket": server.bucket, "precision": "ns"},
            data=gzip.compress("\n".join(lines).encode(), compresslevel=1),
            headers={"content-encoding": "gzip", "content-type": "text/plain; charset=utf-8"},
            timeout=TIMEOUT,
            most=ERROR_BYTES,
        )
        if status >= _OK_BELOW:
            raise _error(status, content, retry_after)

    async def query(self, flux: str, *, most: int) -> str:
        """Return the answer as annotated CSV of at most `most` bytes.

        Raises RejectedError, TooLargeError, or InfluxError for what may be tried again.
        """
        dialect = {"annotations": ["group"], "header": True, "delimiter": ","}
        status, content, retry_after = await self._post(
            "/api/v2/query",
            params={"org": self.server.org},
            json={"query": flux, "type": "flux", "dialect": dialect},
            headers={"accept": "application/csv"},
            timeout=QUERY_TIMEOUT,
            most=most,
        )
        if status >= _OK_BELOW:
            raise _error(status, content, retry_after)
        if len(content) > most:
            raise TooLargeError(f"the answer has more than {most} bytes")
        return content.decode(errors="replace")

    async def _post(self, path: str, *, headers: dict[str, str], most: int, **request: Any) -> tuple[int, bytes, float]:
        """Return the status, the content until it has more than `most` bytes, and the seconds of Retry-After."""
        try:
            headers = {**headers, **_authorization(self.server)}
            async with self.session.post(self.server.url + path, headers=headers, **request) as answer:
                content = bytearray()
                async for chunk in answer.content.iter_any():
                    content += chunk
                    if len(content) > most:
                        break
                return answer.status, bytes(content), _seconds(answer.headers.get("retry-after", ""))
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            raise InfluxError(f"{type(error).__name__}: {error}") from None


async def by_halves(write: Callable[[Sequence[str]], Awaitable[None]], lines: Sequence[str]) -> list[InfluxError]:
    """Write points, by halves where they are not taken together; return why points were refused by themselves, each.

    Raises InfluxError for what may be tried again. Then that is tried again with all of them: points are idempotent.
    """
    try:
        await write(lines)
    except (RejectedError, TooLargeError) as error:
        if len(lines) == 1:
            await asyncio.sleep(REFUSED_SECONDS)
            return [error]
        half = len(lines) // 2
        return [*await by_halves(write, lines[:half]), *await by_halves(write, lines[half:])]
    return []


def _error(status: int, content: bytes, retry_after: float) -> InfluxError:
    kinds = {_BAD_REQUEST: RejectedError, _UNPROCESSABLE: RejectedError, _TOO_LARGE: TooLargeError}
    return kinds.get(status, InfluxError)(f"{status} {content.decode(errors='replace')[:300]}", retry_after)


def _seconds(value: str) -> float:
    """Return the seconds that Retry-After asks for, as a number or as a date; 0 for anything else."""
    if value.isascii() and value.isdigit():
        seconds = float(value)
    else:
        try:
            at = parsedate_to_datetime(value)
        except ValueError:
            return 0.0
        seconds = (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)


def _authorization(server: InfluxServer) -> dict[str, str]:
    """Read the token as it is now; raises OSError."""
    if server.token_file is None:
        return {}
    return {"authorization": f"Token {Path(server.token_file).read_text().strip()}"}

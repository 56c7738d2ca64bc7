"""Steady traffic through the users' Service, with honest bookkeeping of what came back."""

import asyncio
import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import cycle
from typing import Any

import aiohttp

from recording import Row

RATE = 40.0
"""Requests per second."""
USERS = 12
"""Each keeps a connection of its own, as users do; a single one would stay with one pod."""
TIMEOUT = aiohttp.ClientTimeout(total=5)
RECENT = 200


@dataclass
class Tally:
    """What users got. `lost`: no HTTP answer at all; `errors`: 5xx, by the version that answered."""

    sent: int = 0
    answered: int = 0
    lost: int = 0
    lost_reasons: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    rejected: Counter[int] = field(default_factory=Counter)
    by_version: Counter[str] = field(default_factory=Counter)
    anomalies: int = 0
    rows: int = 0
    last_answer: dict[str, float] = field(default_factory=dict)
    """Wall clock of the newest answer of each version."""
    first_error: dict[str, float] = field(default_factory=dict)
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    explained: dict[str, Any] | None = None
    """One explained anomaly, as the server answered it."""


class Traffic:
    """A client that asks RATE times a second and never waits for one answer before it sends the next request."""

    def __init__(self, rows: Iterator[list[Row]], tally: Tally) -> None:
        self.url = ""
        self.rows = rows
        self.spoil: Callable[[list[Row]], list[Row]] = lambda batch: batch
        """Changes each batch before it is sent."""
        self.tally = tally
        self._requests: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Send until cancelled; what is in flight then is still counted."""
        async with AsyncExitStack() as stack:
            users = [await stack.enter_async_context(aiohttp.ClientSession(timeout=TIMEOUT)) for _ in range(USERS)]
            tick = time.monotonic()
            try:
                for user in cycle(users):
                    request = asyncio.create_task(self._ask(user))
                    self._requests.add(request)
                    request.add_done_callback(self._requests.discard)
                    tick += 1 / RATE
                    await asyncio.sleep(max(0.0, tick - time.monotonic()))
            finally:
                await asyncio.gather(*self._requests)

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        tally, batch = self.tally, self.spoil(next(self.rows))
        tally.sent += 1
        start = time.perf_counter()
        try:
            async with session.post(self.url, json={"rows": batch}) as answer:
                version = answer.headers.get("x-anomaly-version", "unknown")
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            tally.lost += 1
            tally.lost_reasons[f"{type(error).__name__}: {error}"] += 1
            return
        tally.answered += 1
        tally.by_version[version] += 1
        tally.last_answer[version] = time.time()
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            tally.errors[version] += 1
            tally.first_error.setdefault(version, time.time())
        elif answer.status >= HTTPStatus.BAD_REQUEST:
            tally.rejected[answer.status] += 1
        else:
            tally.latencies_ms.append((time.perf_counter() - start) * 1000)
            self._read(json.loads(body)["predictions"])

    def _read(self, predictions: list[dict[str, Any]]) -> None:
        tally = self.tally
        tally.rows += len(predictions)
        for prediction in predictions:
            if prediction["anomaly"]:
                tally.anomalies += 1
                if tally.explained is None and prediction.get("explanation"):
                    tally.explained = prediction


def with_a_silent_network(batch: list[Row]) -> list[Row]:
    """Return the batch with its first row as a machine sends it whose network is silent: a valid row with 0 Mbps."""
    cpu, memory, _ = batch[0]
    return [[cpu, memory, 0.0], *batch[1:]]

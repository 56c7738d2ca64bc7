"""Users: a steady rate of requests, half of them over connections that are kept, half over a fresh one each.

    python users.py URL RATE

Sends until standard input is closed, and never waits for an answer before it sends the next request; then prints one
JSON object. A request is lost when no HTTP answer came; nothing is sent twice.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any

import aiohttp

TIMEOUT = aiohttp.ClientTimeout(total=60)
KEPT = 24
"""Connections that are kept, at most."""
BODY = json.dumps({"rows": [[3.1, 2.2, 4.0]]}).encode()
HEADERS = {"Content-Type": "application/json"}


class Tally:
    """What users got."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.reasons: list[str] = []
        self.answers: Counter[str] = Counter()
        """By version and status."""
        self.milliseconds: list[float] = []
        self.began = time.time()

    def as_json(self) -> dict[str, Any]:
        ordered = sorted(self.milliseconds) or [0.0]
        spread = {f"p{p}": ordered[min(len(ordered) - 1, len(ordered) * p // 100)] for p in (50, 95, 99)}
        return {
            "seconds": time.time() - self.began,
            "sent": dict(self.sent),
            "lost": dict(self.lost),
            "reasons": self.reasons[:20],
            "answers": dict(self.answers),
            "milliseconds": spread | {"max": ordered[-1]},
        }


async def ask(session: aiohttp.ClientSession, url: str, kind: str, tally: Tally, due: float) -> None:
    tally.sent[kind] += 1
    try:
        async with session.post(url, data=BODY, headers=HEADERS) as answer:
            await answer.read()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        tally.lost[kind] += 1
        tally.reasons.append(f"{time.time():.3f} {kind}: {type(error).__name__}: {error}")
        return
    tally.answers[f"{answer.headers.get('x-anomaly-version', '?')} {answer.status}"] += 1
    tally.milliseconds.append((time.perf_counter() - due) * 1000)


async def run(url: str, rate: float) -> Tally:
    tally, closed = Tally(), asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, closed.set)
    kept, fresh = aiohttp.TCPConnector(limit=KEPT), aiohttp.TCPConnector(limit=0, force_close=True)
    requests: set[asyncio.Task[None]] = set()
    async with (
        aiohttp.ClientSession(connector=kept, timeout=TIMEOUT) as keeping,
        aiohttp.ClientSession(connector=fresh, timeout=TIMEOUT) as opening,
    ):
        due = time.perf_counter()
        while not closed.is_set():
            for session, kind in ((keeping, "kept"), (opening, "fresh")):
                request = asyncio.create_task(ask(session, url, kind, tally, due))
                requests.add(request)
                request.add_done_callback(requests.discard)
                due += 1 / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await asyncio.gather(*requests)
    return tally


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(sys.argv[1], float(sys.argv[2]))).as_json()))

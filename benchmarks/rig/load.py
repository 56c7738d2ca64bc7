"""Generate load: closed loops by Debian's wrk, else by a client of ours; an open loop at a fixed rate by ours.

A closed loop sends the next request of a connection when the last one is answered: it finds the throughput. An open
loop sends on schedule, whatever the server does, and counts latency from the moment when a request *should* have been
sent, so that a server that stalls, or a generator that is late, makes the figures worse and not better.
"""

import ctypes
import gc
import json
import math
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

WRK = shutil.which("wrk")
GENERATOR = "wrk" if WRK else "benchmarks/rig/load.py"
PATIENCE = 30.0
"""Seconds without any answer after which a run is given up."""
SPINNING = 100e-6
"""Seconds before a request is due from which an open loop sleeps no more: to be woken takes half of that."""
_PR_SET_TIMERSLACK = 29
_LUA = """
wrk.method = "POST"
wrk.path = %(path)s
wrk.headers["Content-Type"] = "application/json"
wrk.body = %(body)s
done = function(summary, latency)
  local failed = summary.errors
  io.write(string.format(
    '\\n{"n": %%d, "seconds": %%f, "p50": %%f, "p95": %%f, "p99": %%f, "failed": %%d}\\n', summary.requests,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3,
    failed.status + failed.connect + failed.read + failed.write + failed.timeout))
end
"""


class LoadError(Exception):
    """Say why a figure cannot be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request, to be sent again and again."""

    address: str
    port: int
    path: str
    body: bytes

    def raw(self) -> bytes:
        """Return it as bytes of HTTP/1.1."""
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: {self.address}:{self.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(self.body)}\r\n\r\n"
        )
        return head.encode() + self.body


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a run found; latencies in milliseconds."""

    n: int
    seconds: float
    p50: float
    p95: float
    p99: float
    failed: int
    late: float = 0.0
    """How late the generator sent, 99th percentile, milliseconds; part of the latencies of an open loop."""

    @property
    def rate(self) -> float:
        """Return good answers a second."""
        return (self.n - self.failed) / self.seconds


def closed_loop(request: Request, *, connections: int, seconds: int) -> Load:
    """Send as fast as answers come. Raises LoadError if there are none."""
    if WRK is None:
        return own_closed_loop(request, connections=connections, seconds=seconds)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_LUA % {"path": json.dumps(request.path), "body": _lua_string(request.body)})
        script.flush()
        target = f"http://{request.address}:{request.port}"
        command = [WRK, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", script.name, target]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + PATIENCE)
    try:
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise LoadError(f"wrk: {(done.stdout + done.stderr).strip()[-300:]}") from None
    if found["n"] == 0:
        raise LoadError("wrk: no answer")
    return Load(**found)


def own_closed_loop(request: Request, *, connections: int, seconds: float) -> Load:
    """Do the same without wrk."""
    raw, latencies, failed = request.raw(), [], 0
    with _quiet(), _connected(request, connections) as pool:
        begun = time.perf_counter()
        for one in pool:
            one.send(raw, time.perf_counter())
        while (now := time.perf_counter()) < begun + seconds:
            for one in _answered(pool, now + PATIENCE):
                latencies.append(time.perf_counter() - one.intended)
                failed += one.status != 200
                one.send(raw, time.perf_counter())
        elapsed = time.perf_counter() - begun
    return _summary(latencies, elapsed, failed)


@dataclass(slots=True)
class _Paced:
    latencies: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    failed: int = 0
    seconds: float = 0.0


def open_loop(requests: Sequence[Request], *, rate: float, seconds: float, connections: int = 16) -> Load:
    """Send `requests` in turn at a fixed rate, evenly spaced; latency counts from the intended time.

    Raises LoadError when the server closes a connection or falls silent.
    """
    paced = _paced(requests, rate=rate, total=int(rate * seconds), connections=connections)
    return _summary(paced.latencies, paced.seconds, paced.failed, paced.late)


def alternating(a: Request, b: Request, *, pairs: int, pause: float) -> tuple[list[float], list[float]]:
    """Send two requests in turn over one connection, `pause` seconds after each answer; return milliseconds of each.

    Raises LoadError when one of them is not answered with 200.
    """
    taken: tuple[list[float], list[float]] = ([], [])
    with _quiet(), _connected(a, 1) as (one,):
        for _ in range(pairs):
            for request, latencies in zip((a, b), taken, strict=True):
                begun = time.perf_counter()
                one.send(request.raw(), begun)
                while not _answered([one], time.perf_counter() + PATIENCE):
                    pass
                latencies.append((time.perf_counter() - begun) * 1e3)
                if one.status != 200:
                    raise LoadError(f"answered with {one.status}")
                time.sleep(pause)
    return taken


def _paced(requests: Sequence[Request], *, rate: float, total: int, connections: int) -> _Paced:
    raws, found, following = [request.raw() for request in requests], _Paced(), 0
    with _quiet(), _connected(requests[0], connections) as pool:
        idle: deque[_Connection] = deque(pool)
        busy: set[_Connection] = set()
        begun = time.perf_counter() + 0.01
        while len(found.latencies) < total:
            now = time.perf_counter()
            due = begun + following / rate
            if following < total and now >= due and idle:
                one = idle.popleft()
                one.send(raws[following % len(raws)], due)
                found.late.append(now - due)
                busy.add(one)
                following += 1
                continue
            until = max(now, due - SPINNING) if following < total and idle else now + PATIENCE
            for one in _answered(busy, until) if busy else _nap(until - now):
                found.latencies.append(time.perf_counter() - one.intended)
                found.failed += one.status != 200
                busy.discard(one)
                idle.append(one)
        found.seconds = time.perf_counter() - begun
    return found


def _summary(latencies: list[float], seconds: float, failed: int, late: Sequence[float] = (0.0,)) -> Load:
    return Load(
        n=len(latencies),
        seconds=seconds,
        p50=percentile(latencies, 50) * 1e3,
        p95=percentile(latencies, 95) * 1e3,
        p99=percentile(latencies, 99) * 1e3,
        failed=failed,
        late=percentile(late, 99) * 1e3,
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` of the values do not exceed. Raises LoadError without any."""
    if not values:
        raise LoadError("no answer")
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


@dataclass(slots=True, eq=False)
class _Connection:
    socket: socket.socket
    intended: float = 0.0
    status: int = 0
    received: bytearray = field(default_factory=bytearray)

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, raw: bytes, intended: float) -> None:
        self.intended = intended
        self.socket.sendall(raw)

    def complete(self) -> bool:
        """Read what has come and say whether it is a whole answer."""
        some = self.socket.recv(262_144)
        if not some:
            raise LoadError("the server closed a connection")
        self.received += some
        head, separator, _ = self.received.partition(b"\r\n\r\n")
        if not separator:
            return False
        lower = head.lower()
        place = lower.find(b"content-length:")
        if place < 0:
            raise LoadError("an answer without Content-Length")
        length = int(lower[place + 15 :].split(b"\r\n", 1)[0])
        if len(self.received) < len(head) + 4 + length:
            return False
        self.status = int(head[9:12])
        self.received.clear()
        return True


def _answered(busy: Any, until: float) -> list[_Connection]:
    """Wait until a deadline and return those whose answer is complete.

    `select` alone waits with microseconds; the others of its kind round to milliseconds.
    """
    wait = until - time.perf_counter()
    ready, _, _ = select.select(list(busy), [], [], max(0.0, wait))
    if not ready and wait >= PATIENCE / 2:
        raise LoadError(f"no answer within {PATIENCE:g} s")
    return [one for one in ready if one.complete()]


def _nap(seconds: float) -> tuple[()]:
    time.sleep(max(0.0, seconds))
    return ()


@contextmanager
def _connected(request: Request, connections: int) -> Iterator[list[_Connection]]:
    pool = []
    try:
        for _ in range(connections):
            one = socket.create_connection((request.address, request.port), timeout=PATIENCE)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pool.append(_Connection(one))
        yield pool
    finally:
        for one in pool:
            one.socket.close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the garbage collector and the kernel's timer slack (50 microseconds) out of the figures."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _lua_string(text: bytes) -> str:
    """Quote for Lua: JSON holds no line breaks here, and Lua's long brackets take everything else as it is."""
    return f"[==[{text.decode()}]==]"

"""Record what this machine does: CPU %, memory % and network Mbps, at a fixed rate, as CSV."""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import psutil

from anomaly_detector.train.load import scripted_load

SETTLE_SECONDS = 2.0  # until a scripted load runs at its level
MOST_HERTZ = 50.0  # the counters of the kernel move no faster
COLUMNS = ("cpu_percent", "memory_percent", "network_mbps")
UNITS = {"cpu_percent": "%", "memory_percent": "%", "network_mbps": "Mbps"}
DESCRIPTIONS = {
    "cpu_percent": "busy share of all cores",
    "memory_percent": "share of memory that is not available",
    "network_mbps": "bytes sent and received over all interfaces",
}


def _bytes() -> int:
    counters = psutil.net_io_counters()
    return int(counters.bytes_sent + counters.bytes_recv)


def samples(*, hertz: float) -> Iterator[tuple[datetime, float, float, float]]:
    """Yield one row per tick, for ever: time, CPU %, memory %, network Mbps (both directions, all interfaces).

    A tick that comes late is taken late, and the rate of the network is over the time that really passed.
    """
    psutil.cpu_percent(interval=None)
    sent, then = _bytes(), time.monotonic()
    tick = then
    while True:
        tick += 1 / hertz
        time.sleep(max(0.0, tick - time.monotonic()))
        now, total = time.monotonic(), _bytes()
        mbps = (total - sent) * 8 / 1e6 / (now - then)
        sent, then = total, now
        memory = psutil.virtual_memory()
        used = 100 * (1 - memory.available / memory.total)
        yield datetime.now(UTC), psutil.cpu_percent(interval=None), used, mbps


def record(path: Path, *, rows: int, hertz: float = 5.0, scenario: str | None = None, seed: int = 0) -> None:
    """Write `rows` rows with a header to `path`, under a scripted load if a scenario is named.

    Raises KeyError for an unknown scenario and OSError when the file cannot be written.
    """
    with path.open("w") as out, scripted_load(scenario, seed=seed) if scenario else nullcontext():
        if scenario:
            time.sleep(SETTLE_SECONDS)
        out.write("time," + ",".join(COLUMNS) + "\n")
        for number, (at, cpu, memory, mbps) in enumerate(samples(hertz=hertz), start=1):
            out.write(f"{at.isoformat(timespec='milliseconds')},{cpu:.1f},{memory:.3f},{mbps:.4f}\n")
            out.flush()
            if number >= rows:
                return

"""Put a scripted, repeatable load on this machine, so that a recording of it has something to show.

The load is real: processes that burn CPU, memory that is touched, bytes that cross the loopback interface.
"""

import multiprocessing
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ctypes import c_bool, c_double
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from typing import Any

CHUNK = 32 * 2**20
PACKET = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One stretch of load: how long it lasts (seconds) and how much of each resource it takes."""

    name: str
    seconds: float
    cpu: float
    """Share of all cores that the load burns, 0 to 1."""
    memory_mib: float
    """Memory held, MiB."""
    network_mbps: float
    """Megabits per second through the loopback interface, counted in both directions."""


SCENARIOS: dict[str, tuple[Phase, ...]] = {
    "steady": (
        Phase(name="idle", seconds=18, cpu=0.06, memory_mib=200, network_mbps=4),
        Phase(name="requests", seconds=20, cpu=0.35, memory_mib=900, network_mbps=60),
        Phase(name="batch", seconds=14, cpu=0.65, memory_mib=2200, network_mbps=20),
        Phase(name="sync", seconds=8, cpu=0.30, memory_mib=1200, network_mbps=240),
    ),
    "shifted": (
        Phase(name="migration", seconds=20, cpu=0.55, memory_mib=5200, network_mbps=420),
        Phase(name="rebuild", seconds=20, cpu=0.85, memory_mib=6400, network_mbps=180),
        Phase(name="verify", seconds=20, cpu=0.45, memory_mib=5800, network_mbps=320),
    ),
}


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _burn(share: "Synchronized[float]", stop: "Synchronized[bool]") -> None:
    _leave_interrupts_to_the_parent()
    period = 0.04
    while not stop.value:
        start = time.perf_counter()
        busy_until = start + period * share.value
        while time.perf_counter() < busy_until:
            sum(range(500))
        time.sleep(max(0.0, start + period - time.perf_counter()))


def _hold(target_mib: "Synchronized[float]", stop: "Synchronized[bool]") -> None:
    _leave_interrupts_to_the_parent()
    held: list[bytearray] = []
    while not stop.value:
        want = int(target_mib.value * 2**20 // CHUNK)
        if len(held) < want:
            held.append(bytearray(b"\x01" * CHUNK))
        elif len(held) > want:
            held.pop()
        time.sleep(0.02)


def _transmit(mbps: "Synchronized[float]", stop: "Synchronized[bool]") -> None:
    _leave_interrupts_to_the_parent()
    sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sink.bind(("127.0.0.1", 0))
    sink.settimeout(0.2)

    def drain() -> None:
        while not stop.value:
            with suppress(TimeoutError):
                sink.recv(65536)

    threading.Thread(target=drain, daemon=True).start()
    source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    period, owed = 0.02, 0.0
    while not stop.value:
        # Every loopback byte is counted twice: once sent, once received.
        owed += mbps.value * 1e6 / 8 / 2 * period
        for _ in range(max(1, int(owed // PACKET))):  # at least one packet: the line is never quite silent
            source.sendto(b"\x00" * (PACKET if owed >= PACKET else 256), sink.getsockname())
        owed %= PACKET
        time.sleep(period)


@contextmanager
def scripted_load(scenario: str, *, seed: int) -> Iterator[None]:
    """Run the phases of a scenario over and over in the background while the body runs.

    Each round, each level is drawn anew within 20 % of the script from `seed`, as no two days are the same.
    Raises KeyError for an unknown scenario.
    """
    phases = SCENARIOS[scenario]
    context: Any = multiprocessing.get_context("spawn")
    stop = context.Value(c_bool)
    cpu, memory, network = (context.Value(c_double, 0.0) for _ in range(3))
    workers = [context.Process(target=_burn, args=(cpu, stop), daemon=True) for _ in range(multiprocessing.cpu_count())]
    workers.append(context.Process(target=_hold, args=(memory, stop), daemon=True))
    workers.append(context.Process(target=_transmit, args=(network, stop), daemon=True))
    finished = threading.Event()

    def conduct() -> None:
        draw = random.Random(seed)
        while not finished.is_set():
            for phase in phases:
                cpu.value = min(1.0, phase.cpu * draw.uniform(0.8, 1.2))
                memory.value = phase.memory_mib * draw.uniform(0.8, 1.2)
                network.value = phase.network_mbps * draw.uniform(0.8, 1.2)
                if finished.wait(phase.seconds):
                    return

    for worker in workers:
        worker.start()
    conductor = threading.Thread(target=conduct, daemon=True)
    conductor.start()
    try:
        yield
    finally:
        finished.set()
        stop.value = True
        conductor.join()
        for worker in workers:
            worker.join(timeout=2)
            worker.terminate()

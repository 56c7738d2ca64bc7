"""One pod with everything on: latency at a steady 500 requests a second, memory, and time until ready.

    .venv/bin/python benchmarks/run.py under_load
    .venv/bin/python benchmarks/under_load.py [--quick]

The pod is active. Drift is watched, anomalies are explained in the answer, every request is copied to a pod of the
other color and the answers are compared, and a report goes over TLS to an API server once a second (once a minute is
the default). One request is one row of the demo's recording through `POST /predict`. Requests leave at a fixed rate
whatever the server does, and latency counts from the moment when each *should* have left. What was meant to be on is
checked afterwards, or there is no figure.

Also: what an explanation adds to an answer (an anomalous row against a normal one, in turn, one client); resident set
after the load; seconds from the start of the process until `/ready` says yes, the model's artifact in the cache.
`BENCH_SECONDS` sets the length of the load (10 seconds unless said otherwise).
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

sys.path.insert(0, str(Path(__file__).parent))
from rig import ending, model, pods
from rig.load import Request, alternating, open_loop, percentile
from rig.pods import Detector

RATE = 500
MIB = 2**20
GOALS = {"p50": 0.3, "p99": 1.0}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    seconds: float = float(os.environ.get("BENCH_SECONDS", "10"))
    warm_up: float = 2.0
    pairs: int = 1000
    starts: int = 3


QUICK = Size(seconds=1.5, warm_up=0.5, pairs=20, starts=1)


def measurements(size: Size | None = None) -> list[dict[str, Any]]:
    """Return the measurements in the form of bench-report.json."""
    size = size or Size()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        place = Path(folder)
        saved = model.save(place)
        other = running.enter_context(pods.started(pods.prepared(saved, place / "other")))
        pod = pods.prepared(saved, place / "ours")
        pod.environment |= {"CPU_WATCH_GREEN_SERVICE_HOST": other.address, "CPU_WATCH_GREEN_SERVICE_PORT": "8082"}
        pod.environment |= running.enter_context(pods.report_sink(place / "sink"))
        pod.write_config({"heartbeatSeconds": 1})
        seconds = [time_until_ready(pod) for _ in range(size.starts)]
        running.enter_context(pods.started(pod))
        asyncio.run(activate(pod))
        return [
            steady_load(pod, saved, size),
            explanation_cost(pod, saved, size),
            memory(pod),
            {
                "name": "from the start of the process until ready, warm cache",
                "unit": "s",
                "value": statistics.median(seconds),
                "n": size.starts,
                "goal": 3.0,
            },
        ]


def steady_load(pod: Detector, saved: model.Saved, size: Size) -> dict[str, Any]:
    """Return the latency at the fixed rate, and what was going on meanwhile."""
    requests = [predict(pod, row) for row in saved.rows[:1000]]
    open_loop(requests, rate=RATE, seconds=size.warm_up)
    load = open_loop(requests, rate=RATE, seconds=size.seconds)
    return {
        "name": f"POST /predict, one row, {RATE} requests/s from the intended send time, everything on",
        "unit": "ms",
        "value": load.p50,
        "p50": load.p50,
        "p95": load.p95,
        "p99": load.p99,
        "n": load.n,
        "failed": load.failed,
        "generatorLateP99": load.late,
        "goal": GOALS,
        "meanwhile": meanwhile(pod),
    }


def predict(pod: Detector, row: Any) -> Request:
    body = json.dumps({"rows": [row.tolist()]}).encode()
    return Request(address=pod.address, port=pods.PORT, path="/predict", body=body)


def meanwhile(pod: Detector) -> dict[str, int]:
    """Return what ran beside the requests; raises RuntimeError if something that should have did not."""
    stats = asyncio.run(ask_stats(pod))
    with urllib.request.urlopen(pod.url(9090, "/metrics")) as answer:
        metrics = dict(
            line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line and not line.startswith("#")
        )
    found = {
        "driftChecks": stats["drift"]["checks"],
        "copiesAnswered": stats["shadow"]["answered"],
        "copiesLost": sum(stats["shadow"][outcome] for outcome in ("failed", "refused", "dropped")),
        "anomaliesExplained": int(float(metrics['anomaly_anomalies_total{source="user"}'])),
        "reportsWritten": int(float(metrics["anomaly_reports_written_total"])),
    }
    if off := [name for name, value in found.items() if not value and name != "copiesLost"]:
        raise RuntimeError(f"not everything was on: {', '.join(off)} 0")
    return found


async def activate(pod: Detector) -> None:
    async with aiohttp.ClientSession() as session:
        await pod.put_role(session, "active", 1, shadowPercent=100)


async def ask_stats(pod: Detector) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session:
        found: dict[str, Any] = await pod.stats(session)
        return found


def explanation_cost(pod: Detector, saved: model.Saved, size: Size) -> dict[str, Any]:
    """Return by how much the answer to an anomalous row comes later than that to a normal one, medians."""
    odd, normal = (saved.rows[saved.anomalous == kind][0] for kind in (True, False))
    taken = alternating(predict(pod, odd), predict(pod, normal), pairs=size.pairs, pause=1 / RATE)
    anomalous, usual = (percentile(some, 50) for some in taken)
    width = saved.rows.shape[1]
    return {
        "name": f"what an explanation adds to an answer, {width} features, everything on",
        "unit": "ms",
        "value": anomalous - usual,
        "n": size.pairs,
        "goal": 0.2,
        "anomalousP50": anomalous,
        "normalP50": usual,
    }


def memory(pod: Detector) -> dict[str, Any]:
    """Return the resident set of the pod's process and its children."""
    process = psutil.Process(pod.process.pid)
    resident = sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
    return {"name": "resident set after the load, everything on", "unit": "MiB", "value": resident / MIB, "goal": 150.0}


def time_until_ready(pod: Detector) -> float:
    """Start a pod, wait for its readiness, end it, and return the seconds."""
    begun = time.perf_counter()
    pod.start()
    try:
        while not is_ready(pod):
            time.sleep(0.01)
        return time.perf_counter() - begun
    finally:
        pod.stop()


def is_ready(pod: Detector) -> bool:
    if pod.process.poll() is not None:
        raise RuntimeError(f"the pod ended: {pod.log.read_text()[-500:]}")
    try:
        with urllib.request.urlopen(pod.url(pods.PORT, "/ready"), timeout=1):
            return True
    except OSError:  # nobody listens yet, or 503: still loading
        return False


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a second or two: says whether it works, not how fast")
    ending.unwind_when_told()
    print(json.dumps(measurements(QUICK if parser.parse_args().quick else None), indent=1))

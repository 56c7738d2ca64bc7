"""Throughput and latency of the same forest behind each server, on this machine, in this run.

    .venv/bin/python benchmarks/run.py serving

MLServer, KServe's Python server and `mlflow models serve` run in environments of their own (rig/environments.py), with
their settings as they come; ours runs as a pod does, explanations and drift on. All are up at the same time and take
turns, so that they meet the same machine; each answers with scikit-learn's own labels before it is measured. One
connection is one client, closed loop: the next request goes out when the answer is there. `value` and the peers'
values are requests a second, `p50`, `p95`, `p99` our latency in milliseconds, `peerLatencies` theirs. A peer that
cannot be installed or does not serve is in `missingPeers` with the reason.

`BENCH_SECONDS` is the length of one turn (whole seconds, 2 unless said otherwise).
"""

import json
import os
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from rig import ending, environments, model, pods, servers
from rig.load import GENERATOR, Load, LoadError, Request, closed_loop
from rig.servers import Target

SECONDS = max(1, int(os.environ.get("BENCH_SECONDS", "2")))
ROUNDS = 2
ROWS, CLIENTS = (1, 256), (1, 16)


def measurements() -> list[dict[str, Any]]:
    """Return the measurements in the form of bench-report.json."""
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        place = Path(folder)
        saved = model.save(place)
        pod = running.enter_context(pods.started(pods.prepared(saved, place / "ours")))
        peers = []
        for name, start in servers.PEERS.items():
            try:
                peers.append(running.enter_context(start(saved, place / name)))
            except environments.MissingPeerError as error:
                missing[name] = str(error)
        found = []
        for protocol, own in pods.targets(pod).items():
            speaking = [own, *(peer for peer in peers if peer.path.startswith(own.path[:4]))]
            for rows in ROWS:
                for clients in CLIENTS:
                    loads, failed = take_turns(speaking, saved.rows[:rows], clients)
                    one = compared(f"{rows} rows, {clients} clients, {protocol}", loads)
                    found.append(one | ({"missingPeers": missing | failed} if missing | failed else {}))
        found.append(ceiling(running.enter_context(servers.idle(place)), saved, found))
    return found


def take_turns(targets: list[Target], rows: Any, clients: int) -> tuple[dict[str, list[Load]], dict[str, str]]:
    """Measure each target `ROUNDS` times, in turn, after a second to warm up; also return why peers dropped out.

    Raises LoadError when ours, the first, does not answer well.
    """
    loads: dict[str, list[Load]] = {target.name: [] for target in targets}
    failed: dict[str, str] = {}
    for turn in range(ROUNDS + 1):
        for target in targets:
            if target.name in failed:
                continue
            try:
                load = all_answered(target.request(rows), clients, SECONDS if turn else 1)
            except LoadError as error:
                if target is targets[0]:
                    raise
                failed[target.name] = str(error)
            else:
                loads[target.name] += [load] if turn else []
    return {name: some for name, some in loads.items() if name not in failed}, failed


def all_answered(request: Request, clients: int, seconds: int) -> Load:
    """Return a closed loop's figures; raises LoadError if a request failed."""
    load = closed_loop(request, connections=clients, seconds=seconds)
    if load.failed:
        raise LoadError(f"{load.failed} of {load.n} requests failed")
    return load


def compared(name: str, loads: dict[str, list[Load]]) -> dict[str, Any]:
    """Return the measurement of one kind of request, the first target's against the others'."""
    rates = {target: statistics.mean(load.rate for load in some) for target, some in loads.items()}
    latencies = {
        target: {key: statistics.mean(getattr(load, key) for load in some) for key in ("p50", "p95", "p99")}
        for target, some in loads.items()
    }
    (own, rate), *others = rates.items()
    return {
        "name": f"serve {name}",
        "unit": "requests/s",
        "value": rate,
        **latencies[own],
        "n": sum(load.n for load in loads[own]),
        "peers": dict(others),
        "ratio": {peer: rate / theirs for peer, theirs in others},
        "peerLatencies": {peer: latencies[peer] for peer, _ in others},
    }


def ceiling(target: Target, saved: model.Saved, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the generator itself manages: it must be well above what is measured with it."""
    load = closed_loop(target.request(saved.rows[:1]), connections=16, seconds=SECONDS)
    most = max(one["value"] for one in found)
    return {
        "name": f"the load generator ({GENERATOR}) against a server that does nothing, 16 clients",
        "unit": "requests/s",
        "value": load.rate,
        "p50": load.p50,
        "p95": load.p95,
        "p99": load.p99,
        "n": load.n,
        "peers": {"the most that was measured with it": most},
        "ratio": {"the most that was measured with it": load.rate / most},
    }


if __name__ == "__main__":
    ending.unwind_when_told()
    print(json.dumps(measurements(), indent=1))

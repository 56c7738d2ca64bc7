"""Run every benchmark and write `bench-report.json`.

    .venv/bin/python benchmarks/run.py [NAME ...]

A benchmark is a module of this folder with a function `measurements()` that returns a list of
`{name, unit, value, p50, p95, p99, n, peers: {name: value}, ratio: {name: times better}}`; what does not apply is left
out. More keys: `goal`, the most that is wanted, `missingPeers`, those that could not be measured with the reason. What
each figure means is in docs/benchmarks.md.

Each runs in a process of its own, one after the other, so that none meets what another left in memory. One that fails
is named in the report and makes the exit status 1.
"""

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from rig import ending

FOLDER = Path(__file__).parent
REPORT = FOLDER.parent / "bench-report.json"


def machine() -> dict[str, Any]:
    """Describe where the numbers were measured."""
    cpu = "unknown"
    if (info := Path("/proc/cpuinfo")).is_file():
        models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = models[0] if models else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def names() -> list[str]:
    return sorted(p.stem for p in FOLDER.glob("*.py") if "def measurements(" in p.read_text() and p.stem != "run")


def measure(name: str) -> list[dict[str, Any]]:
    """Run one benchmark in a process of its own."""
    said = ending.run([sys.executable, __file__, "--only", name])
    found: list[dict[str, Any]] = json.loads(said.splitlines()[-1])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(names())}")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    given = parser.parse_args()
    ending.unwind_when_told()
    if given.only:
        print(json.dumps(importlib.import_module(given.only).measurements()))
        return 0
    report: dict[str, Any] = {"time": datetime.now(UTC).isoformat(), "machine": machine(), "measurements": []}
    failed = []
    for name in given.names or names():
        print(f"{name} ...", flush=True)
        try:
            measured = measure(name)
        except (subprocess.CalledProcessError, ValueError, IndexError) as error:
            failed.append({"benchmark": name, "error": str(error)})
            continue
        for one in measured:
            ratio = ", ".join(f"{times:.3g} x {peer}" for peer, times in one.get("ratio", {}).items())
            print(f"  {one['name']}: {one['value']:.4g} {one['unit']}{f' ({ratio})' if ratio else ''}")
        for peer, reason in {p: r for one in measured for p, r in one.get("missingPeers", {}).items()}.items():
            print(f"  not measured: {peer}: {reason}")
        report["measurements"] += measured
    report["failed"] = failed
    REPORT.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written to {REPORT}" + "".join(f"\nfailed: {one['benchmark']}: {one['error']}" for one in failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

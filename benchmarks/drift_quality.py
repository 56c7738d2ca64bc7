"""False alarms and power of the drift verdict on streams whose truth is known, beside textbook rules and river.

    .venv/bin/python benchmarks/drift_quality.py [--runs 5]

Each run draws a training series of 15,500 rows and 3 features, a fresh series of 12,500 rows of the same kind, and the
same series with one of its features moved. Windows of 500 rows, a check every 250. Two numbers for each:
- false alarms: checks at which drift was said on the fresh series, per cent;
- power: runs in which it was said within 5 windows after the move, per cent.
evidently runs in an environment of its own (rig/environments.py); it and river's KSWIN, being slow, in the first two
runs only. alibi-detect is not measured: its licence is not an open one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river import drift as river_drift

from anomaly_detector.config import DriftConfig
from anomaly_detector.drift import DriftDetector, calibrate, systematic
from anomaly_detector.drift.statistics import DEFAULT_THRESHOLDS, Reference, compare
from anomaly_detector.drift.voting import votes_of

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit" / "detector_math"))
sys.path.insert(0, str(Path(__file__).parent))
import streams
from rig import environments

Floats = NDArray[np.float64]
Decide = Callable[[Floats, Floats], list[bool]]
WINDOW, STEP = 500, 250
FEW_RUNS = 2
"""For methods that take seconds a run."""
SLOW = ("river KSWIN",)
TRAINING, FRESH, PROMPT = 15_500, 12_500, 10
NAMES = ("a", "b", "c")
STREAMS: dict[str, Callable[[int, int], Floats]] = {
    "independent": lambda count, seed: streams.autoregressive(count, 3, phi=0.0, seed=seed),
    "AR(1) 0.8": lambda count, seed: streams.autoregressive(count, 3, phi=0.8, seed=seed),
    "AR(1) 0.95": lambda count, seed: streams.autoregressive(count, 3, phi=0.95, seed=seed),
    "load phases": lambda count, seed: streams.phases(count, 3, seed=seed),
}
MOVES = (1.0, 2.0)
"""Standard deviations by which one of three features moves."""


def watching(training: Floats) -> DriftDetector:
    """Return a detector that is calibrated on a training series."""
    scores, sample = streams.score_of(training), systematic(len(training), 2000)
    return DriftDetector(
        NAMES,
        DriftConfig(window=WINDOW),
        reference=training[sample],
        reference_scores=scores[sample],
        calibration=calibrate(training, scores, window=WINDOW, features=NAMES, rows_per_second=5.0),
    )


def ours(training: Floats, rows: Floats, pods: int = 1) -> list[bool]:
    """Ask pods that see interleaved batches; the answer of a check is that of the pod that made it."""
    said = []
    batches = [rows[at : at + 8] for at in range(0, len(rows), 8)]
    for pod in range(pods):
        verdicts = streams.feed(watching(training), np.concatenate(batches[pod::pods]))
        said += [verdict.verdict == "drift" for verdict in verdicts]
    return said


def windows(training: Floats, rows: Floats) -> Iterator[list[tuple[Reference, Floats]]]:
    sample = systematic(len(training), 2000)
    references = [Reference.of(column[sample]) for column in training.T]
    for start in range(0, len(rows) - WINDOW + 1, STEP):
        yield list(zip(references, rows[start : start + WINDOW].T, strict=True))


def textbook(training: Floats, rows: Floats) -> list[bool]:
    """Say drift when three of the five tests do at their default thresholds, for any feature."""
    return [
        any(len(votes_of(compare(r, w), DEFAULT_THRESHOLDS)[1]) >= 3 for r, w in columns)
        for columns in windows(training, rows)
    ]


def ks_bonferroni(training: Floats, rows: Floats) -> list[bool]:
    """Say drift when a Kolmogorov-Smirnov test does at 5 % divided by the features."""
    return [any(compare(r, w)["ks"] < 0.05 / len(columns) for r, w in columns) for columns in windows(training, rows)]


def river_rule(make: Callable[[], Any]) -> Decide:
    """Say drift in an interval in which river's detector of any feature does, after it has seen the training end."""

    def said(training: Floats, rows: Floats) -> list[bool]:
        detectors = [make() for _ in NAMES]
        for row in training[-4 * WINDOW :]:
            for detector, value in zip(detectors, row, strict=True):
                detector.update(value)
        flags = np.zeros(len(rows), dtype=bool)
        for i, row in enumerate(rows):
            for detector, value in zip(detectors, row, strict=True):
                detector.update(value)
                flags[i] |= detector.drift_detected
        return [bool(flags[at - STEP : at].any()) for at in range(STEP, len(rows) + 1, STEP)]

    return said


METHODS: Mapping[str, Decide] = {
    "ours": ours,
    "ours, 3 pods interleaved": lambda training, rows: ours(training, rows, pods=3),
    "3 of 5, default thresholds": textbook,
    "KS, Bonferroni": ks_bonferroni,
    "river ADWIN": river_rule(river_drift.ADWIN),
    "river KSWIN": river_rule(lambda: river_drift.KSWIN(alpha=0.0001, seed=0)),
}


class Evidently:
    """evidently's data drift preset at its defaults, asked window by window in its own environment.

    Raises MissingPeerError where it cannot be installed.
    """

    def __init__(self, running: ExitStack) -> None:
        command = [environments.python_of("evidently"), Path(__file__).parent / "rig" / "evidently_rule.py"]
        self._process = running.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        running.callback(self._process.kill)
        self._file = Path(running.enter_context(tempfile.TemporaryDirectory())) / "rows.npz"
        self._counts = cache(self._ask)

    def methods(self) -> Mapping[str, Decide]:
        """Return its rule for a whole data set, and the one that compares with ours: any column."""

        def at_least(columns: float) -> Decide:
            return lambda training, rows: [
                count >= columns for count in self._counts(training.tobytes(), rows.tobytes())
            ]

        return {
            "evidently, half of the columns (its default)": at_least(len(NAMES) / 2),
            "evidently, any column": at_least(1),
        }

    def _ask(self, training: bytes, rows: bytes) -> list[int]:
        known, stream = (np.frombuffer(some).reshape(-1, len(NAMES)) for some in (training, rows))
        starts = range(0, len(stream) - WINDOW + 1, STEP)
        windows = np.stack([stream[start : start + WINDOW] for start in starts])
        np.savez(self._file, reference=known[systematic(len(known), 2000)], windows=windows)
        pipe, answers = self._process.stdin, self._process.stdout
        if pipe is None or answers is None:
            raise environments.MissingPeerError("its process has no pipes")
        pipe.write(f"{self._file}\n")
        pipe.flush()
        if not (line := answers.readline()):
            raise environments.MissingPeerError("its process ended")
        counts: list[int] = json.loads(line)
        return counts


def table(name: str, runs: int, *, with_evidently: bool) -> list[dict[str, Any]]:
    """Return a row for each method on one kind of stream: per cent of false alarms, and of moves that were noticed."""
    few = min(runs, FEW_RUNS)
    with ExitStack() as running:
        methods = [(method, decide, few if method in SLOW else runs) for method, decide in METHODS.items()]
        if with_evidently:
            methods += [(method, decide, few) for method, decide in Evidently(running).methods().items()]
        return [{"stream": name} | judge(method, decide, STREAMS[name], count) for method, decide, count in methods]


def judge(method: str, decide: Decide, draw: Callable[[int, int], Floats], runs: int) -> dict[str, Any]:
    """Return what one method says of one kind of stream."""
    false, checks, noticed = 0, 0, dict.fromkeys(MOVES, 0)
    for seed in range(runs):
        training, fresh = draw(TRAINING, 2 * seed), draw(FRESH, 2 * seed + 1)
        said = decide(training, fresh)
        false, checks = false + sum(said), checks + len(said)
        prompt = fresh[: STEP * PROMPT * (3 if "pods" in method else 1)]
        for move in MOVES:
            moved = prompt + np.array([move * training[:, 0].std(), 0.0, 0.0])
            noticed[move] += any(decide(training, moved))
    power = {f"power {move:g} sd": 100 * n / runs for move, n in noticed.items()}
    return {"method": method, "runs": runs, "falseAlarms": 100 * false / checks, "checks": checks} | power


def measured(runs: int) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the table, and which peers could not be asked, with the reason.

    Nothing is timed here, so the streams are worked off on all cores.
    """
    missing: dict[str, str] = {}
    few = streams.autoregressive(WINDOW, len(NAMES), phi=0.0, seed=0)
    try:
        with ExitStack() as running:
            for decide in Evidently(running).methods().values():
                decide(few, few)
    except (environments.MissingPeerError, ValueError) as error:
        missing["evidently"] = str(error)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        asked = [pool.submit(table, name, runs, with_evidently=not missing) for name in STREAMS]
        return [row for one in asked for row in one.result()], missing


def long_runs(runs: int = 8, rows: int = 60_000) -> dict[str, tuple[int, int, int]]:
    """Return checks, checks with three votes by themselves, and confirmed ones, on long series without drift."""
    kinds = {
        "AR(1) 0.95": lambda count, seed: streams.autoregressive(count, 3, phi=0.95, seed=seed),
        "AR(1) 0.99": lambda count, seed: streams.autoregressive(count, 3, phi=0.99, seed=seed),
        "load phases": lambda count, seed: streams.phases(count, 3, seed=seed),
    }
    found = {}
    for name, draw in kinds.items():
        verdicts = []
        for seed in range(runs):
            training = draw(TRAINING, 2 * seed)
            verdicts += streams.feed(watching(training), draw(rows, 2 * seed + 1))
        single = sum(verdict.features[0].votes >= 3 for verdict in verdicts)
        found[name] = (len(verdicts), single, sum(verdict.verdict == "drift" for verdict in verdicts))
    return found


def measurements(runs: int = 5) -> list[dict[str, Any]]:
    """Return the table in the form of bench-report.json: one measurement a stream, the other methods as peers."""
    rows, missing = measured(runs)
    result = []
    for name in STREAMS:
        of = {row["method"]: row for row in rows if row["stream"] == name}
        for key in ("falseAlarms", *(f"power {move:g} sd" for move in MOVES)):
            peers = {method: row[key] for method, row in of.items() if method != "ours"}
            one = {"name": f"drift {key}, {name}", "unit": "%", "value": of["ours"][key], "n": runs, "peers": peers}
            result.append(one | ({"missingPeers": missing} if missing else {}))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    rows, missing = measured(parser.parse_args().runs)
    columns = ["stream", "method", "runs", "falseAlarms", *(f"power {move:g} sd" for move in MOVES)]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print(
            "| " + " | ".join(f"{row[c]:.1f} %" if isinstance(row[c], float) else str(row[c]) for c in columns) + " |"
        )
    for peer, reason in missing.items():
        print(f"not measured: {peer}: {reason}")
    print("\nLong series without drift:")
    for name, (checks, single, confirmed) in long_runs().items():
        print(f"{name}: {checks} checks, {single} with three votes, {confirmed} confirmed")


if __name__ == "__main__":
    main()

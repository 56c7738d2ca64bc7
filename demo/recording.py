"""The demo's data: a recording of a real machine, cut in order into training, replay and drift."""

import csv
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

HERE = Path(__file__).parent / "recordings"
FEATURES = ("cpu_percent", "memory_percent", "network_mbps")
TRAINING_SHARE = 0.7
Row = list[float]


def read(path: Path) -> list[Row]:
    """Return the rows of a recording in the order of FEATURES."""
    with path.open() as lines:
        return [[float(record[name]) for name in FEATURES] for record in csv.DictReader(lines)]


def batches(rows: list[Row], size: int) -> Iterator[list[Row]]:
    """Yield batches of consecutive rows in order, from the start again when the recording ends."""
    whole = len(rows) // size * size
    starts = cycle(range(0, whole, size))
    return (rows[start : start + size] for start in starts)


def split(source: Path, training: Path) -> list[Row]:
    """Write the first 70 % of `source` to `training` and return the rest as rows."""
    header, *lines = source.read_text().splitlines(keepends=True)
    cut = int(len(lines) * TRAINING_SHARE)
    training.write_text(header + "".join(lines[:cut]))
    return read(source)[cut:]

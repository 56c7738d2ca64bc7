"""A table of numbers in the order of time: what every source of training data becomes."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_detector.train.errors import DataError

Floats = NDArray[np.float64]
Times = NDArray[np.datetime64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """Rows of features, oldest first, with their times and labels where these are known."""

    source: str
    """Where it came from, for people."""
    features: tuple[str, ...]
    rows: Floats
    """Rows x features."""
    times: Times | None = None
    """UTC, microseconds."""
    labels: Flags | None = None
    """True where a row is known to be anomalous."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, which: slice | Flags | NDArray[np.intp]) -> "Table":
        """Return the rows that a slice, a mask or indices select."""
        return replace(
            self,
            rows=self.rows[which],
            times=None if self.times is None else self.times[which],
            labels=None if self.labels is None else self.labels[which],
        )

    def in_order(self) -> "Table":
        """Return the rows sorted by time, those that share one in the order they have; as they are without times."""
        return self if self.times is None else self.take(np.argsort(self.times, kind="stable"))

    def time_range(self) -> tuple[str, str] | None:
        """Return the first and the last time, RFC 3339, or none."""
        if self.times is None or not len(self):
            return None
        return f"{self.times[0]}Z", f"{self.times[-1]}Z"


def split(table: Table, *, holdout: float) -> tuple[Table, Table]:
    """Cut a table in time: the oldest rows to train on, the newest share `holdout` to judge on.

    Raises DataError when one of the two would have no rows.
    """
    cut = len(table) - round(len(table) * holdout)
    if not 0 < cut < len(table):
        raise DataError(
            f"{table.source}: {len(table)} rows cannot be cut into training rows and a hold-out of {holdout}"
        )
    return table.take(slice(None, cut)), table.take(slice(cut, None))


def fingerprint(table: Table) -> dict[str, Any]:
    """Return what identifies the data: `sha256`, `rows`, and `from` and `to` where times are known.

    The hash is over names, numbers and labels, so it depends neither on the file's format nor on the times.
    """
    hashed = hashlib.sha256("\n".join(table.features).encode())
    hashed.update(np.ascontiguousarray(table.rows, dtype="<f8").tobytes())
    if table.labels is not None:
        hashed.update(np.packbits(table.labels).tobytes())
    value: dict[str, Any] = {"sha256": hashed.hexdigest(), "rows": len(table)}
    if times := table.time_range():
        value |= {"from": times[0], "to": times[1]}
    return value


def quantiles(values: Floats, *, most: int) -> Floats:
    """Return the values ascending; where there are more than `most`, that many evenly spaced quantiles of them."""
    ordered = np.sort(values)
    return ordered if len(ordered) <= most else np.quantile(ordered, np.linspace(0, 1, most))

"""Scalers that stand before the forest in a Pipeline, without scikit-learn: the same operations in the same order."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Step:
    """One column-wise operation with its operands, scalars or one number a feature."""

    operation: str
    """`subtract`, `divide`, `multiply`, `add`: by first; `clip`: to first..second; `impute`: NaN becomes first."""
    first: Floats
    second: Floats

    def apply(self, rows: Floats) -> Floats:
        """Return the transformed rows; `rows` may be overwritten."""
        if self.operation == "subtract":
            rows -= self.first
        elif self.operation == "divide":
            rows /= self.first
        elif self.operation == "multiply":
            rows *= self.first
        elif self.operation == "add":
            rows += self.first
        elif self.operation == "clip":
            np.clip(rows, self.first, self.second, out=rows)
        elif self.operation == "impute":
            rows = np.where(np.isnan(rows), self.first, rows)
        else:
            raise ValueError(f"step: expected a known operation, got {self.operation!r}")
        return rows


def apply(steps: tuple[Step, ...], rows: Floats) -> Floats:
    """Run rows (n, features) through all steps; the given array stays as it is."""
    if not steps:
        return rows
    rows = rows.copy()
    for step in steps:
        rows = step.apply(rows)
    return rows


def steps_of(transformer: Any) -> tuple[Step, ...] | None:
    """Return a fitted scikit-learn transformer's work as steps, or None for one that is not known here."""
    reader = _READERS.get(type(transformer).__name__)
    if reader is None or not type(transformer).__module__.startswith("sklearn."):
        return None
    made: tuple[Step, ...] | None = reader(transformer)
    return made


def _step(operation: str, first: Any, second: Any = 0.0) -> Step:
    return Step(operation, np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64))


def _standard(scaler: Any) -> tuple[Step, ...]:
    mean = (_step("subtract", scaler.mean_),) if scaler.with_mean else ()
    return (*mean, _step("divide", scaler.scale_)) if scaler.with_std else mean


def _robust(scaler: Any) -> tuple[Step, ...]:
    center = (_step("subtract", scaler.center_),) if scaler.with_centering else ()
    return (*center, _step("divide", scaler.scale_)) if scaler.with_scaling else center


def _minmax(scaler: Any) -> tuple[Step, ...]:
    scaled = (_step("multiply", scaler.scale_), _step("add", scaler.min_))
    return (*scaled, _step("clip", *scaler.feature_range)) if scaler.clip else scaled


def _maxabs(scaler: Any) -> tuple[Step, ...]:
    scaled = (_step("divide", scaler.scale_),)
    return (*scaled, _step("clip", -1.0, 1.0)) if getattr(scaler, "clip", False) else scaled


def _imputer(imputer: Any) -> tuple[Step, ...] | None:
    statistics = np.asarray(imputer.statistics_, dtype=np.float64)
    marker = imputer.missing_values
    plain = isinstance(marker, float) and np.isnan(marker)
    if not plain or imputer.add_indicator or np.isnan(statistics).any():
        return None
    return (_step("impute", statistics),)


_READERS = {
    "StandardScaler": _standard,
    "RobustScaler": _robust,
    "MinMaxScaler": _minmax,
    "MaxAbsScaler": _maxabs,
    "SimpleImputer": _imputer,
}

"""Transformers of single features before the forest, without scikit-learn: the same operations in the same order."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SMALLEST_POWER = 1e-19  # of Box-Cox; below it the logarithm is exact


@dataclass(frozen=True, slots=True)
class Step:
    """One column-wise operation with its operands, scalars or one number a feature."""

    operation: str
    """`subtract`, `divide`, `multiply`, `add`: by first; `clip`: to first..second; `impute`: NaN becomes first;
    `boxcox`: with first as lambda, NaN for features that it leaves alone."""
    first: Floats
    second: Floats

    def apply(self, rows: Floats) -> Floats:
        """Return the transformed rows; `rows` may be overwritten. Raises ValueError where scikit-learn would."""
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
        elif self.operation == "boxcox":
            for column in np.flatnonzero(~np.isnan(self.first)):
                rows[:, column] = _boxcox(rows[:, column], float(self.first[column]))
        else:
            raise ValueError(f"step: expected a known operation, got {self.operation!r}")
        return rows


def _boxcox(values: Floats, power: float) -> Floats:
    """Return Box-Cox's transformation as SciPy computes it; NaN stays NaN."""
    if (values <= 0).any():
        raise ValueError("The Box-Cox transformation can only be applied to strictly positive data")
    logs = np.log(values)
    return logs if abs(power) < SMALLEST_POWER else np.expm1(power * logs) / power


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


def _power(transformer: Any) -> tuple[Step, ...] | None:
    if transformer.method != "box-cox" or np.isnan(transformer.lambdas_).any():
        return None
    scaler = _standard(transformer._scaler) if transformer.standardize else ()  # noqa: SLF001 - proven at load
    return (_step("boxcox", transformer.lambdas_), *scaler)


def _function(transformer: Any) -> tuple[Step, ...] | None:
    return () if transformer.func is None and not transformer.validate else None  # what `passthrough` becomes


def _columns(transformer: Any) -> tuple[Step, ...] | None:
    """Read a ColumnTransformer that handles each column by itself and keeps their order."""
    width = transformer.n_features_in_
    if [columns for _, _, columns in transformer.transformers_] != [[column] for column in range(width)]:
        return None
    whole: list[Step] = []
    for column, (_, each, _) in enumerate(transformer.transformers_):
        steps = () if each == "passthrough" else steps_of(each)
        if steps is None:
            return None
        whole += [_spread(step, column, width) for step in steps]
    return tuple(whole)


def _spread(step: Step, column: int, width: int) -> Step:
    """Return a step of one column as one of all columns that leaves the others alone."""
    idle = _IDLE[step.operation]
    first, second = np.full(width, idle[0]), np.full(width, idle[1])
    first[column], second[column] = step.first.item(), step.second.item()
    return Step(step.operation, first, second)


_IDLE = {
    "subtract": (0.0, 0.0),
    "divide": (1.0, 0.0),
    "multiply": (1.0, 0.0),
    "add": (0.0, 0.0),
    "clip": (-np.inf, np.inf),
    "impute": (np.nan, 0.0),
    "boxcox": (np.nan, 0.0),
}
_READERS = {
    "ColumnTransformer": _columns,
    "FunctionTransformer": _function,
    "PowerTransformer": _power,
    "StandardScaler": _standard,
    "RobustScaler": _robust,
    "MinMaxScaler": _minmax,
    "MaxAbsScaler": _maxabs,
    "SimpleImputer": _imputer,
}

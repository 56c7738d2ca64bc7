"""Turn a data frame into a Table, and say which row and column is wrong if it cannot be."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from anomaly_detector.train.errors import DataError
from anomaly_detector.train.features import FeatureNotes
from anomaly_detector.train.table import Flags, Floats, Table, Times

TIME_COLUMNS = ("time", "timestamp", "_time")
LABEL_COLUMNS = ("label", "anomaly", "is_anomaly")
ENOUGH_ROWS = 50

Missing = Literal["refuse", "drop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a frame came from, so that a row can be named as its owner knows it."""

    source: str
    first_row: int = 1
    """Number of the first row; 2 for a CSV file, whose first line is the header."""

    def cell(self, position: int, column: str) -> str:
        """Name one cell."""
        return f"{self.source}: row {position + self.first_row}, column {column}"


def to_table(frame: Any, place: Place, *, notes: FeatureNotes, missing: Missing = "refuse") -> Table:
    """Return the features of a pandas data frame as a Table in the order of time.

    Raises DataError for a missing column, text in a number, an empty or infinite cell (unless `missing` is "drop"),
    a time or label that cannot be read, and fewer rows than a model needs.
    """
    if not len(frame):
        raise DataError(f"{place.source}: no rows; expected at least {ENOUGH_ROWS}")
    time, label = _special(frame, notes.time, TIME_COLUMNS, place), _special(frame, notes.label, LABEL_COLUMNS, place)
    features = notes.names or tuple(str(name) for name in frame.columns if name not in (time, label))
    if absent := [name for name in features if name not in frame.columns]:
        raise DataError(f"{place.source}: no column {absent[0]}; it has {', '.join(map(str, frame.columns))}")
    if not features:
        raise DataError(f"{place.source}: no column of numbers")
    rows = np.column_stack([_numbers(frame[name], place, name) for name in features])
    usable = _usable(rows, features, place, missing)
    times = None if time is None else _times(frame[time], place, time)
    labels = None if label is None else _labels(frame[label], place, label)
    table = Table(source=place.source, features=features, rows=rows, times=times, labels=labels).take(usable)
    if len(table) < ENOUGH_ROWS:
        raise DataError(f"{place.source}: {len(table)} usable rows; expected at least {ENOUGH_ROWS}")
    return table.in_order()


def _special(frame: Any, wanted: str | None, usual: tuple[str, ...], place: Place) -> str | None:
    if wanted is not None and wanted not in frame.columns:
        raise DataError(f"{place.source}: no column {wanted}; it has {', '.join(map(str, frame.columns))}")
    return wanted or next((name for name in usual if name in frame.columns), None)


def _numbers(column: Any, place: Place, name: str) -> Floats:
    numbers = pd.to_numeric(column, errors="coerce")
    if len(bad := np.flatnonzero((numbers.isna() & column.notna()).to_numpy())):
        raise DataError(
            f"{place.cell(int(bad[0]), name)}: expected a number, got {column.iloc[bad[0]]!r}"
            " (choose columns with --columns or a features file)"
        )
    array: Floats = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    return array


def _usable(rows: Floats, features: tuple[str, ...], place: Place, missing: Missing) -> Flags:
    finite = np.isfinite(rows)
    if missing == "refuse" and not finite.all():
        position, column = np.argwhere(~finite)[0]
        found = "nothing" if np.isnan(rows[position, column]) else f"{rows[position, column]}"
        raise DataError(
            f"{place.cell(int(position), features[column])}: expected a finite number, got {found}"
            f" ({int((~finite).any(axis=1).sum())} such rows; --missing drop leaves them out)"
        )
    return np.asarray(finite.all(axis=1))


def _times(column: Any, place: Place, name: str) -> Times:
    if pd.api.types.is_numeric_dtype(column):
        parsed = pd.to_datetime(column, unit="s", utc=True, errors="coerce")
    else:
        parsed = pd.to_datetime(column, utc=True, errors="coerce", format="ISO8601")
    if len(bad := np.flatnonzero(parsed.isna().to_numpy())):
        raise DataError(
            f"{place.cell(int(bad[0]), name)}: expected an ISO 8601 time or seconds since 1970,"
            f" got {column.iloc[bad[0]]!r}"
        )
    times: Times = parsed.dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    return times


def _labels(column: Any, place: Place, name: str) -> Flags:
    """Read 1/0 and true/false (true: anomalous), or scikit-learn's -1 (anomalous) and 1."""
    words = column.astype(str).str.strip().str.lower()
    anomalous = ("-1", "-1.0") if words.isin(["-1", "-1.0"]).any() else ("1", "1.0", "true")
    normal = ("1", "1.0") if anomalous[0] == "-1" else ("0", "0.0", "false")
    if len(bad := np.flatnonzero(~words.isin([*anomalous, *normal]).to_numpy())):
        raise DataError(
            f"{place.cell(int(bad[0]), name)}: expected a label 1/0, true/false or -1/1, got {column.iloc[bad[0]]!r}"
        )
    flags: Flags = words.isin(anomalous).to_numpy(dtype=np.bool_)
    return flags

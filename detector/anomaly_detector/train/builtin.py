"""Public data sets that installed packages carry, so that there is something to try without a download."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from anomaly_detector.train.errors import DataError
from anomaly_detector.train.features import FeatureNotes
from anomaly_detector.train.table import Table


def _breast_cancer() -> Table:
    """569 tumours, 30 measurements; malignant ones are the anomalies (scikit-learn; Wolberg et al., 1995)."""
    from sklearn.datasets import load_breast_cancer  # noqa: PLC0415 - seconds, and only if asked for

    data = load_breast_cancer()
    names = tuple(str(name).replace(" ", "_") for name in data.feature_names)
    return Table(source="builtin:breast-cancer", features=names, rows=data.data, labels=data.target == 0)


def _shuttle() -> Table:
    """49,097 readings of the Space Shuttle's radiators, 9 sensors, 7 % anomalies in the order of time (river)."""
    try:
        from river.datasets import Shuttle  # noqa: PLC0415 - optional
    except ImportError:
        raise DataError(
            "builtin:shuttle: the package river brings it and is not installed: pip install river"
        ) from None
    records, labels = zip(*Shuttle(), strict=True)
    frame = pd.DataFrame.from_records(list(records))
    return Table(
        source="builtin:shuttle",
        features=tuple(f"sensor_{name}" for name in frame.columns),
        rows=frame.to_numpy(dtype=np.float64),
        labels=np.asarray(labels, dtype=bool),
    )


SETS: dict[str, Callable[[], Table]] = {"breast-cancer": _breast_cancer, "shuttle": _shuttle}


def read_builtin(name: str, *, notes: FeatureNotes) -> Table:
    """Return a built-in data set. Raises DataError for a name that is not in `SETS`, or a feature that it has not."""
    if name not in SETS:
        raise DataError(f"--data builtin:{name}: no such data set; there are {', '.join(sorted(SETS))}")
    table = SETS[name]()
    if absent := [wanted for wanted in notes.names if wanted not in table.features]:
        raise DataError(f"{table.source}: no column {absent[0]}; it has {', '.join(table.features)}")
    if not notes.names:
        return table
    columns = [table.features.index(wanted) for wanted in notes.names]
    return replace(table, features=notes.names, rows=table.rows[:, columns])

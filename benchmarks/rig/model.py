"""The model that everything in a run serves: anomaly-train's default forest, with its bundle."""

import csv
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import joblib
import mlflow.sklearn
import numpy as np
from numpy.typing import NDArray

from anomaly_detector.bundle import write_bundle
from anomaly_detector.scoring.loading import TRUSTED_TYPES
from anomaly_detector.train.bundling import make_bundle
from anomaly_detector.train.order import Order
from anomaly_detector.train.pipeline import Recipe, build, fit
from anomaly_detector.train.table import Table

RECORDING = Path(__file__).parents[2] / "demo" / "recordings" / "steady.csv"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Saved:
    """A model in the forms in which servers want it."""

    mlflow_folder: Path
    joblib_file: Path
    rows: NDArray[np.float64]
    """Rows to ask about: those it was not trained on."""
    anomalous: NDArray[np.bool_]
    """What scikit-learn says of them."""


def save(place: Path) -> Saved:
    """Train on the first 70 % of the demo's recording and save under `place`."""
    names, rows = _recording()
    cut = int(len(rows) * 0.7)
    table = Table(source=RECORDING.name, features=names, rows=rows[:cut])
    recipe = Recipe()
    model = fit(build(recipe, names), table.rows)
    order = Order(model="benchmark", recipe=recipe, rows_per_second=5.0)
    bundle = make_bundle(model, table, order, estimator=recipe.estimator)
    folder = place / "model"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    extra = write_bundle(place / "extra", bundle)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.sklearn.save_model(
            model,
            str(folder),
            serialization_format="skops",
            skops_trusted_types=sorted(TRUSTED_TYPES),
            extra_files=[str(path) for path in extra],
            pip_requirements=["scikit-learn"],
        )
    joblib.dump(model, place / "model.joblib")
    asked = rows[cut:]
    return Saved(
        mlflow_folder=folder, joblib_file=place / "model.joblib", rows=asked, anomalous=model.predict(asked) == -1
    )


def _recording() -> tuple[tuple[str, ...], NDArray[np.float64]]:
    with RECORDING.open(newline="") as file:
        names, *lines = csv.reader(file)
    return tuple(names[1:]), np.array([line[1:] for line in lines], dtype=np.float64)

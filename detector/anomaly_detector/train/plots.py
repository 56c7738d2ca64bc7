"""SHAP plots of a trained model, for people who look at the run; made after everything that matters is done."""

from pathlib import Path
from typing import Any

import numpy as np

from anomaly_detector.train.table import Floats

MOST_ROWS = 500
MOST_FEATURES = 5


def draw(pipeline: Any, rows: Floats, features: tuple[str, ...], folder: Path) -> tuple[Path, ...]:
    """Draw a summary plot and the dependence plots of the weightiest features into `folder`, and return the files.

    Values are SHAP's for the mean path length, negated: above zero makes a row more anomalous. None are drawn for an
    estimator that is no IsolationForest: the exact explainer knows trees, any other would take minutes.
    """
    if type(pipeline.steps[-1][1]).__name__ != "IsolationForest":
        return ()
    import matplotlib as mpl  # noqa: PLC0415 - with shap, seconds of imports that only plots need
    import shap  # noqa: PLC0415

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    shown = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_ROWS)).round().astype(np.intp)]
    seen = pipeline[:-1].transform(shown) if len(pipeline.steps) > 1 else shown
    values = -shap.TreeExplainer(pipeline.steps[-1][1]).shap_values(seen)
    files = [folder / "shap_summary.png"]
    shap.summary_plot(values, shown, feature_names=list(features), show=False)
    plt.savefig(files[0], bbox_inches="tight")
    plt.close("all")
    for column in np.argsort(-np.abs(values).mean(axis=0))[:MOST_FEATURES]:
        files.append(folder / f"shap_dependence_{column}.png")
        shap.dependence_plot(
            int(column), values, shown, feature_names=list(features), interaction_index=None, show=False
        )
        plt.savefig(files[-1], bbox_inches="tight")
        plt.close("all")
    return tuple(files)

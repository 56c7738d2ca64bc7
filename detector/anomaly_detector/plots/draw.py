"""Draw one plot and end: `python -m anomaly_detector.plots.draw`, the order as JSON on standard input.

The order is `{"kind", "features", "base", "values", "rows", "feature"}`: SHAP values and rows, each (n, features).
PNG goes to standard output; `force` gives a self-contained interactive HTML page.
"""

import io
import json
import sys
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

import shap
from matplotlib import pyplot as plt

TOP = 12


def draw(order: dict[str, Any]) -> bytes:
    """Return the plot of an order as PNG, or as HTML for `force`."""
    features = list(order["features"])
    values, rows = np.array(order["values"], dtype=float), np.array(order["rows"], dtype=float)
    explained = shap.Explanation(
        values=values, base_values=np.full(len(values), order["base"]), data=rows, feature_names=features
    )
    match order["kind"]:
        case "waterfall":
            shap.plots.waterfall(explained[0], max_display=TOP, show=False)
        case "force":
            return _force(order["base"], values[0], rows[0], features)
        case "summary":
            shap.plots.beeswarm(explained, max_display=TOP, show=False)
        case _:
            shap.plots.scatter(explained[:, features.index(order["feature"])], show=False)
    image = io.BytesIO()
    plt.savefig(image, format="png", bbox_inches="tight", dpi=120)
    return image.getvalue()


def _force(base: float, values: Any, row: Any, features: list[str]) -> bytes:
    plot = shap.plots.force(base, values, row, feature_names=features)
    page = io.StringIO()
    shap.save_html(page, plot)
    return page.getvalue().encode()


if __name__ == "__main__":
    sys.stdout.buffer.write(draw(json.load(sys.stdin)))

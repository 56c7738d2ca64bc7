"""evidently's data drift preset, window by window; runs in evidently's environment.

Reads from standard input, a line each, the paths of `.npz` files with `reference` (m, features) and `windows`
(k, n, features); writes a line each: how many columns evidently says have drifted in each window, as JSON.
"""

import json
import sys
import warnings

import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset

warnings.simplefilter("ignore")


def drifted(reference: pd.DataFrame, window: pd.DataFrame) -> int:
    """Return the number of drifted columns, all settings at their defaults."""
    definition = DataDefinition(numerical_columns=list(reference.columns))
    datasets = [Dataset.from_pandas(frame, data_definition=definition) for frame in (window, reference)]
    metrics = Report([DataDriftPreset()]).run(*datasets).dict()["metrics"]
    counts = [metric["value"]["count"] for metric in metrics if "DriftedColumnsCount" in metric["metric_name"]]
    return int(counts[0])


for line in sys.stdin:
    with np.load(line.strip()) as arrays:
        frames = [pd.DataFrame(rows).rename(columns=str) for rows in (arrays["reference"], *arrays["windows"])]
    print(json.dumps([drifted(frames[0], window) for window in frames[1:]]), flush=True)

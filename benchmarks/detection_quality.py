"""How well the default pipeline finds labelled anomalies: river's Shuttle data, 49,097 rows of 9 numbers.

    .venv/bin/python benchmarks/detection_quality.py

Trained without labels on the first 70 %; judged on the rest by area under the ROC curve and average precision. Peers: a
local outlier factor on the same rows, and river's half-space trees, which learn as they go.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from river import anomaly, datasets
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

sys.path.insert(0, str(Path(__file__).parent))
from scoring import scorer_of

LOCAL_ROWS = 5000
"""Training rows of the local outlier factor, whose cost grows with them."""


def half_space_trees(training: Any, rows: Any) -> Any:
    scaled = MinMaxScaler(clip=True).fit(training)
    model = anomaly.HalfSpaceTrees(seed=0)
    scores = []
    for source, judged in ((training, False), (rows, True)):
        for row in scaled.transform(source):
            named = dict(enumerate(row))
            if judged:
                scores.append(model.score_one(named))
            model.learn_one(named)
    return np.array(scores)


def measurements() -> list[dict[str, Any]]:
    """Return the measurements in the form of bench-report.json."""
    pairs = [(list(row.values()), label) for row, label in datasets.Shuttle()]
    rows, labels = np.array([row for row, _ in pairs], dtype=float), np.array([label for _, label in pairs], dtype=bool)
    cut = int(len(rows) * 0.7)
    training, judged, truth = rows[:cut], rows[cut:], labels[cut:]
    forest = make_pipeline(StandardScaler(), IsolationForest(contamination=0.15, random_state=0)).fit(training)
    nearby = make_pipeline(StandardScaler(), LocalOutlierFactor(novelty=True)).fit(training[:: cut // LOCAL_ROWS])
    scores = {
        "ours": scorer_of(forest, rows.shape[1]).score(judged),
        "scikit-learn IsolationForest": -forest.score_samples(judged),
        "scikit-learn LocalOutlierFactor": -nearby.score_samples(judged),
        "river HalfSpaceTrees": half_space_trees(training, judged),
    }
    return [
        {
            "name": f"Shuttle, {name}",
            "unit": "1",
            "value": measure(truth, scores["ours"]),
            "n": len(judged),
            "peers": {peer: measure(truth, found) for peer, found in scores.items() if peer != "ours"},
        }
        for name, measure in (
            ("area under the ROC curve", roc_auc_score),
            ("average precision", average_precision_score),
        )
    ]


if __name__ == "__main__":
    for one in measurements():
        print(one)

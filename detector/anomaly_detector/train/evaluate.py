"""Judge a detector: with labels by what it finds, without by a proxy that needs none."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, precision_score, recall_score, roc_auc_score

from anomaly_detector.train.pipeline import scores
from anomaly_detector.train.table import Flags, Floats

SYNTHETIC_SEED = 20_260_101
BOX = 1.5  # synthetic anomalies fill the rows' bounding box, this many times as wide
MOST_SYNTHETIC = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What was measured of one model on one set of rows."""

    rows: int
    anomaly_rate: float
    """Share of the rows that the model calls anomalous."""
    proxy_roc_auc: float
    """How well scores tell the rows from synthetic anomalies. A proxy: real ones need not be like these."""
    precision: float | None = None
    recall: float | None = None
    roc_auc: float | None = None
    pr_auc: float | None = None
    """The last four only with labels of both kinds."""

    def metrics(self, prefix: str) -> dict[str, float]:
        """Return what is known as metrics for a tracking server."""
        return {f"{prefix}_{name}": float(value) for name, value in asdict(self).items() if value is not None}


def judge(model: Any, rows: Floats, labels: Flags | None) -> Judgement:
    """Measure a fitted detector on rows that it was not trained on."""
    own = scores(model, rows)
    flagged = np.asarray(model.predict(rows)) == -1
    fakes = synthetic_anomalies(rows, count=min(len(rows), MOST_SYNTHETIC))
    found = labelled(own, flagged, labels) if labels is not None and 0 < labels.sum() < len(labels) else {}
    return Judgement(
        rows=len(rows),
        anomaly_rate=float(flagged.mean()),
        proxy_roc_auc=float(roc_auc_score(np.repeat([0, 1], [len(rows), len(fakes)]), [*own, *scores(model, fakes)])),
        **found,
    )


def labelled(own: Floats, flagged: Flags, labels: Flags) -> dict[str, float]:
    """Return precision and recall of the flags, ROC AUC and PR AUC (average precision) of the scores."""
    return {
        "precision": float(precision_score(labels, flagged, zero_division=0.0)),
        "recall": float(recall_score(labels, flagged)),
        "roc_auc": float(roc_auc_score(labels, own)),
        "pr_auc": float(average_precision_score(labels, own)),
    }


def synthetic_anomalies(rows: Floats, *, count: int) -> Floats:
    """Draw points uniformly from the rows' bounding box widened 1.5 times; the same ones each time.

    The box does not reach across zero for a feature that never does: a percentage is not negative, and a model may
    rightly refuse one that is.
    """
    low, high = rows.min(axis=0), rows.max(axis=0)
    centre, half = (low + high) / 2, np.maximum((high - low) / 2 * BOX, 1e-9)
    lowest = np.where(low >= 0, np.maximum(centre - half, 0), centre - half)
    highest = np.where(high <= 0, np.minimum(centre + half, 0), centre + half)
    drawn: Floats = np.random.default_rng(SYNTHETIC_SEED).uniform(lowest, highest, (count, rows.shape[1]))
    return drawn


def agreement(one: Any, other: Any, rows: Floats) -> float:
    """Return the share of rows that two detectors label alike."""
    return float((np.asarray(one.predict(rows)) == np.asarray(other.predict(rows))).mean())

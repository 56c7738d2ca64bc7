"""Make the bundle of a fitted model, and the tags by which the operator knows it before a pod starts."""

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np

from anomaly_detector.bundle import MAX_SCORES, Bundle
from anomaly_detector.drift.calibration import REFERENCE_ROWS, calibrate, systematic
from anomaly_detector.report import PREFIX
from anomaly_detector.train.environment import libraries
from anomaly_detector.train.order import Order
from anomaly_detector.train.pipeline import scores, threshold
from anomaly_detector.train.registry import Logged
from anomaly_detector.train.table import Table, quantiles


def make_bundle(model: Any, table: Table, order: Order, *, estimator: str) -> Bundle:
    """Return the bundle of a fitted model for the rows that it was trained on."""
    own = scores(model, table.rows)
    units, descriptions = order.notes.of(table.features)
    return Bundle(
        features=table.features,
        units=units,
        descriptions=descriptions,
        contamination=order.recipe.contamination,
        threshold=threshold(model),
        estimator=estimator,
        format="skops",
        trained_at=datetime.now(UTC).isoformat(timespec="seconds"),
        training_rows=len(table),
        libraries=libraries(),
        calibration=calibrate(
            table.rows,
            own,
            window=order.window,
            features=table.features,
            rows_per_second=order.rows_per_second or _rate(table),
            false_alarms_per_day=order.false_alarms_per_day,
        ),
        reference=table.rows[systematic(len(table), REFERENCE_ROWS)],
        scores=quantiles(own, most=MAX_SCORES),
    )


def _rate(table: Table) -> float | None:
    """Return rows per second by the median distance of two rows, of rows that come in batches by the whole span.

    None where times are unknown or all the same.
    """
    if table.times is None or len(table) < 2:  # noqa: PLR2004 - a distance needs two
        return None
    distance = float(np.median(np.diff(table.times)) / np.timedelta64(1, "s"))
    if distance > 0:
        return 1 / distance
    span = float((table.times[-1] - table.times[0]) / np.timedelta64(1, "s"))
    return (len(table) - 1) / span if span > 0 else None


def serving_tags(bundle: Bundle, logged: Logged) -> dict[str, str]:
    """Return the version tags that the operator checks before a pod starts (docs/pod-contract.md)."""
    tags = {
        "digest": logged.digest,
        "size": str(logged.size),
        "features": json.dumps(list(bundle.features)),
        "estimator": bundle.estimator,
        "scikit-learn": bundle.libraries.get("scikit-learn", ""),
        "format": bundle.format,
    }
    if bundle.contamination is not None:
        tags["contamination"] = f"{bundle.contamination:g}"
    return {PREFIX + name: value for name, value in tags.items()}

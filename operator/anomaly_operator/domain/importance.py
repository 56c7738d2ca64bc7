"""Which features made rows anomalous, period by period: when it is to be recorded, and what of several pods' answers.

A record is about one whole period of the clock (an hour that has ended), so it is decided from the time and the last
record alone: a restart loses nothing, and nothing is recorded twice.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_FEATURES = 200
TOP_ANOMALIES = 10
_NOT_IN_NAMES = re.compile(r"[^\w\-. :]")


@dataclass(frozen=True, slots=True)
class Period:
    """A period of the clock; times are seconds since the epoch."""

    number: int
    """Periods of this length since the epoch."""
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Importance:
    """What the pods of a version saw in a period, together."""

    rows: int
    mean_absolute_shap: Mapping[str, float]
    """By feature, largest first."""
    anomalies: tuple[Mapping[str, Any], ...]
    """The most anomalous, each as the pod described it, and which pod."""


def due(now: float, length: float, *, since: float, recorded: int | None) -> Period | None:
    """Return the period to be recorded: the last that has ended, if the version served in it and it is not recorded.

    `length` in seconds; `since` is when the version became active, `recorded` the number of the newest record.
    """
    number = int(now // length) - 1
    period = Period(number, number * length, (number + 1) * length)
    known = recorded is not None and recorded >= number
    return None if known or period.end <= since else period


def ends(now: float, length: float) -> float:
    """Return when the period of `now` ends, and so is the next to be recorded."""
    return (now // length + 1) * length


def merge(answers: Mapping[str, Mapping[str, Any]]) -> Importance:
    """Merge what pods answered (`GET /shap`), by name; means are weighted by the rows that they stand for.

    What is malformed in an answer is left out.
    """
    sums: dict[str, float] = {}
    rows = 0
    for answer in answers.values():
        weight, means = answer.get("rows"), answer.get("meanAbsoluteShap")
        if type(weight) is not int or weight <= 0 or not isinstance(means, Mapping):
            continue
        rows += weight
        for feature, mean in means.items():
            if isinstance(mean, int | float) and math.isfinite(mean):
                sums[feature] = sums.get(feature, 0.0) + weight * mean
    means = {feature: total / rows for feature, total in sums.items()}
    ranked = sorted(means, key=lambda feature: (-means[feature], feature))[:MOST_FEATURES]
    return Importance(rows, {feature: means[feature] for feature in ranked}, _top(answers))


def metrics(found: Importance) -> dict[str, float]:
    """Return the metrics of a run; a feature's name is changed only where MLflow would refuse it."""
    named = {f"mean_abs_shap/{_NOT_IN_NAMES.sub('_', name)}": mean for name, mean in found.mean_absolute_shap.items()}
    return {**named, "rows": float(found.rows)}


def _top(answers: Mapping[str, Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    found = [
        {**anomaly, "pod": pod}
        for pod, answer in answers.items()
        for anomaly in _list(answer.get("anomalies"))
        if isinstance(anomaly, Mapping) and isinstance(anomaly.get("score"), int | float)
    ]
    return tuple(sorted(found, key=lambda anomaly: -anomaly["score"])[:TOP_ANOMALIES])


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def latest(steps: Iterable[object]) -> int | None:
    """Return the newest of the numbers of periods that a run has records of."""
    return max((int(str(step)) for step in steps if str(step).isdecimal()), default=None)

"""The calibration as the detector reads it from a bundle."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anomaly_detector.drift.statistics import TESTS

DEFAULT_CHECKS_PER_DAY = 1000.0
TAIL = 4
"""Numbers of a tail: mean, deviation, extreme, windows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What training found out about healthy windows; without arguments: nothing."""

    calibrated: bool = False
    window: int | None = None
    training_rows: int | None = None
    checks_per_day: float = DEFAULT_CHECKS_PER_DAY
    false_alarm_rate: float | None = None
    factors: Mapping[str, float] = field(default_factory=dict)
    """Effective sample factor by feature."""
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By feature and test."""
    tails: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    """By feature and test."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Calibration":
        """Read `calibration` of the bundle; what is absent has its default.

        Raises ValueError naming the field that is not as docs/pod-contract.md says.
        """
        window, rows, rate = value.get("window"), value.get("trainingRows"), value.get("falseAlarmRate")
        factors = _table(value, "effectiveSampleFactor")
        return cls(
            calibrated=value.get("calibrated") is True,
            window=None if window is None else int(_number(window, "window", low=1)),
            training_rows=None if rows is None else int(_number(rows, "trainingRows", low=1)),
            checks_per_day=_number(value.get("checksPerDay", DEFAULT_CHECKS_PER_DAY), "checksPerDay", low=0),
            false_alarm_rate=None if rate is None else _number(rate, "falseAlarmRate", low=0),
            factors={name: _number(f, f"effectiveSampleFactor.{name}", low=1e-12) for name, f in factors.items()},
            thresholds={
                name: {test: _number(t, f"thresholds.{name}.{test}", low=0) for test, t in _tests(of).items()}
                for name, of in _table(value, "thresholds").items()
            },
            tails={
                name: {test: _tail(t, f"tails.{name}.{test}") for test, t in _tests(of).items()}
                for name, of in _table(value, "tails").items()
            },
        )


def _table(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name, {})
    if not isinstance(found, Mapping):
        raise ValueError(f"calibration.{name}: expected an object, got {found!r:.40}")  # noqa: TRY004 - bad data, no bug
    return found


def _tests(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"calibration: expected numbers by test, got {value!r:.40}")  # noqa: TRY004 - bad data, no bug
    return {test: value[test] for test in TESTS if test in value}


def _tail(value: Any, where: str) -> tuple[float, ...]:
    if not isinstance(value, Sequence) or len(value) != TAIL:
        raise ValueError(f"calibration.{where}: expected {TAIL} numbers, got {value!r:.40}")
    return tuple(_number(number, where, low=0) for number in value)


def _number(value: Any, where: str, *, low: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < low:
        raise ValueError(f"calibration.{where}: expected a number, {low:g} or more, got {value!r:.40}")
    return float(value)

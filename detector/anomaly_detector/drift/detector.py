"""Watch a sliding window of rows for drift away from the reference."""

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anomaly_detector import report
from anomaly_detector.config import DriftConfig
from anomaly_detector.drift.calibrated import Calibration
from anomaly_detector.drift.calibration import (
    SCORE,
    effective_size,
    single_check_level,
    thresholds_for,
)
from anomaly_detector.drift.statistics import DEFAULT_THRESHOLDS, FEWEST, TESTS, Reference, compare
from anomaly_detector.drift.voting import VOTES, confirmed, votes_of

log = logging.getLogger(__name__)
Floats = NDArray[np.float64]
LEARNED_WINDOWS = 4
"""Windows of first rows that become the reference of a model without one."""
GONE = 0.5
"""A share of missing values that is higher by more than this is drift by itself: all five tests vote."""
REPORTED_FEATURES = 10


@dataclass(frozen=True, slots=True)
class _Check:
    """One feature's part of one check."""

    votes: int
    cast: tuple[str, ...]
    statistics: Mapping[str, float] | None
    missing: float


class DriftDetector:
    """Five tests for each feature and for the model's score, every half window.

    `features` names the columns; `reference` (m, features) with `reference_scores` (m,) is what the model was
    trained on, in no matter what order; `calibration` comes from the bundle and is left out if it cannot be read.
    Without a reference the first four windows of rows become one, and the verdict is inconclusive meanwhile.
    Not thread-safe: one caller at a time.

    Times are seconds since the epoch.
    """

    def __init__(
        self,
        features: Sequence[str],
        config: DriftConfig,
        *,
        reference: Floats | None = None,
        reference_scores: Floats | None = None,
        calibration: Mapping[str, Any] | None = None,
    ) -> None:
        self.features = (*features, SCORE)
        self.config = config
        self._calibration = self._read(calibration)
        self._factors = [min(1.0, self._calibration.factors.get(name, 1.0)) for name in self.features]
        self._thresholds = [self._in_force(name) for name in self.features]
        self._references: list[Reference | None] = []
        self._learned: list[Floats] = []
        self._rows = np.empty((config.window, len(self.features)))
        self._times = np.empty(config.window)
        if reference is not None and reference_scores is not None:
            self._refer_to(np.column_stack((reference, reference_scores)))
        self.reset()

    @property
    def calibrated(self) -> bool:
        """Whether the thresholds were calibrated for this window on the model's own training data."""
        return self._calibration.calibrated and self._calibration.window == self.config.window

    def reset(self) -> None:
        """Forget the window and the checks, as on a change of role; a reference that was learned stays."""
        self._filled = self._next = self._since_check = 0
        self._checks = 0
        self._newest: list[_Check] = []
        self._votes: deque[list[int]] = deque(maxlen=self.config.consecutive_checks)
        self._starts: deque[float] = deque(maxlen=self.config.consecutive_checks)
        self._breach_start: float | None = None
        self.drift = report.Drift(calibrated=self.calibrated)
        """The verdict of the newest check."""

    def add(self, rows: Floats, scores: Floats, at: float) -> None:
        """Take rows (n, features) with their scores (n,) that arrived at `at` into the window."""
        new = np.column_stack((rows, scores))
        if not self._references:
            self._learn(new)
            return
        self._since_check += len(new)
        new = new[-self.config.window :]
        end = self._next + len(new)
        if end <= self.config.window:
            self._rows[self._next : end] = new
            self._times[self._next : end] = at
        else:
            places = np.arange(self._next, end) % self.config.window
            self._rows[places] = new
            self._times[places] = at
        self._next = end % self.config.window
        self._filled = min(self.config.window, self._filled + len(new))

    def due(self) -> bool:
        """Say whether the window is full and half of it is newer than the last check."""
        return self._filled == self.config.window and (
            self._checks == 0 or self._since_check >= self.config.window // 2
        )

    def check(self, now: float) -> report.Drift:
        """Compare the window with the reference if a check is due, and return what is known at `now`.

        About 0.1 ms for each feature; cheap if none is due.
        """
        del now  # the verdict depends on rows, not on the clock; callers need not care
        for _ in self.checking():
            pass
        return self.drift

    def checking(self) -> Iterator[None]:
        """Do what `check` does and yield after each feature; no rows may be added meanwhile. `drift` is the verdict."""
        if not self.due():
            return
        self._since_check = 0
        self._checks += 1
        newest = []
        for i in range(len(self.features)):
            newest.append(self._check_feature(i))
            yield
        self._newest = newest
        # Times are written in order: the oldest row stands where the next one will.
        start = float(self._times[self._next])
        self._votes.append([c.votes for c in newest])
        self._starts.append(start)
        self.drift = self._judge(start)

    def details(self) -> dict[str, Any]:
        """Return everything behind the verdict as plain JSON: raw values, thresholds and votes of each feature."""
        return {
            "verdict": self.drift.verdict,
            "confidence": self.drift.confidence,
            "calibrated": self.calibrated,
            "falseAlarmRate": self._calibration.false_alarm_rate,
            "reference": "learning" if not self._references else "learned" if self._learned else "bundle",
            "window": self.config.window,
            "rows": self._filled,
            "checks": self._checks,
            "consecutiveChecks": self.config.consecutive_checks,
            "minVotes": self.config.min_votes,
            "windowStart": self.drift.windowStart,
            "breachStart": self.drift.breachStart,
            "features": [self._feature_details(i) for i in range(len(self._newest))],
        }

    def _in_force(self, name: str) -> dict[str, float]:
        """Return a feature's thresholds: calibrated for the configured rate of false alarms, or the defaults."""
        known, config = self._calibration, self.config
        if tails := known.tails.get(name):
            level = single_check_level(
                config.false_alarms_per_day, known.checks_per_day, len(self.features), config.consecutive_checks
            )
            return thresholds_for(tails, level, config.tests)
        own = {**config.tests, **known.thresholds.get(name, {})}
        return {t: (min if t == "ks" else max)(config.tests[t], own[t]) for t in TESTS}

    @staticmethod
    def _read(calibration: Mapping[str, Any] | None) -> Calibration:
        try:
            return Calibration.from_json(calibration or {})
        except ValueError as error:
            # A model must not go down for the sake of its thresholds: the defaults hold, and it says so.
            log.warning("the model's drift calibration is not used: %s", error)
            return Calibration()

    def _learn(self, new: Floats) -> None:
        self._learned.append(new)
        if sum(map(len, self._learned)) >= LEARNED_WINDOWS * self.config.window:
            self._refer_to(np.concatenate(self._learned))

    def _refer_to(self, rows: Floats) -> None:
        usable = [np.isfinite(column).sum() >= FEWEST for column in rows.T]
        self._references = [Reference.of(c) if ok else None for c, ok in zip(rows.T, usable, strict=True)]
        series = self._calibration.training_rows or len(rows)
        self._reference_sizes = [effective_size(len(rows), factor, series) for factor in self._factors]

    def _check_feature(self, i: int) -> _Check:
        column, reference = self._rows[:, i], self._references[i]
        values = column[np.isfinite(column)]
        missing = 1 - len(values) / len(column)
        if reference is None:  # a feature that was never there: nothing to compare, but its coming is a change
            return _Check(VOTES if missing < 1 - GONE else 0, (), None, missing)
        if missing - reference.missing > GONE:
            return _Check(VOTES, TESTS, None, missing)
        if len(values) < FEWEST:
            return _Check(0, (), None, missing)
        statistics = compare(
            reference,
            values,
            reference_size=self._reference_sizes[i],
            window_size=max(1.0, self._factors[i] * len(values)),
        )
        votes, cast = votes_of(statistics, self._thresholds[i])
        return _Check(votes, cast, statistics, missing)

    def _judge(self, start: float) -> report.Drift:
        checks, config = len(self._votes), self.config
        votes = np.array(self._votes).T
        # Fewer checks than asked for may already rule drift out; they never confirm it.
        most = confirmed(votes, min(checks, config.consecutive_checks))
        verdict: Literal["drift", "ok", "inconclusive"] = "ok"
        if most >= config.min_votes:
            verdict = "drift" if checks == config.consecutive_checks else "inconclusive"
        if verdict != "drift":
            self._breach_start = None
        elif self._breach_start is None:
            self._breach_start = self._starts[0]
        return report.Drift(
            verdict=verdict,
            confidence=None if verdict == "inconclusive" else most / VOTES,
            calibrated=self.calibrated,
            checks=self._checks,
            windowStart=_rfc3339(start),
            breachStart=None if self._breach_start is None else _rfc3339(self._breach_start),
            features=self._worst(),
        )

    def _worst(self) -> tuple[report.FeatureDrift, ...]:
        order = sorted(range(len(self._newest)), key=lambda i: -self._newest[i].votes)[:REPORTED_FEATURES]
        return tuple(
            report.FeatureDrift(
                feature=self.features[i],
                votes=self._newest[i].votes,
                thresholds=self._reported_thresholds(i),
                **{test: _short(value) for test, value in (self._newest[i].statistics or {}).items()},
            )
            for i in order
        )

    def _reported_thresholds(self, i: int) -> dict[str, float] | None:
        if self._newest[i].votes < self.config.min_votes:
            return None
        return {test: _short(self._thresholds[i][test]) for test in TESTS}

    def _feature_details(self, i: int) -> dict[str, Any]:
        check, reference = self._newest[i], self._references[i]
        statistics = check.statistics or {}
        values = self._rows[np.isfinite(self._rows[:, i]), i]
        return {
            "feature": self.features[i],
            "votes": check.votes,
            "missing": check.missing,
            "referenceMissing": 1.0 if reference is None else reference.missing,
            "mean": float(values.mean()) if len(values) else None,
            "referenceMean": None if reference is None else reference.mean,
            "effectiveSampleFactor": self._factors[i],
            "tests": {
                test: {
                    "value": statistics.get(test),
                    "threshold": self._thresholds[i][test],
                    "default": DEFAULT_THRESHOLDS[test],
                    "vote": test in check.cast,
                }
                for test in TESTS
            },
        }


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def _short(value: float) -> float:
    """Round to five significant digits: reports are small and should not change for nothing."""
    return float(f"{value:.5g}")

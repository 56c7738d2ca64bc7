"""Find out how far healthy windows stray, so that drift means more than that: thresholds for one model's own data.

Textbook thresholds assume independent rows. Metrics of machines are autocorrelated and move through phases, and a
window of them differs "significantly" from a reference all the time. So, at training, contiguous windows of the whole
time-ordered training series are compared with the rest of it, exactly as the detector will do:

1. The series is cut into folds in time. A window is compared with a systematic sample of the *other* folds, so that
   it meets, as it will in service, a reference that its own hour is not part of.
2. Each statistic is brought to a quadratic scale: t squared, the divergence behind the distance, minus the
   logarithm of a p-value. There it is about a quadratic form of normal variables, whose tail that of a gamma
   distribution with the same mean and variance approximates [1]: `tails` keeps these two, and the most extreme window.
3. The threshold is the value that a healthy window exceeds with a probability derived from `falseAlarmsPerDay`: per
   check of the model, divided by the features (Bonferroni; the score is one of them), and its d-th root, as
   `consecutiveChecks` overlapping checks hold d windows without a row in common. Few windows widen it (Student's t).
4. In force is the stricter to fire of this threshold, the most extreme healthy window, and the default.

`falseAlarmRate` is measured, not derived: the share of checks at which a fold's windows, one after the other, confirm
drift under thresholds from the other folds.

Several pods of a model see interleaved batches of one stream; a window of each then spans more time and its rows
are less alike. Such a window strays less than a contiguous one of as many rows, so thresholds from contiguous windows
hold for it (docs/drift.md has the measurements, and the case of a period equal to the interleaving's).

[1] F. E. Satterthwaite: An Approximate Distribution of Estimates of Variance Components. Biometrics 2, 1946; the
    gamma quantile by E. B. Wilson, M. M. Hilferty: The Distribution of Chi-Square. PNAS 17, 1931.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_detector.drift.statistics import DEFAULT_THRESHOLDS, FEWEST, TESTS, Reference, compare
from anomaly_detector.drift.voting import confirmed, votes_of

Floats = NDArray[np.float64]
SCORE = "score"
"""Name under which the model's score is watched like a feature."""
FEWEST_WINDOWS = 40
FOLDS = 5
REFERENCE_ROWS = 2000
STEPS = 4
"""Places at which windows begin within half a window, so that a period of the series is met in all its phases."""
SMALLEST_P = 1e-300
ANDERSON_SHIFT = 1.3134
"""What normalisation takes from the Anderson-Darling statistic: its mean in units of its standard deviation."""
SECONDS_PER_DAY = 86400


def calibrate(  # noqa: PLR0913 - each is one known fact about the series or the checks to come
    series: Floats,
    scores: Floats,
    *,
    window: int,
    features: Sequence[str],
    rows_per_second: float | None = None,
    reference_rows: int = REFERENCE_ROWS,
    false_alarms_per_day: float = 1.0,
    consecutive_checks: int = 3,
    min_votes: int = 3,
    tests: Mapping[str, float] = DEFAULT_THRESHOLDS,
) -> dict[str, Any]:
    """Return `calibration` of the bundle (docs/pod-contract.md) from the training series.

    `series` (n, features) and `scores` (n,) are in the order of time, all of them; `rows_per_second` is their rate
    (unknown: 1,000 checks a day); `reference_rows` the size of the reference sample to come. With fewer than 40
    windows the result says `calibrated: false` and holds the default thresholds. Raises ValueError if shapes differ.
    """
    names = (*features, SCORE)
    columns = _columns(series, scores, names)
    starts = np.arange(0, len(columns) - window + 1, max(1, window // (2 * STEPS)))
    checks_per_day = rows_per_second * SECONDS_PER_DAY / (window / 2) if rows_per_second else 1000.0
    known = _known(columns, names, window, len(starts[::STEPS])) | {
        "falseAlarmsPerDay": false_alarms_per_day,
        "checksPerDay": checks_per_day,
    }
    if not known["calibrated"]:
        return known | {"thresholds": {name: dict(tests) for name in names}, "tails": {}}
    folds = np.minimum((starts + window // 2) * FOLDS // len(columns), FOLDS - 1)
    observed = _observe(columns, starts, window, folds, list(known["effectiveSampleFactor"].values()), reference_rows)
    level = single_check_level(false_alarms_per_day, checks_per_day, len(names), consecutive_checks)
    tails = {name: _tails(observed[:, i]) for i, name in enumerate(names)}
    return known | {
        "thresholds": {name: thresholds_for(tail, level, tests) for name, tail in tails.items()},
        "tails": tails,
        "falseAlarmRate": _false_alarm_rate(observed, folds, level, tests, consecutive_checks, min_votes),
    }


def _known(columns: Floats, names: Sequence[str], window: int, windows: int) -> dict[str, Any]:
    """Return what of a calibration can be said of any series."""
    return {
        "window": window,
        "windows": windows,
        "calibrated": windows >= FEWEST_WINDOWS,
        "falseAlarmRate": None,
        "trainingRows": len(columns),
        "effectiveSampleFactor": {name: effective_sample_factor(columns[:, i]) for i, name in enumerate(names)},
    }


def _columns(series: Floats, scores: Floats, names: Sequence[str]) -> Floats:
    """Return the series with its scores as the last column. Raises ValueError if shapes differ."""
    columns = np.column_stack((series, scores)).astype(np.float64)
    if columns.shape != (len(series), len(names)):
        raise ValueError(f"series: expected shape (n, {len(names) - 1}), got {np.shape(series)}")
    return columns


def effective_sample_factor(values: Floats) -> float:
    """Return how many independent values one value of a series is worth, in (0, 1].

    1 / (1 + 2 sum of autocorrelations), summed over pairs of lags while they are positive [1]; the smaller of the
    series' and its ranks', as a few huge values hide how alike the others are.

    [1] C. J. Geyer: Practical Markov Chain Monte Carlo. Statistical Science 7, 1992.
    """
    finite = np.isfinite(values)
    known = values[finite]
    if len(known) < FEWEST or known.min() == known.max():
        return 1.0
    ranks = np.searchsorted(np.sort(known), known).astype(np.float64)
    factor = 1.0
    for kind in (known, ranks):
        filled = np.zeros(len(values))
        filled[finite] = kind - kind.mean()
        factor = min(factor, _geyer(filled))
    return factor


def _geyer(centred: Floats) -> float:
    size = len(centred)
    spectrum = np.fft.rfft(centred, 2 * size)
    covariance = np.fft.irfft(spectrum * np.conj(spectrum))[:size]
    if covariance[0] <= 0:
        return 1.0
    correlation = covariance / covariance[0]
    pairs = correlation[: size // 2 * 2].reshape(-1, 2).sum(axis=1)
    ends = np.flatnonzero(pairs <= 0)
    total = 2 * float(pairs[: ends[0] if len(ends) else None].sum()) - 1
    return min(1.0, 1 / max(total, 1.0))


def single_check_level(
    false_alarms_per_day: float, checks_per_day: float, features: int, consecutive_checks: int
) -> float:
    """Return the probability at which a healthy window of one feature may exceed its thresholds."""
    disjoint = 1 + (consecutive_checks - 1) // 2  # checks half a window apart: every other one shares no row
    alarm = min(0.5, false_alarms_per_day / max(checks_per_day, 1.0)) / features
    return float(alarm ** (1 / disjoint))


def thresholds_for(tails: Mapping[str, Sequence[float]], level: float, tests: Mapping[str, float]) -> dict[str, float]:
    """Return the thresholds in force: the stricter to fire of a feature's own tail and the defaults."""
    in_force = dict(tests)
    for test in TESTS:
        if test not in tails:
            continue
        mean, deviation, extreme, windows = tails[test]
        own = _unscale(test, max(extreme, gamma_quantile(mean, deviation, student_quantile(level, windows / 2))))
        in_force[test] = min(own, tests[test]) if test == "ks" else max(own, tests[test])
    return in_force


def student_quantile(level: float, size: float) -> float:
    """Return how many deviations above the mean of `size` values the next one lies with probability `level`.

    Prediction limit with Student's t, by Cornish and Fisher's expansion of its quantile.
    """
    z = NormalDist().inv_cdf(1 - level)
    df = max(size - 1, 4.0)
    t = z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)
    return t * math.sqrt(1 + 1 / size)


def gamma_quantile(mean: float, deviation: float, z: float) -> float:
    """Return the quantile of a gamma distribution that stands where z stands in the normal one."""
    if mean <= 0 or deviation <= 0:
        return mean
    root = deviation / (3 * mean)
    return float(mean * max(0.0, 1 - root**2 + z * root) ** 3)


def _observe(
    columns: Floats, starts: NDArray[np.int_], window: int, folds: NDArray[np.int_], factors: Sequence[float], rows: int
) -> Floats:
    """Return the statistics of each window and column against the other folds, shape (windows, columns, tests)."""
    seen = np.full((len(starts), columns.shape[1], len(TESTS)), np.nan)
    bounds = [len(columns) * k // FOLDS for k in range(FOLDS + 1)]
    for fold in range(FOLDS):
        others = np.concatenate((columns[: bounds[fold]], columns[bounds[fold + 1] :]))
        sample = others[systematic(len(others), rows)]
        for column, factor in enumerate(factors):
            if np.isfinite(sample[:, column]).sum() < FEWEST:
                continue
            reference = Reference.of(sample[:, column])
            size = effective_size(len(sample), factor, len(others))
            for place in np.flatnonzero(folds == fold):
                values = columns[starts[place] : starts[place] + window, column]
                values = values[np.isfinite(values)]
                if len(values) >= FEWEST:
                    found = compare(reference, values, reference_size=size, window_size=max(1.0, factor * len(values)))
                    seen[place, column] = [found[test] for test in TESTS]
    return seen


def systematic(size: int, count: int) -> NDArray[np.int_]:
    """Return the indices of a systematic sample: every so-many-th of `size`, `count` at most."""
    return np.unique(np.linspace(0, size - 1, min(count, size)).round().astype(np.int_))


def effective_size(sample: int, factor: float, series: int) -> float:
    """Return how many independent values a systematic sample of a series is worth."""
    return max(1.0, min(float(sample), factor * series))


def _tails(observed: Floats) -> dict[str, list[float]]:
    """Return by test: mean, deviation and extreme of the scaled statistics, and the number of windows."""
    tails: dict[str, list[float]] = {}
    for i, test in enumerate(TESTS):
        values = _scale(test, observed[:, i][np.isfinite(observed[:, i])])
        if len(values) > 1:
            tails[test] = [float(values.mean()), float(values.std(ddof=1)), float(values.max()), len(values) / STEPS]
    return tails


def _scale(test: str, values: Floats) -> Floats:
    """Bring statistics to a quadratic scale; larger is more extreme."""
    if test == "ks":
        return -np.log(np.maximum(values, SMALLEST_P))
    scaled: Floats = np.maximum(values + ANDERSON_SHIFT, 0.0) if test == "anderson" else values**2
    return scaled


def _unscale(test: str, value: float) -> float:
    if test == "ks":
        return max(SMALLEST_P, math.exp(-value))
    return value - ANDERSON_SHIFT if test == "anderson" else math.sqrt(value)


def _false_alarm_rate(
    observed: Floats,
    folds: NDArray[np.int_],
    level: float,
    tests: Mapping[str, float],
    consecutive_checks: int,
    min_votes: int,
) -> float:
    """Return the share of held-out checks that confirm drift."""
    alarms = 0
    for fold in range(FOLDS):
        held_out = folds == fold
        counts = np.array(
            [
                [votes_of(dict(zip(TESTS, one, strict=True)), thresholds)[0] for one in observed[held_out, i]]
                for i, thresholds in enumerate(
                    thresholds_for(_tails(observed[~held_out, i]), level, tests) for i in range(observed.shape[1])
                )
            ]
        )
        alarms += sum(
            confirmed(checks[:, :end], consecutive_checks) >= min_votes
            for checks in (counts[:, step::STEPS] for step in range(STEPS))
            for end in range(1, checks.shape[1] + 1)
        )
    return alarms / len(folds)

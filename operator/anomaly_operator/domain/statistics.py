"""The little statistics that gates need, exact, from the standard library."""

from collections.abc import Iterable
from math import exp, inf, lgamma, log, log1p

from anomaly_detector.report import LATENCY_BOUNDS_MS

CONFIDENCE = 0.999
_PRECISION = 1e-12


def tail(successes: int, trials: int, probability: float) -> float:
    """Return P(X >= successes) of a binomial distribution."""
    if successes <= 0 or probability >= 1.0:
        return 1.0
    if probability <= 0.0 or successes > trials:
        return 0.0
    if successes <= trials * probability:
        return 1.0 - _sum_down(successes - 1, trials, probability)
    return _sum_up(successes, trials, probability)


def lower_bound(successes: int, trials: int) -> float:
    """Return the one-sided 99.9 % Clopper-Pearson lower bound of a share.

    It is the probability at which seeing at least so many successes has a chance of 0.1 %.
    Clopper and Pearson, The use of confidence or fiducial limits, Biometrika 26 (1934).
    """
    if successes <= 0 or trials <= 0:
        return 0.0
    low, high = 0.0, successes / trials
    while high - low > _PRECISION + 1e-9 * high:
        middle = (low + high) / 2
        if tail(successes, trials, middle) > 1.0 - CONFIDENCE:
            high = middle
        else:
            low = middle
    return low


def pooled(histograms: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the sum of latency histograms over the buckets of the report contract."""
    total = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    for histogram in histograms:
        for i, count in enumerate(histogram[: len(total)]):
            total[i] += count
    return tuple(total)


def quantile(histogram: tuple[int, ...], share: float) -> float | None:
    """Return a quantile in milliseconds, linear within its bucket; None of nothing, inf above all bounds.

    It is over a bound of the histogram exactly if more than `1 - share` of the requests were.
    """
    total = sum(histogram)
    if not total:
        return None
    rank, seen = share * total, 0
    for i, count in enumerate(histogram):
        if count and seen + count >= rank:
            if i == len(LATENCY_BOUNDS_MS):
                return inf
            below = LATENCY_BOUNDS_MS[i - 1] if i else 0.0
            return below + (LATENCY_BOUNDS_MS[i] - below) * (rank - seen) / count
        seen += count
    return inf


def _log_mass(k: int, n: int, p: float) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(p) + (n - k) * log1p(-p)


def _sum_up(start: int, n: int, p: float) -> float:
    """Sum the mass from `start`, which lies above the mean, to n: falling terms, until they do not matter."""
    term = total = exp(_log_mass(start, n, p))
    for k in range(start, n):
        term *= (n - k) / (k + 1) * p / (1.0 - p)
        total += term
        if term < total * _PRECISION:
            break
    return min(total, 1.0)


def _sum_down(start: int, n: int, p: float) -> float:
    """Sum the mass from `start`, which lies below the mean, to 0: falling terms, until they do not matter."""
    if start < 0:
        return 0.0
    term = total = exp(_log_mass(start, n, p))
    for k in range(start, 0, -1):
        term *= k / (n - k + 1) * (1.0 - p) / p
        total += term
        if term < total * _PRECISION:
            break
    return min(total, 1.0)

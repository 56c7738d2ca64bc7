"""Five two-sample statistics in one merge pass over a sorted reference and a sorted window.

| statistic | definition | votes for drift when |
|---|---|---|
| `ks` | Kolmogorov-Smirnov: limit distribution's p-value of the largest gap between the distribution functions, for effective sample sizes [1] | below 0.05 |
| `wasserstein` | Wasserstein-1 distance in standard deviations of the reference | above 0.3 |
| `anderson` | Anderson-Darling for k = 2 samples with mid-ranks, normalised [2] | above 1.961 |
| `jensenShannon` | Jensen-Shannon *distance* (square root of the divergence), natural logarithm, ten reference-quantile bins with open ends [3] | above 0.2 |
| `welch` | absolute t of Welch's test for effective sample sizes [4] | above 2.0 |

An effective sample size is the number of independent values that tells as much as these correlated ones.
Ties are counted as they are; a reference with at most ten distinct values is binned by value. Where a reference
or both samples are constant, a ratio of something to nothing is `UNBOUNDED`, of nothing to nothing 0.

[1] SciPy: `kstwobign.sf(sqrt(n m / (n + m)) D)`.
[2] F. W. Scholz, M. A. Stephens: K-Sample Anderson-Darling Tests. JASA 82, 1987. SciPy: `anderson_ksamp`.
[3] J. Lin: Divergence Measures Based on the Shannon Entropy. IEEE Trans. Inf. Theory 37, 1991.
[4] B. L. Welch: The Generalization of "Student's" Problem. Biometrika 34, 1947. SciPy: `ttest_ind`.
"""  # noqa: E501 - a table

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from anomaly_detector.native import KERNEL

Floats = NDArray[np.float64]
TESTS: tuple[str, ...] = ("ks", "wasserstein", "anderson", "jensenShannon", "welch")
EFFECT_SIZES: tuple[str, ...] = ("wasserstein", "jensenShannon")
"""Tests that say how far, not how surely: they do not grow with the sample."""
DEFAULT_THRESHOLDS: dict[str, float] = {
    "ks": 0.05, "wasserstein": 0.3, "anderson": 1.961, "jensenShannon": 0.2, "welch": 2.0,
}  # fmt: skip
BINS = 10
UNBOUNDED = 1e6
"""Stands for infinity, which JSON cannot say."""
FEWEST = 4
"""Values that a sample needs for its statistics to exist."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One feature's reference sample with what can be computed from it once. Build with `of`."""

    sorted: Floats
    """Finite values, ascending, shape (m,)."""
    missing: float
    """Share of values that were not finite."""
    mean: float
    variance: float
    edges: Floats
    """Inner edges of the bins."""
    by_value: bool
    """Whether the bins are the edges themselves and the gaps between them."""
    shares: list[float]
    """Share of the reference in each bin."""

    @classmethod
    def of(cls, values: Floats) -> "Reference":
        """Prepare a sample of any order; values that are not finite count as missing.

        Raises ValueError if fewer than four are finite.
        """
        finite = np.sort(values[np.isfinite(values)])
        if len(finite) < FEWEST:
            raise ValueError(f"reference: expected at least {FEWEST} finite values, got {len(finite)}")
        distinct = finite[np.append(True, finite[1:] != finite[:-1])]
        by_value = len(distinct) <= BINS
        edges = distinct if by_value else np.unique(np.quantile(finite, np.linspace(0, 1, BINS + 1)[1:-1]))
        return cls(
            sorted=finite,
            missing=1 - len(finite) / len(values),
            mean=float(finite.mean()),
            variance=float(finite.var(ddof=1)),
            edges=edges,
            by_value=by_value,
            shares=_shares(finite, edges, by_value=by_value),
        )


def compare(
    reference: Reference, window: Floats, *, reference_size: float | None = None, window_size: float | None = None
) -> dict[str, float]:
    """Return the five statistics of `window`, finite values in any order, shape (n,).

    `reference_size` and `window_size` are the effective sample sizes; without them all values count as independent.
    Raises ValueError if the window has fewer than four values.
    """
    if len(window) < FEWEST:
        raise ValueError(f"window: expected at least {FEWEST} values, got {len(window)}")
    a, b = reference.sorted, np.sort(window)
    m, n = len(a), len(b)
    gap, area, inner = merge_by_numpy(a, b) if KERNEL is None else KERNEL.merge(a, b)
    size_a, size_b = reference_size or m, window_size or n
    mean = float(b.sum()) / n
    centred = b - mean
    variance = float(centred @ centred) / (n - 1)
    return {
        "ks": kolmogorov(math.sqrt(size_a * size_b / (size_a + size_b)) * gap),
        "wasserstein": _ratio(area, math.sqrt(reference.variance)),
        "anderson": _anderson(inner, m, n),
        "jensenShannon": _jensen_shannon(reference.shares, _shares(b, reference.edges, by_value=reference.by_value)),
        "welch": _ratio(abs(mean - reference.mean), math.sqrt(reference.variance / size_a + variance / size_b)),
    }


def kolmogorov(x: float) -> float:
    """Return the survival function of Kolmogorov's distribution, both of whose series converge fast on their side."""
    if x < 0.2:  # noqa: PLR2004 - less than 1e-12 from one
        return 1.0
    if x < 1:
        terms = (math.exp(-(((2 * k - 1) * math.pi / x) ** 2) / 8) for k in range(1, 6))
        return 1 - math.sqrt(2 * math.pi) / x * sum(terms)
    return min(1.0, 2.0 * sum((-1.0) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 6)))


def _ratio(effect: float, unit: float) -> float:
    if effect < unit * UNBOUNDED:
        return effect / unit
    return UNBOUNDED if effect > 0 else 0.0


def merge_by_numpy(a: Floats, b: Floats) -> tuple[float, float, float]:
    """Merge two ascending samples: the largest gap and the area between their distribution functions, and the sum
    over their distinct values in [2] equation 7 for the first sample.
    """  # noqa: D205 - one sentence
    m, n = len(a), len(b)
    total = m + n
    from_b = np.zeros(total, dtype=np.bool_)
    from_b[np.searchsorted(a, b, side="right") + np.arange(n)] = True
    merged: Floats = np.empty(total)
    merged[from_b] = b
    merged[~from_b] = a
    last = np.flatnonzero(np.append(merged[1:] != merged[:-1], True))
    below_b = np.cumsum(from_b)[last]
    upto = last + 1.0
    below_a = upto - below_b
    gap = np.abs(below_a / m - below_b / n)
    ties = np.diff(upto, prepend=0.0)
    middle = upto - ties / 2
    middle_a = below_a - np.diff(below_a, prepend=0.0) / 2
    with np.errstate(invalid="ignore"):  # one distinct value: nothing by nothing
        inner = ties * (total * middle_a - middle * m) ** 2 / (middle * (total - middle) - total * ties / 4)
    return float(gap.max()), float(gap[:-1] @ np.diff(merged[last])), float(inner.sum())


def _anderson(inner: float, m: int, n: int) -> float:
    total = m + n
    if math.isnan(inner):
        return 0.0
    # The second sample's sum is the first's by symmetry, divided by its own size.
    statistic = inner / total * (1 / m + 1 / n) * (total - 1) / total
    return (statistic - 1) / _anderson_deviation(m, n)


@lru_cache(maxsize=4096)
def _anderson_deviation(m: int, n: int) -> float:
    """Return the standard deviation of the statistic for k = 2, [2] equation 4."""
    total = m + n
    partial = np.cumsum(1.0 / np.arange(total - 1, 1, -1))
    h = float(partial[-1]) + 1
    g = float((partial / np.arange(2, total)).sum())
    inverse = 1 / m + 1 / n
    a = (4 * g - 6) + (10 - 6 * g) * inverse
    b = (2 * g - 4) * 4 + 16 * h + (2 * g - 14 * h - 4) * inverse - 8 * h + 4 * g - 6
    c = (6 * h + 2 * g - 2) * 4 + (4 * h - 4 * g + 6) * 2 + (2 * h - 6) * inverse + 4 * h
    d = (2 * h + 6) * 4 - 8 * h
    variance = (a * total**3 + b * total**2 + c * total + d) / ((total - 1.0) * (total - 2.0) * (total - 3.0))
    return math.sqrt(variance)


def _shares(ascending: Floats, edges: Floats, *, by_value: bool) -> list[float]:
    """Return the share of a sample in each bin: up to and including an edge, or the edges and the gaps between."""
    upto = np.searchsorted(ascending, edges, side="right").tolist()
    if by_value:
        below = np.searchsorted(ascending, edges, side="left").tolist()
        upto = [count for pair in zip(below, upto, strict=True) for count in pair]
    size = len(ascending)
    return [(b - a) / size for a, b in pairwise([0, *upto, size])]


def _jensen_shannon(p: Sequence[float], q: Sequence[float]) -> float:
    """Return the distance of two distributions over a dozen bins, for which plain numbers are quicker than arrays."""
    total = 0.0
    for a, b in zip(p, q, strict=True):
        middle = (a + b) / 2
        if a > 0:
            total += a * math.log(a / middle)
        if b > 0:
            total += b * math.log(b / middle)
    return math.sqrt(max(0.0, total / 2))

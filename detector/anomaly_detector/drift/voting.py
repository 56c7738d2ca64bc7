"""From statistics to votes, from votes to a verdict."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from anomaly_detector.drift.statistics import EFFECT_SIZES, TESTS

VOTES = len(TESTS)
VOTES_WITHOUT_EFFECT = 2
"""Most votes that count unless an effect size is among them: sureness alone is no drift."""


def fires(test: str, value: float, threshold: float) -> bool:
    """Say whether a statistic votes for drift: p-values below their threshold, all others above."""
    return value < threshold if test == "ks" else value > threshold


def votes_of(statistics: Mapping[str, float], thresholds: Mapping[str, float]) -> tuple[int, tuple[str, ...]]:
    """Return how many votes count, and which tests cast one; a statistic that is NaN casts none."""
    cast = tuple(t for t in TESTS if not math.isnan(statistics[t]) and fires(t, statistics[t], thresholds[t]))
    with_effect = any(test in EFFECT_SIZES for test in cast)
    return (len(cast) if with_effect else min(len(cast), VOTES_WITHOUT_EFFECT)), cast


def confirmed(votes: NDArray[np.int_], consecutive: int) -> int:
    """Return the most votes that one feature had in each of the last `consecutive` checks.

    `votes` is (features, checks), newest last; with fewer checks nothing is confirmed yet: 0.
    """
    if votes.shape[1] < consecutive:
        return 0
    return int(votes[:, votes.shape[1] - consecutive :].min(axis=1).max())

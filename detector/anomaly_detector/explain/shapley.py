"""Shapley values of any score function, for models that no faster way is known for.

The interventional game: what a coalition does not know is taken from rows of the reference. With few features all
coalitions are asked; with more, permutations are drawn, each with its reverse [1]. Either way the contributions sum
to score - base, where base is the mean score of the reference rows that were used.

[1] R. Mitchell et al.: Sampling Permutations for Shapley Value Estimation. JMLR 23, 2022 (antithetic sampling).
"""

from collections.abc import Callable
from math import comb

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BACKGROUND_ROWS = 32
MOST_FOR_ALL = 6
"""Features up to which all coalitions are asked."""
PERMUTATIONS = 4
"""Permutations drawn for each reference row; each is also walked backwards."""


class ShapleyValues:
    """Explain `score` against a background, rows of which stand for what is not known."""

    def __init__(self, score: Callable[[Floats], Floats], background: Floats) -> None:
        picked = np.linspace(0, len(background) - 1, min(BACKGROUND_ROWS, len(background))).round().astype(int)
        self._background = background[picked]
        self._score = score
        self.base: float = float(score(self._background).mean())

    def values(self, row: Floats) -> Floats:
        """Return each feature's part of `score(row) - base`, shape (features,)."""
        return self._all_coalitions(row) if len(row) <= MOST_FOR_ALL else self._permutations(row)

    def _all_coalitions(self, row: Floats) -> Floats:
        width, count = len(row), len(self._background)
        known = (np.arange(2**width)[:, None] >> np.arange(width) & 1).astype(np.bool_)
        mixed = np.where(known[:, None, :], row, self._background[None])
        worth = self._score(mixed.reshape(-1, width)).reshape(-1, count).mean(axis=1)
        size = known.sum(axis=1)
        values = np.empty(width)
        for i in range(width):
            without = np.flatnonzero(~known[:, i])
            weights = np.array([1 / (width * comb(width - 1, s)) for s in size[without]])
            values[i] = weights @ (worth[without + (1 << i)] - worth[without])
        return values

    def _permutations(self, row: Floats) -> Floats:
        width, count = len(row), len(self._background)
        random = np.random.default_rng(0)  # the same row gets the same explanation
        orders = np.array([random.permutation(width) for _ in range(PERMUTATIONS * count)])
        orders = np.concatenate((orders, orders[:, ::-1]))
        start = np.tile(np.repeat(self._background, PERMUTATIONS, axis=0), (2, 1))
        # Step k of a walk knows the first k features of its order.
        rank = np.argsort(orders, axis=1)
        known = rank[:, None, :] < np.arange(width + 1)[None, :, None]
        mixed = np.where(known, row, start[:, None, :])
        worth = self._score(mixed.reshape(-1, width)).reshape(len(orders), width + 1)
        steps = np.diff(worth, axis=1)
        values: Floats = np.take_along_axis(steps, rank, axis=1).mean(axis=0)
        return values

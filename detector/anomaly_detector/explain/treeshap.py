"""Exact SHAP values of a forest's path length, fast enough to stand in the answer.

The game is that of path-dependent Tree SHAP [1]: what a coalition does not know, the tree averages by the training
rows that went each way. For one leaf with value v this game is a product over the features on its path: feature i
contributes 1 or 0 as the row satisfies its conditions or not (o_i) if known, and otherwise the share r_i of rows that
went along. The Shapley value of such a product is an integral of a polynomial [2],

    phi_i = v (o_i - r_i)  integral from 0 to 1 of  product over j != i of (o_j t + r_j (1 - t))  dt,

which Gauss-Legendre quadrature with half as many nodes as features on the path computes exactly. As o is all that
depends on the row, the contributions of each leaf for each pattern of o are laid down in a table where that fits
into memory: a row then costs two comparisons a leaf and feature, one look-up a leaf, and a sum.

[1] S. M. Lundberg et al.: From local explanations to global understanding with explainable AI for trees. Nature
    Machine Intelligence 2, 2020. The library `shap` (TreeExplainer, feature_perturbation="tree_path_dependent").
[2] The multilinear extension of a game: G. Owen, Management Science 18, 1972.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anomaly_detector.native import KERNEL, Addresses
from anomaly_detector.scoring.forest import FlatForest

Floats = NDArray[np.float64]
TABLE_BYTES = 48 * 2**20
"""Largest table of patterns; beyond, rows are computed by quadrature."""
BITS = 8


@dataclass(frozen=True, slots=True)
class Leaves:
    """The leaves of a forest as boxes: what a row must satisfy to end in one, and how many rows do by feature."""

    low: NDArray[np.float32]
    """Values must be above it; shape (features, leaves)."""
    high: NDArray[np.float32]
    """Values must not be above it; shape (features, leaves)."""
    missing: NDArray[np.bool_]
    """Whether NaN satisfies the conditions; shape (features, leaves)."""
    share: Floats
    """Share of training rows that a feature's splits let through, 1 where there are none; (leaves, features)."""
    value: Floats
    """Path length, shape (leaves,)."""

    @classmethod
    def of(cls, forest: FlatForest) -> "Leaves":
        """Walk all trees at once, a level at a time, narrowing each node's box from its parent's."""
        nodes, width = len(forest.left), forest.width
        low = np.full((nodes, width), -np.inf, dtype=np.float32)
        high = np.full((nodes, width), np.inf, dtype=np.float32)
        missing = np.ones((nodes, width), dtype=np.bool_)
        share = np.ones((nodes, width))
        level = forest.roots
        while True:
            level = level[forest.left[level] != level]
            if not len(level):
                break
            split, left = forest.feature[level], forest.left[level]
            for child, is_left in ((left, True), (left + 1, False)):
                for box in (low, high, missing, share):
                    box[child] = box[level]
                share[child, split] *= forest.cover[child] / forest.cover[level]
                missing[child, split] &= forest.missing_left[level] == is_left
                if is_left:
                    high[child, split] = np.minimum(high[child, split], forest.threshold[level])
                else:
                    low[child, split] = np.maximum(low[child, split], forest.threshold[level])
            level = np.concatenate((left, left + 1))
        ends = np.flatnonzero(forest.left == np.arange(nodes))
        return cls(
            low=np.ascontiguousarray(low[ends].T),
            high=np.ascontiguousarray(high[ends].T),
            missing=np.ascontiguousarray(missing[ends].T),
            share=share[ends],
            value=forest.value[ends],
        )

    def satisfied(self, row: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which features' conditions a row satisfies, shape (features, leaves)."""
        column = row[:, None]
        met: NDArray[np.bool_] = (column > self.low) & (column <= self.high)
        # No value is above -inf but -inf itself goes left everywhere: it must meet boxes that are open below.
        special = ~np.isfinite(row)
        if special.any():
            met[special] |= (self.low[special] == -np.inf) & (column[special] <= self.high[special])
            met = np.where(np.isnan(column), self.missing, met)
        return met


class TreeShap:
    """Explain the summed path length of a forest."""

    def __init__(self, forest: FlatForest, *, table_bytes: int = TABLE_BYTES) -> None:
        self._leaves = leaves = Leaves.of(forest)
        self.expected: float = float(leaves.value @ leaves.share.prod(axis=1))
        """Path length where nothing is known, summed over the trees."""
        used = leaves.share < 1
        self._longest = max(1, int(used.sum(axis=1).max(initial=0)))
        self._nodes, self._weights = _gauss_legendre(self._longest)
        patterns = 2**forest.width
        small = forest.width <= BITS and leaves.share.size * patterns * 8 <= table_bytes
        self._table = self._tabulate(forest.width) if small else None
        self._first = np.arange(len(leaves.value), dtype=np.intp) * patterns if small else None
        if self._table is None:
            self._narrow(used)
        else:
            self._addresses = Addresses(leaves.low, leaves.high, leaves.missing, self._table)

    @property
    def tabulated(self) -> bool:
        """Whether a row costs a look-up, not a computation."""
        return self._table is not None

    def values(self, rows: NDArray[np.float32]) -> Floats:
        """Return each feature's share of `path length - expected`, shape (rows, features)."""
        if KERNEL is not None and self._table is not None:
            return KERNEL.shap_values(rows, self._addresses, len(self._leaves.value))
        return self.values_by_numpy(rows)

    def values_by_numpy(self, rows: NDArray[np.float32]) -> Floats:
        """Do the same without the compiled kernel."""
        one = self._from_table if self._table is not None else self._by_quadrature
        return np.array([one(row) for row in rows]).reshape(rows.shape)

    def _tabulate(self, width: int) -> Floats:
        """Return contributions by leaf and pattern, flattened to (leaves * patterns, features)."""
        leaves = self._leaves
        patterns = (np.arange(2**width)[:, None] >> np.arange(width) & 1).astype(np.float64)
        table = np.empty((len(leaves.value), len(patterns), width))
        for place, pattern in enumerate(patterns):
            table[:, place] = self._contributions(pattern[None, :], leaves.share)
        return table.reshape(-1, width)

    def _contributions(self, met: Floats, share: Floats) -> Floats:
        """Return contributions where conditions are met (1) or not (0); both (leaves, features on the path)."""
        total = np.zeros(np.broadcast_shapes(met.shape, share.shape))
        for t, weight in zip(self._nodes, self._weights, strict=True):
            factor = met * t + share * (1 - t)  # positive: some training row went along
            total += weight * (factor.prod(axis=1, keepdims=True) / factor)
        return total * (met - share) * self._leaves.value[:, None]

    def _from_table(self, row: NDArray[np.float32]) -> Floats:
        if self._table is None or self._first is None:
            raise TypeError("no table")
        pattern = np.packbits(self._leaves.satisfied(row), axis=0, bitorder="little")[0]
        total: Floats = self._table.take(self._first + pattern, axis=0).sum(axis=0)
        return total

    def _narrow(self, used: NDArray[np.bool_]) -> None:
        """Keep, for each leaf, the features on its path only, padded with features that change nothing."""
        order = np.argsort(~used, axis=1, kind="stable")[:, : self._longest]
        self._columns = order
        self._shares = np.take_along_axis(self._leaves.share, order, axis=1)

    def _by_quadrature(self, row: NDArray[np.float32]) -> Floats:
        met = np.take_along_axis(self._leaves.satisfied(row).T, self._columns, axis=1).astype(np.float64)
        contributions = self._contributions(met, self._shares)
        total = np.bincount(self._columns.ravel(), weights=contributions.ravel(), minlength=len(row))
        return total.astype(np.float64, copy=False)


def _gauss_legendre(features: int) -> tuple[Floats, Floats]:
    """Return nodes and weights on [0, 1], exact for the product of all but one of `features` linear factors."""
    nodes, weights = np.polynomial.legendre.leggauss((features + 1) // 2)
    return (nodes + 1) / 2, weights / 2

"""Exact SHAP values of a forest's path length, fast enough to stand in the answer.

The game is that of path-dependent Tree SHAP [1]: what a coalition does not know, the tree averages by the training
rows that went each way. For one leaf with value v this game is a product over the features on its path: feature i
contributes 1 or 0 as the row satisfies its conditions or not (o_i) if known, and otherwise the share r_i of rows that
went along. The Shapley value of such a product is an integral of a polynomial [2],

    phi_i = v (o_i - r_i)  integral from 0 to 1 of  product over j != i of (o_j t + r_j (1 - t))  dt,

which Gauss-Legendre quadrature with half as many nodes as features on the path computes exactly. As o is all that
depends on the row, the contributions of each leaf for each pattern of o are laid down in a table where that fits
into memory: a row then costs two comparisons for each feature on a leaf's path, one look-up a leaf, and a sum.

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
"""Largest tables of patterns, together; leaves beyond are computed by quadrature."""
MOST_CELLS = 2_000_000
"""Nodes times features up to which boxes are kept: about 35 MB while they are made."""
MOST_TABULATED = 8
"""Features on a path up to which its patterns are tabulated."""


@dataclass(frozen=True, slots=True)
class Leaves:
    """The leaves of a forest as boxes: what a row must satisfy to end in one, and how many rows do by feature.

    All but `value` are (leaves, features).
    """

    low: NDArray[np.float32]
    """Values must be above it."""
    high: NDArray[np.float32]
    """Values must not be above it."""
    missing: NDArray[np.bool_]
    """Whether NaN satisfies the conditions."""
    share: Floats
    """Share of training rows that a feature's splits let through, 1 where there are none."""
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
        return cls(low[ends], high[ends], missing[ends], share[ends], forest.value[ends])

    def satisfied(self, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which conditions are met by a row, or by one value for each condition."""
        met: NDArray[np.bool_] = (values > self.low) & (values <= self.high)
        if not np.isfinite(values).all():
            # No value is above -inf, but -inf itself goes left everywhere: it meets the boxes that are open below.
            met = np.where(np.isnan(values), self.missing, met | (self.low == -np.inf) & (values <= self.high))
        return met


class TreeShap:
    """Explain the summed path length of a forest."""

    def __init__(self, forest: FlatForest, *, table_bytes: int = TABLE_BYTES) -> None:
        leaves = Leaves.of(forest)
        self.expected: float = float(leaves.value @ leaves.share.prod(axis=1))
        """Path length where nothing is known, summed over the trees."""
        used = leaves.share < 1
        lengths = used.sum(axis=1)
        self._groups = []
        for length in range(1, int(lengths.max(initial=0)) + 1):
            chosen = np.flatnonzero(lengths == length)
            if len(chosen):
                size = len(chosen) * 2**length * length * 8
                tabulate = length <= MOST_TABULATED and size <= table_bytes
                table_bytes -= size if tabulate else 0
                self._groups.append(_Group(leaves, chosen, used, length, tabulate=tabulate))

    @property
    def tabulated(self) -> bool:
        """Whether a row costs look-ups, not computation."""
        return all(group.table is not None for group in self._groups)

    def values(self, rows: NDArray[np.float32]) -> Floats:
        """Return each feature's share of `path length - expected`, shape (rows, features)."""
        values = np.zeros(rows.shape)
        for group in self._groups:
            if KERNEL is not None and group.addresses is not None:
                KERNEL.shap_values(rows, group.addresses, group.runs, group.length, values)
            else:
                group.add(rows, values)
        return values

    def values_by_numpy(self, rows: NDArray[np.float32]) -> Floats:
        """Do the same without the compiled kernel."""
        values = np.zeros(rows.shape)
        for group in self._groups:
            group.add(rows, values)
        return values


def fits(forest: FlatForest) -> bool:
    """Say whether a forest is small enough for its leaves to be laid out as boxes.

    Trees grown on thousands of rows each, for dozens of features, are not; 256 rows, the default, are.
    """
    return len(forest.left) * forest.width <= MOST_CELLS


class _Group:
    """Leaves with equally many features on their paths."""

    def __init__(
        self, leaves: Leaves, chosen: NDArray[np.intp], used: NDArray[np.bool_], length: int, *, tabulate: bool
    ) -> None:
        columns = np.nonzero(used[chosen])[1].reshape(-1, length)
        order = np.lexsort(columns.T)  # those with the same features side by side, as the kernel wants them
        chosen, self.columns = chosen[order], columns[order]
        place = (chosen[:, None], self.columns)
        low, high, missing = leaves.low[place], leaves.high[place], leaves.missing[place]
        self._leaves = Leaves(low, high, missing, leaves.share[place], leaves.value[chosen])
        self.length = length
        self._nodes, self._weights = _gauss_legendre(length)
        self.table = self._tabulate(length) if tabulate else None
        self._first = np.arange(len(chosen)) << length
        self.addresses = None
        if self.table is not None:
            starts = np.flatnonzero(np.append(True, (self.columns[1:] != self.columns[:-1]).any(axis=1)))
            self.runs = len(starts)
            kinds = self.columns[starts].astype(np.int32)
            ends = np.append(starts, len(chosen)).astype(np.int64)
            self.addresses = Addresses(low.T, high.T, missing.T, kinds, ends, self.table)

    def add(self, rows: NDArray[np.float32], values: Floats) -> None:
        """Add the leaves' contributions for each row to `values`."""
        for i, row in enumerate(rows):
            met = self._leaves.satisfied(row[self.columns])
            if self.table is None:
                found = self._contributions(met.astype(np.float64))
            else:
                pattern = np.packbits(met, axis=1, bitorder="little")[:, 0]
                found = self.table.take(self._first + pattern, axis=0)
            values[i] += np.bincount(self.columns.ravel(), weights=found.ravel(), minlength=len(row))

    def _tabulate(self, length: int) -> Floats:
        """Return contributions by leaf and pattern, shape (leaves * patterns, features on the path)."""
        patterns = (np.arange(2**length)[:, None] >> np.arange(length) & 1).astype(np.float64)
        table = np.empty((len(self._leaves.value), len(patterns), length))
        for place, pattern in enumerate(patterns):
            table[:, place] = self._contributions(pattern)
        return table.reshape(-1, length)

    def _contributions(self, met: Floats) -> Floats:
        """Return contributions where conditions are met (1) or not (0), shape (leaves, features on the path)."""
        share = self._leaves.share
        total = np.zeros(share.shape)
        for t, weight in zip(self._nodes, self._weights, strict=True):
            factor = met * t + share * (1 - t)  # positive: some training row went along
            total += weight * (factor.prod(axis=1, keepdims=True) / factor)
        return total * (met - share) * self._leaves.value[:, None]


def _gauss_legendre(features: int) -> tuple[Floats, Floats]:
    """Return nodes and weights on [0, 1], exact for the product of all but one of `features` linear factors."""
    nodes, weights = np.polynomial.legendre.leggauss((features + 1) // 2)
    return (nodes + 1) / 2, weights / 2

"""A forest of isolation trees as flat arrays, scored with NumPy exactly as scikit-learn scores it.

scikit-learn spends milliseconds per call before it reaches a tree; these arrays need microseconds and no
scikit-learn. What makes the scores exact:

- A split compares the row *rounded to float32* with the threshold. `x32 <= t` for a float64 threshold t equals
  `x32 <= t32`, where t32 is the largest float32 not above t, so thresholds are stored as float32.
- NaN follows the child that training chose for missing values (`missing_go_to_left`).
- Path lengths are summed in the order of the trees, as floating-point sums depend on their order.
- score = 2 ** -(sum of path lengths / (trees * c(samples per tree))), [1] equation 2, with the same operations.

[1] F. T. Liu, K. M. Ting, Z.-H. Zhou: Isolation Forest. ICDM 2008.
"""

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_detector.native import KERNEL, NODE, WIDEST, Forest

Floats = NDArray[np.float64]
CHUNK_ROWS = 512
"""Rows that are walked through the trees at a time, so that the working arrays stay in the cache."""


@dataclass(frozen=True, slots=True)
class FlatForest:
    """Trees as arrays over all nodes of all trees; a node's right child stands right after its left child."""

    feature: NDArray[np.int32]
    """Feature that a node splits on, 0 in leaves."""
    threshold: NDArray[np.float32]
    """Go left if float32(x) <= threshold; +inf in leaves."""
    left: NDArray[np.int32]
    """Left child; a leaf is its own."""
    missing_left: NDArray[np.bool_]
    """Whether NaN goes left; true in leaves."""
    value: Floats
    """Path length that ends in a leaf: its depth plus the expected rest for the rows it holds; 0 in inner nodes."""
    cover: Floats
    """Training rows in the node."""
    roots: NDArray[np.int32]
    """Root of each tree."""
    depth: int
    """Comparisons on the longest path."""
    denominator: float
    """Trees * c(samples per tree); 0 if each tree saw a single row."""
    width: int
    """Features of a row."""
    native: Forest = field(init=False, repr=False, compare=False)
    """The same for the compiled kernel."""

    def __post_init__(self) -> None:
        nodes = np.empty(len(self.left), dtype=NODE)
        for name in NODE.names or ():
            nodes[name] = getattr(self, name)
        native = Forest(nodes, self.value, self.roots, depth=self.depth, width=self.width)
        object.__setattr__(self, "native", native)

    @classmethod
    def from_arrays(cls, arrays: Any) -> "FlatForest":
        """Build from a mapping of array names to arrays, such as an open `.npz` file."""
        found = {f.name: arrays[f.name] for f in fields(cls) if f.init}
        return cls(**{name: array if array.shape else array.item() for name, array in found.items()})

    def to_arrays(self) -> dict[str, Any]:
        """Return what `from_arrays` reads."""
        return {f.name: np.asarray(getattr(self, f.name)) for f in fields(self) if f.init}

    def leaves(self, rows: NDArray[np.float32]) -> NDArray[np.int32]:
        """Return the leaf (index of its node) that each row reaches in each tree, shape (trees, rows)."""
        count, width = rows.shape
        flat = np.ascontiguousarray(rows).ravel()
        start = np.arange(0, count * width, width, dtype=np.int32)
        node = np.repeat(self.roots[:, None], count, axis=1)
        missing = np.isnan(flat)
        if not missing.any():
            for _ in range(self.depth):
                values = flat.take(self.feature.take(node) + start)
                node = self.left.take(node) + (values > self.threshold.take(node))
            return node
        for _ in range(self.depth):
            cell = self.feature.take(node) + start
            right = np.where(
                missing.take(cell), ~self.missing_left.take(node), flat.take(cell) > self.threshold.take(node)
            )
            node = self.left.take(node) + right
        return node

    def path_lengths(self, rows: Floats) -> Floats:
        """Return the summed path length of each row over all trees, shape (rows,)."""
        if KERNEL is not None and self.width <= WIDEST:
            return KERNEL.path_lengths(rows, self.native)
        return self.path_lengths_by_numpy(rows)

    def path_lengths_by_numpy(self, rows: Floats) -> Floats:
        """Do the same without the compiled kernel."""
        total = np.empty(len(rows))
        for at in range(0, len(rows), CHUNK_ROWS):
            leaves = self.leaves(as_float32(rows[at : at + CHUNK_ROWS]))
            # A cumulative sum keeps the order of the trees; np.sum may pair them otherwise.
            total[at : at + CHUNK_ROWS] = np.cumsum(self.value.take(leaves), axis=0)[-1]
        return total

    def score_of(self, path_lengths: Floats) -> Floats:
        """Turn summed path lengths into anomaly scores, shape (rows,)."""
        if self.denominator == 0:
            return np.full(len(path_lengths), 0.5)
        scores: Floats = np.power(2.0, path_lengths / -self.denominator)
        return scores


def as_float32(rows: Floats) -> NDArray[np.float32]:
    """Round rows as scikit-learn does before it compares; what is too large becomes infinite."""
    with np.errstate(over="ignore"):
        return rows.astype(np.float32)


def floor32(thresholds: Floats) -> NDArray[np.float32]:
    """Return the largest float32 that is not above each threshold."""
    rounded = as_float32(thresholds)
    return np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)

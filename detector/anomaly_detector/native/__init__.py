"""The compiled kernel, where there is one: `KERNEL` is None otherwise, and NumPy does the same work.

`hatch_build.py` compiles `kernel.c` when the package is built, if it finds a C compiler; an installation from a
wheel without it, or `ANOMALY_NATIVE=0`, means NumPy.
"""

import ctypes
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SOURCE = Path(__file__).with_name("kernel.c")
LIBRARY = Path(__file__).with_name("kernel.so")

NODE = np.dtype(
    [("threshold", np.float32), ("left", np.int32), ("feature", np.int32), ("missing_left", np.int32)], align=True
)
"""`struct node` of kernel.c."""
WIDEST = 4096
"""Features of a row that `path_length` may round on the stack."""


class Kernel:
    """Typed calls into the compiled kernel; arrays must be C-contiguous and of the dtypes named.

    Raises OSError or AttributeError if the library cannot be used here, ValueError if its source is another.
    """

    def __init__(self, library: Path) -> None:
        loaded = ctypes.CDLL(str(library))
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        loaded.source_hash.restype = number
        wanted = int(hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:15], 16)
        if loaded.source_hash() != wanted:
            raise ValueError(f"{library.name} was compiled from another {SOURCE.name}")
        self._path_lengths = loaded.path_lengths
        self._path_lengths.argtypes = [pointer, number, pointer, pointer]
        self._shap_values = loaded.shap_values
        self._shap_values.argtypes = [pointer, number, number, *[pointer] * 6, number, number, pointer]
        self._merge = loaded.merge
        self._merge.argtypes = [pointer, number, pointer, number, pointer]
        for function in (self._path_lengths, self._shap_values, self._merge):
            function.restype = None
        # So short that letting other threads run meanwhile would take longer.
        self._path_length = ctypes.PyDLL(str(library)).path_length
        self._path_length.argtypes = [ctypes.c_char_p, pointer]
        self._path_length.restype = ctypes.c_double

    def path_lengths(self, rows: Floats, forest: "Forest") -> Floats:
        """Return the summed path lengths of rows (n, features), which are rounded to float32 as scikit-learn does."""
        rows = np.ascontiguousarray(rows, dtype=np.float64)
        if len(rows) == 1:  # to find out where an array lies takes longer than all that is done there
            return np.array([self._path_length(rows.tobytes(), forest.address)])
        total = np.empty(len(rows))
        self._path_lengths(rows.ctypes.data, len(rows), forest.address, total.ctypes.data)
        return total

    def shap_values(
        self, rows: NDArray[np.float32], leaves: "Addresses", runs: int, length: int, values: Floats
    ) -> None:
        """Add contributions to `values`; `leaves` are the arrays of `struct leaves` in kernel.c."""
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        self._shap_values(rows.ctypes.data, *rows.shape, *leaves.pointers, runs, length, values.ctypes.data)

    def merge(self, a: Floats, b: Floats) -> tuple[float, float, float]:
        """Return gap, area and Anderson-Darling's sum of two ascending samples."""
        found = np.empty(3)
        self._merge(a.ctypes.data, len(a), b.ctypes.data, len(b), found.ctypes.data)
        gap, area, inner = found.tolist()
        return gap, area, inner


class Addresses:
    """Arrays that stay, and where they lie."""

    def __init__(self, *arrays: NDArray[Any]) -> None:
        self._arrays = tuple(np.ascontiguousarray(array) for array in arrays)
        self.pointers = tuple(array.ctypes.data for array in self._arrays)


class Forest:
    """`struct forest` of kernel.c, and the arrays that it points to: nodes (dtype NODE), their values, the roots."""

    class _Fields(ctypes.Structure):
        _fields_ = (
            *((name, ctypes.c_void_p) for name in ("nodes", "value", "roots")),
            *((name, ctypes.c_int64) for name in ("trees", "depth", "width")),
        )

    def __init__(self, nodes: NDArray[Any], value: Floats, roots: NDArray[np.int32], *, depth: int, width: int) -> None:
        self._arrays = Addresses(nodes, value, roots)
        self._fields = self._Fields(*self._arrays.pointers, len(roots), depth, width)
        self.address = ctypes.addressof(self._fields)


def _load() -> Kernel | None:
    if os.environ.get("ANOMALY_NATIVE") == "0" or not LIBRARY.is_file():
        return None
    try:
        return Kernel(LIBRARY)
    except (OSError, AttributeError, ValueError):  # built for another machine, or from another source
        return None


KERNEL = _load()

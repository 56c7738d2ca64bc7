"""Whether numbers are usual ones, at a glance."""

import numpy as np
from numpy.typing import NDArray

LARGEST = 1e38
"""Below the largest float32."""
_SCALE = 1e-160  # so that squares stay finite
_MOST = (LARGEST * _SCALE) ** 2


def are_usual(values: NDArray[np.float64]) -> bool:
    """Say yes if no value is NaN, infinite, or nearly too large for a float32.

    Their sum of squares tells, sooner than each of them if asked. No may also mean many large ones.
    """
    scaled = values.ravel() * _SCALE
    return bool(scaled.dot(scaled) <= _MOST)

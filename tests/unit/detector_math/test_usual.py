"""A glance at numbers never overlooks one that is not usual."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from anomaly_detector.usual import LARGEST, are_usual


@pytest.mark.filterwarnings("error::RuntimeWarning")  # NumPy's, of an overflow
@given(arrays(np.float64, (3, 4), elements=st.floats()))
def test_only_usual_numbers_are_called_so(values):
    if are_usual(values):
        assert (np.abs(values) <= LARGEST).all()


@pytest.mark.parametrize("value", [0.0, -1.5, 1e-300, 5e37])
def test_usual_numbers_are(value):
    assert are_usual(np.array([[value, 1.0]]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39, -1.7e308])
def test_others_are_not(value):
    assert not are_usual(np.array([[value, 1.0]]))


def test_nothing_is_usual():
    assert are_usual(np.empty((0, 3)))

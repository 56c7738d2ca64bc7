"""The compiled kernel and NumPy do the same; without a compiler nothing is missing but speed."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import IsolationForest

from anomaly_detector import native
from anomaly_detector.drift.statistics import merge_by_numpy
from anomaly_detector.explain.treeshap import TreeShap
from anomaly_detector.scoring.estimators import flatten_forest

compile_kernel = runpy.run_path(str(Path(__file__).parents[3] / "hatch_build.py"))["compile_kernel"]

compiled = pytest.mark.skipif(
    native.KERNEL is None, reason="the kernel was not compiled: no C compiler at installation"
)
SETTINGS = settings(max_examples=25)


def rows_with_gaps(seed, count, width):
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, width)).astype(np.float32)
    for value in (np.nan, np.inf, -np.inf):
        rows[random.random(rows.shape) < 0.1] = value
    return rows


@compiled
@SETTINGS
@given(seed=st.integers(0, 1000), trees=st.integers(1, 20), width=st.integers(1, 8), count=st.integers(0, 30))
def test_path_lengths_are_the_same_to_the_last_bit(seed, trees, width, count):
    random = np.random.default_rng(seed)
    data = random.normal(size=(300, width))
    data[random.random(data.shape) < 0.1] = np.nan
    flat = flatten_forest(IsolationForest(n_estimators=trees, random_state=seed).fit(data))
    rows = rows_with_gaps(seed, count, width)
    expected = flat.path_lengths_by_numpy(rows)
    assert np.array_equal(native.KERNEL.path_lengths(rows, flat.native), expected)
    assert [native.KERNEL.path_lengths(row[None], flat.native)[0] for row in rows] == expected.tolist()


@compiled
@SETTINGS
@given(seed=st.integers(0, 1000), width=st.integers(1, 6), count=st.integers(0, 10))
def test_shap_values_are_the_same(seed, width, count):
    data = np.random.default_rng(seed).normal(size=(300, width))
    tree = TreeShap(flatten_forest(IsolationForest(n_estimators=10, random_state=seed).fit(data)))
    rows = rows_with_gaps(seed, count, width)
    assert tree.tabulated
    assert np.abs(tree.values(rows) - tree.values_by_numpy(rows)).max(initial=0.0) < 1e-10


@compiled
@SETTINGS
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=60), st.lists(st.integers(-5, 9), min_size=1, max_size=60))
def test_merging_finds_the_same(a, b):
    first, second = (np.sort(np.array(x, dtype=np.float64)) / 3 for x in (a, b))
    by_kernel, by_numpy = native.KERNEL.merge(first, second), merge_by_numpy(first, second)
    assert by_kernel == pytest.approx(by_numpy, rel=1e-12, abs=1e-12, nan_ok=True)


def test_the_kernel_can_be_switched_off_by_the_environment():
    program = "from anomaly_detector.native import KERNEL; print(KERNEL)"
    done = subprocess.run(
        [sys.executable, "-c", program], env={"ANOMALY_NATIVE": "0"}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "None\n"


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_library_from_another_source_is_not_used(tmp_path):
    (tmp_path / "kernel.c").write_bytes(native.SOURCE.read_bytes() + b"\n/* changed */\n")
    compile_kernel(tmp_path, "cc")
    with pytest.raises(ValueError, match=r"kernel\.so was compiled from another kernel\.c"):
        native.Kernel(tmp_path / "kernel.so")


def forest_of(width):
    data = np.random.default_rng(0).normal(size=(99, width))
    return flatten_forest(IsolationForest(n_estimators=5, random_state=0).fit(data))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 40])
def test_rows_of_any_layout_and_precision_are_taken(kind, count):
    flat = forest_of(2)
    rows = np.random.default_rng(1).normal(size=(2, count)).astype(kind)
    assert np.array_equal(flat.path_lengths(rows.T), flat.path_lengths_by_numpy(np.ascontiguousarray(rows.T)))


@pytest.mark.parametrize("width", [native.WIDEST, native.WIDEST + 1])
def test_rows_of_any_width_are_taken(width):
    flat = forest_of(width)
    rows = np.random.default_rng(1).normal(size=(3, width))
    assert np.array_equal(flat.path_lengths(rows), flat.path_lengths_by_numpy(rows))

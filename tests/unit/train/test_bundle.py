import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from anomaly_detector.bundle import FOLDER, Bundle, BundleError, digest, read_bundle, size, write_bundle

BUNDLE = Bundle(
    features=("cpu", "memory"),
    units={"cpu": "%"},
    descriptions={"cpu": "busy share of all cores"},
    contamination=0.15,
    threshold=0.52,
    estimator="IsolationForest",
    format="skops",
    trained_at="2026-01-01T00:00:00+00:00",
    training_rows=3,
    libraries={"scikit-learn": "1.9.1"},
    calibration={"window": 500, "thresholds": {"cpu": {"ks": 0.05}}},
    reference=np.array([[1.0, 2.0], [3.0, np.nan]]),
    scores=np.array([0.1, 0.2, 0.7]),
)


def test_what_was_written_is_read_back(tmp_path):
    write_bundle(tmp_path / FOLDER, BUNDLE)
    read = read_bundle(tmp_path)
    for name in Bundle.__slots__:
        np.testing.assert_equal(getattr(read, name), getattr(BUNDLE, name))


def test_a_model_without_a_bundle_has_none(tmp_path):
    assert read_bundle(tmp_path) is None


def test_an_adopted_model_may_lack_contamination_and_calibration(tmp_path):
    write_bundle(tmp_path / FOLDER, replace(BUNDLE, contamination=None, calibration=None))
    read = read_bundle(tmp_path)
    assert read is not None
    assert (read.contamination, read.calibration) == (None, None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schemaVersion": 2}, "schemaVersion: expected 1, got 2"),
        ({"threshold": "high"}, "threshold: expected a finite number, got 'high'"),
        ({"format": "onnx"}, "format: expected skops or cloudpickle, got 'onnx'"),
        ({"features": ["cpu"]}, r"reference.npy: expected rows x 1 as the features say, got shape \(2, 2\)"),
        ({"features": [1]}, "features: expected names"),
        ({"libraries": None}, "libraries: expected dict, got None"),
    ],
)
def test_a_damaged_bundle_is_refused_naming_file_and_field(tmp_path, change, words):
    description = write_bundle(tmp_path / FOLDER, BUNDLE)[0]
    description.write_text(json.dumps(json.loads(description.read_text()) | change))
    with pytest.raises(BundleError, match=words):
        read_bundle(tmp_path)


def test_a_cut_off_reference_is_refused(tmp_path):
    reference = write_bundle(tmp_path / FOLDER, BUNDLE)[1]
    reference.write_bytes(reference.read_bytes()[:90])
    with pytest.raises(BundleError, match=r"reference.npy: cannot be read"):
        read_bundle(tmp_path)


def test_the_digest_is_the_hash_of_sorted_paths_and_hashes(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_bytes(b"")
    (tmp_path / "a").write_bytes(b"hello")
    # computed with coreutils: the sorted lines of sha256sum, hashed with sha256sum
    assert digest(tmp_path) == "sha256:e50df3f7d71ba4f23d0bcb7c8f8ea61319307830599d758c3f060c7535e66a9c"
    assert size(tmp_path) == 5


def test_the_digest_does_not_depend_on_how_the_folder_was_downloaded(tmp_path):
    (tmp_path / "MLmodel").write_text("flavors: {}")
    by_model_id = digest(tmp_path)
    (tmp_path / "registered_model_meta").write_text("model_name: m")
    assert digest(tmp_path) == by_model_id


@pytest.mark.parametrize("change", ["content", "name", "more"])
def test_any_change_of_a_file_changes_the_digest(tmp_path, change):
    (tmp_path / "MLmodel").write_text("one")
    before = digest(tmp_path)
    match change:
        case "content":
            (tmp_path / "MLmodel").write_text("two")
        case "name":
            (tmp_path / "MLmodel").rename(tmp_path / "mlmodel")
        case "more":
            (tmp_path / "other").write_text("")
    assert digest(tmp_path) != before


def test_an_empty_folder_has_no_digest(tmp_path):
    with pytest.raises(FileNotFoundError, match="no files"):
        digest(tmp_path)


@pytest.mark.parametrize("module", ["anomaly_detector.bundle", "anomaly_detector.train.__main__"])
def test_what_must_start_quickly_imports_no_data_science(module):
    heavy = {"mlflow", "pandas", "scipy", "shap", "sklearn"}
    program = f"import {module}, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert heavy.isdisjoint(loaded)

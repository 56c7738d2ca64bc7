"""The bundle: what training leaves beside a model for those who serve, explain and watch it; and its digest.

Needs NumPy and the standard library only, because the lean server reads it too.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

SCHEMA_VERSION = 1
FOLDER = "extra_files"
DESCRIPTION = "anomaly.json"
REFERENCE = "reference.npy"
SCORES = "scores.npy"
REGISTRY_FILE = "registered_model_meta"  # added by downloads through a name or an alias, absent from those by model id
MAX_SCORES = 10_001

Format = Literal["skops", "cloudpickle"]
Floats = NDArray[np.float64]


class BundleError(ValueError):
    """Say why a bundle cannot be used: which file and field, what was expected, what was there."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bundle:
    """What is known of a model beyond its weights."""

    features: tuple[str, ...]
    units: Mapping[str, str] = field(default_factory=dict)
    """By feature; absent where there is none."""
    descriptions: Mapping[str, str] = field(default_factory=dict)
    contamination: float | None
    """Share of the training rows that the model calls anomalous; none where the estimator has no such parameter."""
    threshold: float
    """A row whose score (`-score_samples`) is above it is anomalous."""
    estimator: str
    """Class of the pipeline's last step, for example `IsolationForest`."""
    format: Format
    trained_at: str
    """RFC 3339."""
    training_rows: int
    libraries: Mapping[str, str]
    """Versions by distribution name; `scikit-learn` is checked before a model is loaded."""
    calibration: Mapping[str, Any] | None
    """Drift thresholds as docs/pod-contract.md describes them; none where the model was adopted without data."""
    reference: Floats
    """Rows x features: a time-ordered systematic sample of the training rows."""
    scores: Floats
    """Quantiles of the training rows' scores, ascending, at most 10,001."""


def digest(folder: Path) -> str:
    """Return `sha256:` and the hex digest of a model folder, the same wherever and however it was downloaded.

    It is the SHA-256 of the sorted lines `<path> <sha256 of the file>`, paths relative and with `/`; the file
    that the registry adds to some downloads is left out. Raises FileNotFoundError when `folder` holds no file.
    """
    lines = sorted(f"{path.relative_to(folder).as_posix()} {_file_hash(path)}\n" for path in _files(folder))
    if not lines:
        raise FileNotFoundError(f"{folder}: no files to compute a digest of")
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def size(folder: Path) -> int:
    """Return the bytes of the files that the digest covers."""
    return sum(path.stat().st_size for path in _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    return (p for p in folder.rglob("*") if p.is_file() and p != folder / REGISTRY_FILE)


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bundle(folder: Path, bundle: Bundle) -> tuple[Path, ...]:
    """Write the bundle's files to `folder`, which is made if need be, and return their paths.

    `folder` is the place for the files themselves (a model's `extra_files`), not the model folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = (folder / DESCRIPTION, folder / REFERENCE, folder / SCORES)
    description = {
        "schemaVersion": SCHEMA_VERSION,
        "features": list(bundle.features),
        "units": dict(bundle.units),
        "descriptions": dict(bundle.descriptions),
        "contamination": bundle.contamination,
        "threshold": bundle.threshold,
        "estimator": bundle.estimator,
        "format": bundle.format,
        "trainedAt": bundle.trained_at,
        "trainingRows": bundle.training_rows,
        "libraries": dict(bundle.libraries),
        "calibration": None if bundle.calibration is None else dict(bundle.calibration),
    }
    paths[0].write_text(json.dumps(description, indent=2, allow_nan=False) + "\n")
    np.save(paths[1], np.ascontiguousarray(bundle.reference, dtype=np.float64), allow_pickle=False)
    np.save(paths[2], np.ascontiguousarray(bundle.scores, dtype=np.float64), allow_pickle=False)
    return paths


def read_bundle(model_folder: Path) -> Bundle | None:
    """Read the bundle of a model folder; none if it has no `extra_files/anomaly.json`.

    Raises BundleError when there is one that cannot be used.
    """
    folder = model_folder / FOLDER
    try:
        text = (folder / DESCRIPTION).read_text()
    except FileNotFoundError:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BundleError(f"{DESCRIPTION}: not JSON: {error}") from None
    if not isinstance(value, dict) or value.get("schemaVersion") != SCHEMA_VERSION:
        found = value.get("schemaVersion") if isinstance(value, dict) else type(value).__name__
        raise BundleError(f"{DESCRIPTION}: schemaVersion: expected {SCHEMA_VERSION}, got {found!r}")
    features = tuple(_field(value, "features", list))
    if not features or not all(isinstance(name, str) for name in features):
        raise BundleError(f"{DESCRIPTION}: features: expected names, got {list(features)!r}")
    return Bundle(
        features=features,
        units=_field(value, "units", dict),
        descriptions=_field(value, "descriptions", dict),
        contamination=None if value.get("contamination") is None else _number(value, "contamination"),
        threshold=_number(value, "threshold"),
        estimator=_field(value, "estimator", str),
        format=_format(value),
        trained_at=_field(value, "trainedAt", str),
        training_rows=_field(value, "trainingRows", int),
        libraries=_field(value, "libraries", dict),
        calibration=None if value.get("calibration") is None else _field(value, "calibration", dict),
        reference=_array(folder / REFERENCE, columns=len(features)),
        scores=_array(folder / SCORES, columns=None),
    )


def _field(value: dict[str, Any], name: str, kind: type) -> Any:
    found = value.get(name)
    if not isinstance(found, kind):
        raise BundleError(f"{DESCRIPTION}: {name}: expected {kind.__name__}, got {found!r:.80}")
    return found


def _number(value: dict[str, Any], name: str) -> float:
    found = value.get(name)
    if not isinstance(found, int | float) or isinstance(found, bool) or not math.isfinite(found):
        raise BundleError(f"{DESCRIPTION}: {name}: expected a finite number, got {found!r:.80}")
    return float(found)


def _format(value: dict[str, Any]) -> Format:
    match value.get("format"):
        case "skops":
            return "skops"
        case "cloudpickle":
            return "cloudpickle"
        case found:
            raise BundleError(f"{DESCRIPTION}: format: expected skops or cloudpickle, got {found!r:.80}")


def _array(path: Path, *, columns: int | None) -> Floats:
    try:
        array: Floats = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BundleError(f"{path.name}: cannot be read: {error}") from None
    expected = "one dimension" if columns is None else f"rows x {columns}"
    if array.dtype != np.float64 or array.ndim != (1 if columns is None else 2) or len(array) == 0:
        raise BundleError(f"{path.name}: expected float64, {expected}; got {array.dtype}, shape {array.shape}")
    if columns is not None and array.shape[1] != columns:
        raise BundleError(f"{path.name}: expected {expected} as the features say, got shape {array.shape}")
    return array

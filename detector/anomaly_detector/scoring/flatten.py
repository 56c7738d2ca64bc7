"""Prepare a model for serving: load it safely, flatten it, prove that it scores alike, write arrays.

    python -m anomaly_detector.scoring.flatten MODEL_DIR OUT_DIR [--allow-pickle]

runs as a process of its own, so that scikit-learn is gone from memory when the server starts. MODEL_DIR is an
MLflow model folder; OUT_DIR gets `meta.json` and, for forests, `forest.npz`. Exit 0; or 65 with one line on
standard error if the model is refused: it will not load however often one tries.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_detector.bundle import Bundle, BundleError, read_bundle
from anomaly_detector.scoring import estimators, scaling
from anomaly_detector.scoring.forest import FlatForest
from anomaly_detector.scoring.loading import RefusedError, load_model
from anomaly_detector.scoring.signature import ANY_NUMBER, Signature, read_signature

Floats = NDArray[np.float64]
EXIT_REFUSED = 65  # sysexits.h: EX_DATAERR
PARITY_ROWS = 2000
TOLERANCE = 1e-12
"""Largest difference of a score; labels must not differ at all."""
GAPS = 0.3
"""Share of cells that probe rows lack."""


def flatten(model_dir: Path, out_dir: Path, *, allow_pickle: bool = False) -> dict[str, Any]:
    """Write to `out_dir` what `anomaly_detector.scoring.load` reads, and return its `meta.json`.

    Raises RefusedError if the model may not or cannot be served.
    """
    model, flavor = load_model(model_dir, allow_pickle=allow_pickle)
    bundle, signature = _bundle(model_dir), read_signature(model_dir)
    features = _features(model, bundle, signature)
    score, threshold = estimators.score_function(model, features), estimators.threshold_of(model)
    if not np.isfinite(threshold):
        raise RefusedError(f"the model's threshold is {threshold}, which no score can be compared with")
    if bundle is None:
        sample = np.zeros((1, len(features)))
    else:
        sample = _systematic(bundle.reference, PARITY_ROWS)
        _check_scorable(score, sample)
    meta: dict[str, Any] = {
        "features": list(features),
        "datatypes": _datatypes(signature, len(features)),
        "threshold": threshold,
        "format": flavor.get("serialization_format", "cloudpickle"),
        "acceptsMissing": _accepts(score, sample, np.nan),
        "acceptsInfinite": _accepts(score, sample, np.inf),
    }
    out_dir.mkdir(parents=True, exist_ok=True)
    try:
        forest, steps, description = _flat(model, features, score, sample, threshold)
    except _NotFlatError as reason:
        meta |= {"mode": "scikit-learn", "kind": f"scikit-learn: {reason}"}
    else:
        meta |= description | {"steps": None if steps is None else [step.operation for step in steps]}
        names = {f"step{i}_{part}": getattr(s, part) for i, s in enumerate(steps or ()) for part in ("first", "second")}
        np.savez(out_dir / "forest.npz", **forest.to_arrays(), **names)
    (out_dir / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    return meta


def _bundle(model_dir: Path) -> Bundle | None:
    try:
        return read_bundle(model_dir)
    except BundleError as error:
        raise RefusedError(str(error)) from None


def _check_scorable(score: Callable[[Floats], Floats], sample: Floats) -> None:
    try:
        score(sample[:1])
    except Exception as error:  # noqa: BLE001 - whatever a model raises, it cannot be served
        raise RefusedError(f"the model cannot score its own reference rows: {type(error).__name__}: {error}") from None


class _NotFlatError(Exception):
    """Say why scikit-learn itself must serve."""


def _flat(
    model: Any, features: tuple[str, ...], score: Callable[[Floats], Floats], sample: Floats, threshold: float
) -> tuple[FlatForest, tuple[scaling.Step, ...] | None, dict[str, Any]]:
    """Return the forest, the scalers as steps (None: scikit-learn transforms), and what meta.json says of them."""
    *before, last = estimators.steps_of(model)
    name = type(last).__name__
    if name != "IsolationForest" or not type(last).__module__.startswith("sklearn."):
        raise _NotFlatError(f"no flat form of {name} is known")
    try:
        forest = estimators.flatten_forest(last)
    except (AttributeError, ImportError) as error:
        raise _NotFlatError(f"this version lays IsolationForest out otherwise ({error})") from None
    _compare(last.score_samples, lambda rows: _forest_score(forest, rows), _probes(forest), threshold, "the trees")
    steps, transform, description = _before(model, before, features)
    if forest.width != len(features):
        description["oneToOne"] = False

    def flat(rows: Floats) -> Floats:
        return _forest_score(forest, np.asarray(transform(rows), dtype=np.float64))

    _compare(lambda rows: -score(rows), flat, _with_gaps(score, sample), threshold, "the reference rows")
    return forest, steps, description


def _before(
    model: Any, before: Sequence[Any], features: tuple[str, ...]
) -> tuple[tuple[scaling.Step, ...] | None, Callable[[Floats], Any], dict[str, Any]]:
    """Return what comes before the forest: as steps (None: scikit-learn transforms), as a function, for meta.json."""
    known = [scaling.steps_of(step) for step in before]
    if any(step is None for step in known):
        names = ", ".join(type(step).__name__ for step, seen in zip(before, known, strict=True) if seen is None)
        described = {
            "mode": "transformed",
            "kind": f"flat forest behind scikit-learn transformers: {names}",
            "oneToOne": all(estimators.is_one_to_one(step) for step in before),
        }
        return None, estimators.with_names(model, model[:-1].transform, features), described
    steps = tuple(s for step in known for s in step or ())
    described = {"mode": "flat", "kind": "flat forest", "oneToOne": True}
    return steps, lambda rows: scaling.apply(steps, rows), described


def _forest_score(forest: FlatForest, rows: Floats) -> Floats:
    return forest.score_of(forest.path_lengths(rows))


def _compare(
    samples: Callable[[Floats], Any], flat: Callable[[Floats], Floats], rows: Floats, threshold: float, where: str
) -> None:
    """Raise _NotFlatError unless both give the same labels, and scores within the tolerance."""
    try:
        expected = -np.asarray(samples(rows))
        got = flat(rows)
    except Exception as error:  # noqa: BLE001 - a step that cannot transform its reference is not ours to judge
        raise _NotFlatError(f"{where} cannot be compared ({type(error).__name__}: {error})") from None
    difference = float(np.abs(expected - got).max(initial=0.0))
    if difference > TOLERANCE or ((expected > threshold) != (got > threshold)).any():
        raise _NotFlatError(f"the flat forest differs on {where} by {difference:.3g}")


class _Said(NamedTuple):
    """What one of those who know says of the features."""

    who: str
    names: tuple[str, ...] | None
    width: int | None

    def contradicts(self, other: "_Said") -> bool:
        pairs = ((self.names, other.names), (self.width, other.width))
        return any(one is not None and two is not None and one != two for one, two in pairs)

    def __str__(self) -> str:
        return f"{self.who} has {self.width} features" + (f" ({', '.join(self.names)})" if self.names else "")


def _features(model: Any, bundle: Bundle | None, signature: Signature | None) -> tuple[str, ...]:
    """Return the features' names: the bundle's, else the signature's, else the model's own, else x0, x1 and so on.

    Raises RefusedError where two disagree in number, names or order: users could not know which to follow.
    """
    said = []
    if bundle is not None:
        said.append(_Said("anomaly.json", bundle.features, len(bundle.features)))
    if signature is not None:
        said.append(_Said("the signature in MLmodel", signature.names, signature.width))
    fitted = getattr(model, "feature_names_in_", None)
    own = None if fitted is None else tuple(map(str, fitted))
    said.append(_Said("the model", own, getattr(model, "n_features_in_", None)))
    for one, other in combinations(said, 2):
        if one.contradicts(other):
            raise RefusedError(f"{one}; {other}")
    names = next((one.names for one in said if one.names is not None), None)
    width = next((one.width for one in said if one.width is not None), None)
    if names is None and width is None:
        raise RefusedError("the model does not say how many features it has")
    return names or tuple(f"x{i}" for i in range(width or 0))


def _datatypes(signature: Signature | None, width: int) -> list[str]:
    """Return each feature's datatype in the Open Inference Protocol, as far as the signature says it."""
    if signature is None:
        return [ANY_NUMBER] * width
    types = signature.datatypes
    return list(types) if len(types) == width else [*types] * width


def _systematic(rows: Floats, count: int) -> Floats:
    sample: Floats = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]
    return sample


def _accepts(score: Callable[[Floats], Floats], sample: Floats, value: float) -> bool:
    """Say whether the model scores rows that hold `value`, whichever column it stands in."""
    rows = np.repeat(sample[:1], sample.shape[1], axis=0)
    np.fill_diagonal(rows, value)
    try:
        return bool(np.isfinite(score(rows)).all())
    except Exception:  # noqa: BLE001 - scikit-learn raises ValueError, steps of people's own what they like
        return False


def _with_gaps(score: Callable[[Floats], Floats], sample: Floats) -> Floats:
    """Add to the sample copies with cells that are missing or infinite, as far as the model takes them."""
    rows = [sample]
    for value in (np.nan, np.inf, -np.inf):
        if _accepts(score, sample, value):
            some = sample[: min(len(sample), 300)].copy()
            some[np.random.default_rng(0).random(some.shape) < GAPS] = value
            rows.append(some)
    return np.concatenate(rows)


def _probes(forest: FlatForest) -> Floats:
    """Return rows made of the forest's own thresholds, one float32 above them, NaN and infinities."""
    random = np.random.default_rng(0)
    rows = np.zeros((1000, forest.width))
    for column in range(forest.width):
        thresholds = forest.threshold[(forest.feature == column) & np.isfinite(forest.threshold)]
        if len(thresholds):
            drawn = random.choice(thresholds, len(rows))
            above = np.nextafter(drawn, np.float32(np.inf))
            rows[:, column] = np.where(random.integers(2, size=len(rows)), drawn, above)
    for first, value in ((600, np.nan), (800, np.inf), (900, -np.inf)):
        part = rows[first : first + 100]
        part[random.random(part.shape) < GAPS] = value
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m anomaly_detector.scoring.flatten", description=__doc__)
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--allow-pickle", action="store_true")
    given = parser.parse_args(arguments)
    try:
        flatten(given.model_dir, given.out_dir, allow_pickle=given.allow_pickle)
    except RefusedError as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return EXIT_REFUSED
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

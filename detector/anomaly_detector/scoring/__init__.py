"""Score rows exactly as scikit-learn would, in microseconds.

Two stages. `python -m anomaly_detector.scoring.flatten MODEL_DIR OUT_DIR [--allow-pickle]` (or
`flatten.flatten(model_dir, out_dir, allow_pickle=...)`) loads the model in a short-lived process and writes arrays;
exit 65 means refused. `load(out_dir, model_dir)` then gives the server a `Scorer`:

- `features`, `threshold` (a row is anomalous if its score is above), `kind` (what serves, for people),
  `accepts_missing`, `accepts_infinite`;
- `score(rows)`: float64 (n, features) to float64 (n,), scikit-learn's `-score_samples`.

Forests behind simple scalers need NumPy alone. Behind other transformers scikit-learn transforms and the flat forest
scores. Anything else scikit-learn serves, and `kind` says why.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from anomaly_detector.scoring import estimators, scaling
from anomaly_detector.scoring.forest import FlatForest
from anomaly_detector.scoring.loading import RefusedError, load_model
from anomaly_detector.scoring.scorer import ForestScorer, Scorer, SklearnScorer, UnacceptableRowsError

__all__ = ["ForestScorer", "RefusedError", "Scorer", "SklearnScorer", "UnacceptableRowsError", "load"]


def load(out_dir: Path, model_dir: Path) -> Scorer:
    """Return the scorer that `flatten` prepared in `out_dir`.

    Imports scikit-learn and opens `model_dir` only if the model needs it. Raises RefusedError as `flatten` does.
    """
    meta = json.loads((out_dir / "meta.json").read_text())
    features = tuple(meta["features"])
    described: dict[str, Any] = {
        "features": features,
        "threshold": meta["threshold"],
        "kind": meta["kind"],
        "accepts_missing": meta["acceptsMissing"],
        "accepts_infinite": meta["acceptsInfinite"],
    }
    # That a pickle may be opened was decided when it was flattened.
    allow_pickle = meta["format"] != "skops"
    if meta["mode"] == "scikit-learn":
        model, _ = load_model(model_dir, allow_pickle=allow_pickle)
        return SklearnScorer(**described, function=estimators.score_function(model, features))
    with np.load(out_dir / "forest.npz", allow_pickle=False) as arrays:
        forest = FlatForest.from_arrays(arrays)
        steps = tuple(
            scaling.Step(operation, arrays[f"step{i}_first"], arrays[f"step{i}_second"])
            for i, operation in enumerate(meta["steps"] or ())
        )
    if meta["mode"] == "flat":
        return ForestScorer(
            **described, forest=forest, transform=lambda rows: scaling.apply(steps, rows), one_to_one=meta["oneToOne"]
        )
    model, _ = load_model(model_dir, allow_pickle=allow_pickle)
    method = estimators.with_names(model, model[:-1].transform, features)
    return ForestScorer(
        **described,
        forest=forest,
        transform=lambda rows: np.asarray(method(rows), dtype=np.float64),
        one_to_one=meta["oneToOne"],
    )

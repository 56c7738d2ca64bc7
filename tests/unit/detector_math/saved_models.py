"""Model folders as MLflow writes them, made quickly."""

import pickle
from datetime import UTC, datetime

import numpy as np
import sklearn
import yaml
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skops import io

from anomaly_detector.bundle import FOLDER, Bundle, write_bundle
from anomaly_detector.scoring import load
from anomaly_detector.scoring.flatten import flatten


def rows(count, width, *, seed=0, low=None):
    drawn = np.random.default_rng(seed).normal(size=(count, width))
    return drawn if low is None else np.abs(drawn) + low


def forest(data, *, before=None, **parameters):
    before = (StandardScaler(),) if before is None else before
    chosen = {"n_estimators": 20, "contamination": 0.15, "random_state": 0} | parameters
    return make_pipeline(*before, IsolationForest(**chosen)).fit(data)


def save(model, folder, *, reference=None, features=None, form="skops", version=sklearn.__version__, signature=None):
    folder.mkdir(parents=True)
    name = "model.skops" if form == "skops" else "model.pkl"
    if form == "skops":
        io.dump(model, folder / name)
    else:
        (folder / name).write_bytes(pickle.dumps(model))
    flavor = {"pickled_model": name, "serialization_format": form, "sklearn_version": version}
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": {"sklearn": flavor}, "signature": signature}))
    if reference is not None:
        write_bundle(folder / FOLDER, bundle_of(model, reference, features))
    return folder


def bundle_of(model, reference, features=None):
    scores = -model.score_samples(reference) if hasattr(model, "score_samples") else -model.decision_function(reference)
    return Bundle(
        features=features or tuple(f"x{i}" for i in range(reference.shape[1])),
        contamination=0.15,
        threshold=0.5,
        estimator=type(model[-1] if hasattr(model, "steps") else model).__name__,
        format="skops",
        trained_at=datetime.now(UTC).isoformat(),
        training_rows=len(reference),
        libraries={"scikit-learn": sklearn.__version__},
        calibration=None,
        reference=np.asarray(reference, dtype=np.float64),
        scores=np.sort(np.ravel(scores)),
    )


def serve(model, tmp_path, **saved):
    folder = save(model, tmp_path / "model", **saved)
    flatten(folder, tmp_path / "flat", allow_pickle=saved.get("form") == "cloudpickle")
    return load(tmp_path / "flat", folder)

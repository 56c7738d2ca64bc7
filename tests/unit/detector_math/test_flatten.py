"""Models are loaded safely, served by the fastest way that is proven equal, and refused in words."""

import json
import subprocess
import sys

import mlflow
import numpy as np
import pandas as pd
import pytest
import saved_models as models
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.covariance import EllipticEnvelope
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import OneClassSVM

from anomaly_detector.scoring import RefusedError, UnacceptableRowsError, load
from anomaly_detector.scoring.flatten import flatten, main

DATA = models.rows(600, 3, seed=1)
FRESH = models.rows(200, 3, seed=2) * 2


@pytest.mark.parametrize(
    "before",
    [
        (),
        (StandardScaler(),),
        (StandardScaler(with_mean=False),),
        (StandardScaler(with_std=False),),
        (MinMaxScaler(),),
        (MinMaxScaler(feature_range=(-2, 3), clip=True),),
        (RobustScaler(),),
        (RobustScaler(with_centering=False, quantile_range=(10, 90)),),
        (MaxAbsScaler(),),
        (SimpleImputer(strategy="median"), RobustScaler(), "passthrough", MinMaxScaler()),
    ],
)
def test_forests_behind_scalers_need_numpy_alone(before, tmp_path):
    model = models.forest(DATA, before=before)
    scorer = models.serve(model, tmp_path, reference=DATA)
    given = FRESH.copy()
    given[::3, 1] = np.nan
    original = given.copy()
    assert scorer.kind == "flat forest"
    scores = scorer.score(given)
    assert np.abs(scores + model.score_samples(given)).max() <= 1e-12
    assert np.array_equal(np.where(scores > scorer.threshold, -1, 1), model.predict(given))
    assert np.array_equal(given, original, equal_nan=True)


def test_other_transformers_stay_with_scikit_learn_before_the_flat_forest(tmp_path):
    model = models.forest(DATA, before=(PowerTransformer(method="yeo-johnson"),))
    scorer = models.serve(model, tmp_path, reference=DATA)
    assert scorer.kind == "flat forest behind scikit-learn transformers: PowerTransformer"
    assert np.abs(scorer.score(FRESH) + model.score_samples(FRESH)).max() <= 1e-12


@pytest.mark.parametrize(
    "transformer",
    [
        PowerTransformer(method="box-cox"),
        PowerTransformer(method="box-cox", standardize=False),
        ColumnTransformer(
            [
                ("a", "passthrough", [0]),
                ("b", make_pipeline(SimpleImputer(), PowerTransformer(method="box-cox")), [1]),
                ("c", PowerTransformer(method="box-cox"), [2]),
            ]
        ),
        ColumnTransformer(
            [
                ("a", MinMaxScaler(clip=True), [0]),
                ("b", SimpleImputer(), [1]),
                ("c", PowerTransformer(method="box-cox"), [2]),
            ]
        ),
        ColumnTransformer([("b", PowerTransformer(method="box-cox"), [1, 2])], remainder="passthrough"),
    ],
    ids=["all", "bare", "nested", "each", "reordered"],
)
def test_box_cox_scores_alike_and_fails_on_zero_by_the_models_own_error(transformer, tmp_path):
    positive = np.abs(DATA) + 1
    model = models.forest(positive, before=(transformer,))
    scorer = models.serve(model, tmp_path, reference=positive)
    fresh = np.abs(FRESH) + 0.5
    assert np.abs(scorer.score(fresh) + model.score_samples(fresh)).max() <= 1e-12
    with pytest.raises(ValueError, match="strictly positive") as raised:
        scorer.score(np.zeros((1, 3)))
    assert not isinstance(raised.value, UnacceptableRowsError), "the model's own error is not the sender's"


def test_a_transformation_of_single_columns_in_their_order_needs_numpy_alone(tmp_path):
    positive = np.abs(DATA) + 1
    columns = [("a", "passthrough", [0]), ("b", StandardScaler(), [1]), ("c", PowerTransformer(method="box-cox"), [2])]
    scorer = models.serve(models.forest(positive, before=(ColumnTransformer(columns),)), tmp_path, reference=positive)
    assert (scorer.kind, scorer.one_to_one) == ("flat forest", True)


def test_a_transformer_that_mixes_features_is_not_one_to_one(tmp_path):
    model = models.forest(DATA, before=(StandardScaler(), PCA(2)))
    scorer = models.serve(model, tmp_path, reference=DATA)
    assert not scorer.one_to_one
    assert np.abs(scorer.score(FRESH) + model.score_samples(FRESH)).max() <= 1e-12


def test_columns_chosen_by_name_are_given_by_name(tmp_path):
    frame = pd.DataFrame(DATA, columns=["cpu", "mem", "net"])
    chosen = ColumnTransformer([("scale", StandardScaler(), ["net", "cpu"])], remainder="drop")
    model = models.forest(frame, before=(chosen,))
    scorer = models.serve(model, tmp_path, reference=None)
    assert scorer.features == ("cpu", "mem", "net")
    fresh = pd.DataFrame(FRESH, columns=frame.columns)
    assert np.abs(scorer.score(FRESH) + model.score_samples(fresh)).max() <= 1e-12


@pytest.mark.parametrize(
    "model", [LocalOutlierFactor(novelty=True), OneClassSVM(nu=0.15), EllipticEnvelope(random_state=0)]
)
def test_other_detectors_are_served_by_scikit_learn_itself(model, tmp_path):
    fitted = make_pipeline(StandardScaler(), model).fit(DATA)
    scorer = models.serve(fitted, tmp_path, reference=DATA)
    assert scorer.kind == f"scikit-learn: no flat form of {type(model).__name__} is known"
    assert np.array_equal(scorer.score(FRESH), -fitted.score_samples(FRESH))
    assert np.array_equal(np.where(scorer.score(FRESH) > scorer.threshold, -1, 1), fitted.predict(FRESH))
    with pytest.raises(UnacceptableRowsError, match="no missing values"):
        scorer.score(np.full((1, 3), np.nan))


def test_a_forest_that_does_not_match_its_model_is_not_used(tmp_path):
    model = models.forest(DATA)
    model[-1].estimators_features_[0] = np.array([2, 1, 0])  # the flat form reads it, scikit-learn here does not
    scorer = models.serve(model, tmp_path, reference=DATA)
    assert scorer.kind.startswith("scikit-learn: the flat forest differs on the trees by ")
    assert np.array_equal(scorer.score(FRESH), -model.score_samples(FRESH))


def test_infinities_are_refused_where_a_scaler_refuses_them_and_taken_by_bare_forests(tmp_path):
    row = np.array([[np.inf, 0.0, -np.inf]])
    scaled = models.serve(models.forest(DATA), tmp_path / "scaled", reference=DATA)
    with pytest.raises(UnacceptableRowsError, match="no infinite values"):
        scaled.score(row)
    model = models.forest(DATA, before=())
    bare = models.serve(model, tmp_path / "bare", reference=DATA)
    assert bare.score(row) == pytest.approx(-model.score_samples(row), abs=1e-12)


def as_integers(rows):
    if not np.isfinite(rows).all():
        raise OverflowError("no integer")
    return rows.astype(np.int64)


def test_a_step_that_fails_in_its_own_way_on_what_is_missing_is_served_without(tmp_path):
    scorer = models.serve(models.forest(DATA, before=(FunctionTransformer(as_integers),)), tmp_path, form="cloudpickle")
    assert (scorer.accepts_missing, scorer.accepts_infinite) == (False, False)


def test_a_model_without_a_bundle_is_served_under_its_own_names(tmp_path):
    assert models.serve(models.forest(DATA), tmp_path).features == ("x0", "x1", "x2")


def test_a_folder_that_mlflow_saved_is_served(tmp_path):
    model = models.forest(DATA)
    mlflow.sklearn.save_model(
        model, tmp_path / "m", skops_trusted_types=["sklearn.tree._tree.Tree"], pip_requirements=["scikit-learn"]
    )
    flatten(tmp_path / "m", tmp_path / "flat")
    assert np.array_equal(load(tmp_path / "flat", tmp_path / "m").score(FRESH), -model.score_samples(FRESH))


def test_a_server_with_a_flat_forest_imports_no_scikit_learn(tmp_path):
    folder = models.save(models.forest(DATA), tmp_path / "m", reference=DATA)
    flatten(folder, tmp_path / "flat")
    program = (
        "import sys, numpy; from pathlib import Path; from anomaly_detector.scoring import load\n"
        "from anomaly_detector.explain import Explainer; import anomaly_detector.drift\n"
        f"scorer = load(Path({str(tmp_path / 'flat')!r}), Path({str(folder)!r}))\n"
        "rows = numpy.zeros((1, 3)); Explainer(scorer).explain(rows, scorer.score(rows))\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'sklearn', 'scipy', 'pandas', 'shap', 'skops'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Harmless(BaseEstimator):
    def fit(self, _):
        return self

    def score_samples(self, rows):
        return np.zeros(len(rows))


def test_types_that_are_not_trusted_are_refused_by_name(tmp_path):
    folder = models.save(Harmless(), tmp_path / "m")
    with pytest.raises(RefusedError, match=r"types that are not trusted: .*Harmless"):
        flatten(folder, tmp_path / "flat")


def test_a_pickle_is_refused_unless_allowed(tmp_path):
    folder = models.save(models.forest(DATA), tmp_path / "m", form="cloudpickle")
    with pytest.raises(RefusedError, match=r"spec\.model\.allowPickle"):
        flatten(folder, tmp_path / "flat")
    flatten(folder, tmp_path / "flat", allow_pickle=True)
    assert load(tmp_path / "flat", folder).kind == "flat forest"


@pytest.mark.parametrize("form", ["skops", "cloudpickle"])
def test_another_scikit_learn_is_refused_before_anything_is_loaded(form, tmp_path):
    folder = models.save(models.forest(DATA), tmp_path / "m", form=form, version="0.24.2")
    (folder / ("model.skops" if form == "skops" else "model.pkl")).write_bytes(b"would fail to load")
    with pytest.raises(RefusedError, match=r"logged with scikit-learn 0\.24\.2, this image has"):
        flatten(folder, tmp_path / "flat", allow_pickle=True)


@pytest.mark.parametrize("form", ["skops", "cloudpickle"])
def test_a_broken_artifact_is_refused(form, tmp_path):
    folder = models.save(models.forest(DATA), tmp_path / "m", form=form)
    (folder / ("model.skops" if form == "skops" else "model.pkl")).write_bytes(b"broken")
    with pytest.raises(RefusedError, match="cannot be"):
        flatten(folder, tmp_path / "flat", allow_pickle=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("flavors: {keras: {}}", "expected the flavor sklearn, got keras"),
        ("[", "MLmodel is not YAML"),
        ("flavors: {sklearn: {pickled_model: ../../etc/passwd}}", "not in the folder"),
    ],
)
def test_a_folder_that_is_no_scikit_learn_model_is_refused(text, reason, tmp_path):
    (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(RefusedError, match=reason):
        flatten(tmp_path, tmp_path / "flat")


def test_a_model_that_detects_no_outliers_is_refused(tmp_path):
    folder = models.save(StandardScaler().fit(DATA), tmp_path / "m")
    with pytest.raises(RefusedError, match="StandardScaler is no outlier detector"):
        flatten(folder, tmp_path / "flat")


def test_names_that_contradict_the_model_are_refused(tmp_path):
    frame = pd.DataFrame(DATA, columns=["cpu", "mem", "net"])
    folder = models.save(models.forest(frame), tmp_path / "m", reference=frame, features=("cpu", "net", "mem"))
    words = r"anomaly.json has 3 features \(cpu, net, mem\); the model has 3 features \(cpu, mem, net\)"
    with pytest.raises(RefusedError, match=words):
        flatten(folder, tmp_path / "flat")


def test_the_command_exits_65_with_one_line_on_refusal_and_0_otherwise(tmp_path, capsys):
    assert main([str(tmp_path), str(tmp_path / "flat")]) == 65
    assert capsys.readouterr().err == "no MLmodel file: this is not an MLflow model\n"
    folder = models.save(models.forest(DATA), tmp_path / "m", reference=DATA)
    assert main([str(folder), str(tmp_path / "flat")]) == 0
    assert json.loads((tmp_path / "flat" / "meta.json").read_text())["kind"] == "flat forest"

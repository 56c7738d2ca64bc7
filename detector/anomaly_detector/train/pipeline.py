"""Make the scikit-learn Pipeline that is trained: transformations of single features, then the estimator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.covariance import EllipticEnvelope
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import PowerTransformer, RobustScaler, StandardScaler
from sklearn.svm import OneClassSVM

from anomaly_detector.train.errors import DataError
from anomaly_detector.train.table import Floats

ESTIMATORS: dict[str, Callable[[], Any]] = {
    "IsolationForest": IsolationForest,
    "LocalOutlierFactor": lambda: LocalOutlierFactor(novelty=True),
    "OneClassSVM": OneClassSVM,
    "EllipticEnvelope": EllipticEnvelope,
}
MOST_CONTAMINATION = 0.5  # as scikit-learn has it
DISTANCES = ("LocalOutlierFactor", "OneClassSVM")  # features must be on one scale

TRANSFORMS: dict[str, Callable[[], Any]] = {
    "boxcox": lambda: PowerTransformer(method="box-cox"),
    "yeojohnson": lambda: PowerTransformer(method="yeo-johnson"),
    "standard": StandardScaler,
    "robust": RobustScaler,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to make a model."""

    estimator: str = "IsolationForest"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Of the estimator, over its defaults."""
    contamination: float = 0.15
    """Share of the training rows that shall be called anomalous; for OneClassSVM its `nu`."""
    transforms: tuple[str, ...] = ()
    """Each `<kind>:<feature>`, for example `boxcox:network_mbps`."""
    seed: int = 0
    holdout: float = 0.2
    """Share of the newest rows that are kept from training, to judge the model on."""


def build(recipe: Recipe, features: tuple[str, ...]) -> Any:
    """Return an unfitted Pipeline for rows of these features; columns keep their order all the way to the estimator.

    Raises DataError for an unknown estimator, parameter, transformation or feature.
    """
    if recipe.estimator not in ESTIMATORS:
        raise DataError(f"--estimator {recipe.estimator}: unknown; there are {', '.join(ESTIMATORS)}")
    estimator = ESTIMATORS[recipe.estimator]()
    own = _own_parameters(recipe, estimator)
    if unknown := sorted(set(recipe.parameters) - set(estimator.get_params())):
        known = ", ".join(sorted(estimator.get_params()))
        raise DataError(f"--param {unknown[0]}: {recipe.estimator} has no such parameter; it has {known}")
    estimator.set_params(**own | dict(recipe.parameters))
    steps: list[tuple[str, Any]] = []
    if recipe.transforms:
        steps.append(("transform", _transformer(recipe.transforms, features)))
    if recipe.estimator in DISTANCES:
        steps.append(("scale", StandardScaler()))
    return Pipeline([*steps, ("detect", estimator)])


def _own_parameters(recipe: Recipe, estimator: BaseEstimator) -> dict[str, Any]:
    if not 0 < recipe.contamination <= MOST_CONTAMINATION:
        raise DataError(f"--contamination {recipe.contamination:g}: expected over 0 and at most {MOST_CONTAMINATION}")
    known = estimator.get_params()
    own = {"contamination": recipe.contamination, "random_state": recipe.seed}
    return {name: value for name, value in own.items() if name in known} | (
        {"nu": recipe.contamination} if "nu" in known else {}
    )


def _transformer(transforms: tuple[str, ...], features: tuple[str, ...]) -> Any:
    wanted: dict[str, Any] = {}
    for text in transforms:
        kind, _, feature = text.partition(":")
        if kind not in TRANSFORMS:
            raise DataError(f"--transform {text}: unknown {kind}; there are {', '.join(TRANSFORMS)}")
        if feature not in features:
            raise DataError(f"--transform {text}: no feature {feature!r}; there are {', '.join(features)}")
        wanted[feature] = TRANSFORMS[kind]()
    # One entry a feature, in their order: otherwise the transformed ones would come first.
    return ColumnTransformer(
        [(name, wanted.get(name, "passthrough"), [column]) for column, name in enumerate(features)]
    )


def fit(pipeline: Any, rows: Floats) -> Any:
    """Fit the pipeline; scikit-learn's own words become a DataError."""
    try:
        return pipeline.fit(rows)
    except (ValueError, TypeError) as error:
        raise DataError(f"training: {error}") from None


def scores(model: Any, rows: Floats) -> Floats:
    """Return `-score_samples`: higher is more anomalous."""
    return -np.asarray(model.score_samples(rows), dtype=np.float64)


def set_threshold(model: Any, rows: Floats, contamination: float) -> None:
    """Have the model call this share of `rows` anomalous, whatever else it was trained on.

    For estimators with a `contamination`, whose `offset_` is that quantile of the training scores.
    """
    last = model.steps[-1][1]
    if "contamination" in last.get_params():
        last.offset_ = np.percentile(model.score_samples(rows), 100.0 * contamination)


def threshold(model: Any) -> float:
    """Return the score above which the model calls a row anomalous. Raises DataError where it has none."""
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    if not hasattr(last, "offset_") or not hasattr(model, "score_samples"):
        raise DataError(f"{type(last).__name__}: no outlier detector with score_samples and offset_")
    return -float(np.ravel(last.offset_)[0])

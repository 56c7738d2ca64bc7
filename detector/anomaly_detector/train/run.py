"""Train a version and register it: the whole way from a table of numbers to an alias, for scripts and the command."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from anomaly_detector.bundle import Bundle, BundleError
from anomaly_detector.report import PREFIX
from anomaly_detector.scoring.loading import RefusedError
from anomaly_detector.train.bundling import make_bundle, serving_tags
from anomaly_detector.train.card import card
from anomaly_detector.train.environment import git_commit, surroundings
from anomaly_detector.train.errors import DataError
from anomaly_detector.train.evaluate import Judgement, judge
from anomaly_detector.train.event import DriftEvent
from anomaly_detector.train.order import Order, Trained
from anomaly_detector.train.pipeline import build, fit, set_threshold
from anomaly_detector.train.promote import Rivalry, against_rival, load_version
from anomaly_detector.train.registry import Logged, Registry, Run, Version
from anomaly_detector.train.table import Floats, Table, fingerprint, split

ENOUGH_AFTER_DRIFT = 500
STEPS = ("data", "train", "judge", "calibrate", "store", "compare", "register")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """A model with everything that was measured of it."""

    pipeline: Any
    judged: Judgement
    bundle: Bundle
    data: Mapping[str, Any]
    holdout: Table
    kept_rows: int


def train_and_register(
    table: Table,
    registry: Registry,
    order: Order,
    *,
    kept: Floats | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> Trained:
    """Train on the older rows of `table`, judge on the newest, store, register and, if asked, move the alias.

    `kept` are rows of an older world, trained on in addition, but they neither set the threshold nor are judged on or
    watched for drift. `on_step` hears the name of each of STEPS as it begins. Raises DataError for data or a recipe
    that cannot be used and RegistryError when the registry does not answer; nothing is registered then.
    """
    began = time.monotonic()
    on_step("data")
    registry.check(order.model)
    fitted = _fit(_after_drift(table, order.event), order, kept, on_step)
    on_step("store")
    logged = registry.log(_run(fitted, order), fitted.pipeline, fitted.bundle, fitted.holdout.rows)
    on_step("compare")
    rivalry = against_rival(registry, order, new=fitted.pipeline, judged=fitted.judged, rows=fitted.holdout)
    on_step("register")
    version = _register(registry, order, fitted, logged, rivalry)
    moved = rivalry.settle(registry, version, force=order.force)
    return Trained(
        version=version,
        digest=logged.digest,
        metrics=fitted.judged.metrics("holdout") | rivalry.metrics() | _rows(fitted),
        data=fitted.data,
        calibration=fitted.bundle.calibration or {},
        verdict=rivalry.words,
        alias=order.alias,
        alias_moved=moved,
        seconds=time.monotonic() - began,
        pipeline=fitted.pipeline,
        reference=fitted.bundle.reference,
    )


def finish(table: Table, registry: Registry, order: Order, *, version: Version) -> Trained:
    """Compare a version that is registered already with the holder of the alias, and move that if it deserves it.

    For a training that was interrupted, or started twice for one event. Raises as `train_and_register`.
    """
    began = time.monotonic()
    _, holdout = split(_after_drift(table, order.event), holdout=order.recipe.holdout)
    try:
        pipeline, bundle = load_version(registry, version, table.features, allow_pickle=order.allow_pickle)
        judged = judge(pipeline, holdout.rows, holdout.labels)
    except (RefusedError, BundleError, ValueError) as error:
        raise DataError(f"{version.name} version {version.version}, trained for the same event: {error}") from None
    rivalry = against_rival(registry, order, new=pipeline, judged=judged, rows=holdout)
    holds = rivalry.holder is not None and rivalry.holder.version == version.version
    moved = holds or rivalry.settle(registry, version, force=order.force)
    return Trained(
        version=version,
        digest=version.tags[PREFIX + "digest"],
        metrics=judged.metrics("holdout") | rivalry.metrics(),
        data={"source": table.source, **fingerprint(table)},
        calibration=(bundle.calibration if bundle else None) or {},
        verdict=rivalry.words,
        alias=order.alias,
        alias_moved=moved,
        seconds=time.monotonic() - began,
        pipeline=pipeline,
        reference=holdout.rows if bundle is None else bundle.reference,
    )


def _after_drift(table: Table, event: DriftEvent | None) -> Table:
    """Leave out what came before the drift, if enough came after it."""
    if event is None or event.breach_start is None or table.times is None:
        return table
    after = table.take(table.times >= event.breach_start)
    return after if len(after) >= ENOUGH_AFTER_DRIFT else table


def _fit(table: Table, order: Order, kept: Floats | None, on_step: Callable[[str], None]) -> _Fitted:
    training, holdout = split(table, holdout=order.recipe.holdout)
    if kept is not None and kept.shape[1] != len(table.features):
        raise DataError(f"kept rows: expected {len(table.features)} features, got {kept.shape[1]}")
    on_step("train")
    rows = training.rows if kept is None else np.vstack([kept, training.rows])
    pipeline = fit(build(order.recipe, table.features), rows)
    if kept is not None:
        set_threshold(pipeline, training.rows, order.recipe.contamination)
    on_step("judge")
    try:
        judged = judge(pipeline, holdout.rows, holdout.labels)
    except ValueError as error:
        raise DataError(f"{table.source}: the model fails on its hold-out, the newest rows: {error}") from None
    on_step("calibrate")
    bundle = make_bundle(pipeline, training, order, estimator=order.recipe.estimator)
    data = {"source": table.source, **fingerprint(table)}
    return _Fitted(
        pipeline=pipeline,
        judged=judged,
        bundle=bundle,
        data=data,
        holdout=holdout,
        kept_rows=0 if kept is None else len(kept),
    )


def _described(order: Order) -> dict[str, Any]:
    recipe = order.recipe
    return {
        "estimator": recipe.estimator,
        "contamination": recipe.contamination,
        "transforms": " ".join(recipe.transforms),
        "seed": recipe.seed,
        "holdout": recipe.holdout,
        **{f"param.{name}": value for name, value in recipe.parameters.items()},
    }


def _run(fitted: _Fitted, order: Order) -> Run:
    calibration = fitted.bundle.calibration or {}
    metrics = fitted.judged.metrics("holdout") | _rows(fitted)
    if (rate := calibration.get("falseAlarmRate")) is not None:
        metrics["drift_false_alarm_rate"] = rate
    return Run(
        experiment=order.experiment or order.model,
        parameters=_described(order)
        | {f"data.{name}": value for name, value in fitted.data.items()}
        | {"drift.window": order.window},
        metrics=metrics,
        tags=_origin(order),
        documents={
            "data.json": dict(fitted.data) | {"features": list(fitted.bundle.features)},
            "calibration.json": dict(calibration),
            "environment.json": surroundings(),
        },
    )


def _rows(fitted: _Fitted) -> dict[str, float]:
    return {"training_rows": float(fitted.bundle.training_rows), "kept_rows": float(fitted.kept_rows)}


def _origin(order: Order) -> dict[str, str]:
    """Return the tags that run and version share: where they come from."""
    commit = git_commit()
    return (
        {PREFIX + "environment": order.environment, PREFIX + "trigger": order.trigger}
        | ({PREFIX + "git-commit": commit} if commit else {})
        | (order.event.tags() if order.event else {})
        | dict(order.tags)
    )


def _register(registry: Registry, order: Order, fitted: _Fitted, logged: Logged, rivalry: Rivalry) -> Version:
    description = card(
        about=order.about,
        recipe=_described(order),
        data=fitted.data,
        judged=fitted.judged,
        calibration=fitted.bundle.calibration or {},
        comparison=rivalry.words,
    )
    tags = serving_tags(fitted.bundle, logged) | _origin(order)
    tags[PREFIX + "data-sha256"] = str(fitted.data["sha256"])
    if rivalry.rival is not None:
        tags[PREFIX + "parent-version"] = rivalry.rival.version
    return registry.register(order.model, logged, description=description, tags=tags)

"""Carry out `anomaly-train train` and `adopt`: options to orders, sources to tables, results to what people read."""

import re
import tempfile
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from anomaly_detector.logs import masked
from anomaly_detector.report import PREFIX
from anomaly_detector.train import plots
from anomaly_detector.train.adopt import adopt as adopt_version
from anomaly_detector.train.arguments import pairs
from anomaly_detector.train.errors import KEPT_ALIAS, DataError
from anomaly_detector.train.event import read_event
from anomaly_detector.train.features import FeatureNotes, read_notes
from anomaly_detector.train.heritage import Heritage, bundle_of, inherit
from anomaly_detector.train.order import Order, Trained
from anomaly_detector.train.pipeline import Recipe
from anomaly_detector.train.pods import kept_rows
from anomaly_detector.train.promote import rival_of
from anomaly_detector.train.registry import Registry
from anomaly_detector.train.run import STEPS, finish, train_and_register
from anomaly_detector.train.sources import read
from anomaly_detector.train.summary import show, show_adopted
from anomaly_detector.train.table import Floats, Table

ALIAS = re.compile(r"[\w-]{1,255}", re.ASCII)
RESERVED = re.compile(r"latest|v\d+", re.IGNORECASE)  # by MLflow
WORDS = {
    "data": "checking the registry",
    "train": "training",
    "judge": "judging on the newest rows",
    "calibrate": "calibrating drift",
    "store": "storing run and model",
    "compare": "comparing with the alias's holder",
    "register": "registering",
}


def train(options: Namespace, console: Console) -> tuple[dict[str, Any], int]:
    """Train and register as the options say; return what scripts need and the exit code.

    Prints a summary unless JSON is wanted.
    """
    registry = _registry(options)
    heritage = inherit(registry, _model(options), options.like) if options.like else Heritage()
    order = _order(options, heritage)
    table = _table(options, order.notes, console)
    with _progress(console, len(STEPS)) as progress:
        on_step = _stepper(progress)
        answered = registry.answer_to(order.model, order.event.id) if order.event else None
        if answered is not None:
            trained = finish(table, registry, order, version=answered)
        else:
            kept = _kept(options, registry, order, table, heritage)
            trained = train_and_register(table, registry, order, kept=kept, on_step=on_step)
    if not options.no_plots:
        _plots(registry, trained, table.features, console)
    if not options.json:
        show(Console(), trained, masked(registry.uri))
    return trained.as_json(), KEPT_ALIAS if trained.alias is not None and not trained.alias_moved else 0


def adopt(options: Namespace, console: Console) -> tuple[dict[str, Any], int]:
    """Adopt as the options say; return what scripts need and the exit code.

    Prints a summary unless JSON is wanted.
    """
    registry = _registry(options)
    order = _order(options, Heritage())
    table = _table(options, order.notes, console)
    if options.version:
        version = registry.version(order.model, options.version)
    else:
        found = registry.holder(order.model, options.from_alias)
        if found is None:
            raise DataError(f"--from-alias {options.from_alias}: no version of {order.model} has this alias")
        version = found
    adopted = adopt_version(table, registry, order, version=version)
    if not options.json:
        show_adopted(Console(), adopted)
    described = {"model": adopted.name, "version": adopted.version, "runId": adopted.run_id}
    return described | {"digest": adopted.tags[PREFIX + "digest"], "source": adopted.source}, 0


def _model(options: Namespace) -> str:
    model: str | None = options.model
    if not model:
        raise DataError("--model: missing; give the registered model's name or set ANOMALY_REGISTERED_MODEL")
    return model


def _order(options: Namespace, heritage: Heritage) -> Order:
    alias = getattr(options, "alias", None)
    if alias is not None and (not ALIAS.fullmatch(alias) or RESERVED.fullmatch(alias)):
        raise DataError(f"--alias {alias}: expected letters, digits, - and _, but not latest or v and a number")
    event = read_event(options.event) if getattr(options, "event", None) else None
    return Order(
        model=_model(options),
        recipe=_recipe(options, heritage.recipe),
        notes=_notes(options, heritage.notes),
        about=options.description,
        alias=alias,
        force=getattr(options, "force", False),
        compare_with=getattr(options, "compare_with", None),
        tags=pairs("--tag", options.tag),
        environment=options.environment,
        trigger=getattr(options, "trigger", None) or ("drift" if event else "manual"),
        experiment=options.experiment,
        window=options.window,
        false_alarms_per_day=options.false_alarms_per_day,
        rows_per_second=options.rows_per_second,
        event=event,
        allow_pickle=options.allow_pickle,
    )


def _recipe(options: Namespace, inherited: Recipe) -> Recipe:
    if not hasattr(options, "estimator"):
        return inherited
    if not 0 < options.holdout < 1:
        raise DataError(f"--holdout {options.holdout:g}: expected between 0 and 1")
    another = options.estimator not in (None, inherited.estimator)
    parameters = {name: yaml.safe_load(value) for name, value in pairs("--param", options.param).items()}
    return Recipe(
        estimator=options.estimator or inherited.estimator,
        parameters=parameters if another else dict(inherited.parameters) | parameters,
        contamination=inherited.contamination if options.contamination is None else options.contamination,
        transforms=tuple(options.transform) or inherited.transforms,
        seed=options.seed,
        holdout=options.holdout,
    )


def _notes(options: Namespace, inherited: FeatureNotes) -> FeatureNotes:
    notes = read_notes(options.features) if options.features else inherited
    changes: dict[str, Any] = {}
    if options.columns:
        changes["names"] = tuple(name.strip() for name in options.columns.split(","))
    if options.time_column:
        changes["time"] = options.time_column
    if options.label_column:
        changes["label"] = options.label_column
    return replace(notes, **changes)


def _registry(options: Namespace) -> Registry:
    if not options.tracking_uri:
        raise DataError("--tracking-uri: missing; give the MLflow server's URL or set MLFLOW_TRACKING_URI")
    if not options.tracking_uri.startswith(("http://", "https://")):
        raise DataError(
            f"--tracking-uri {masked(options.tracking_uri)}: expected the http(s) address of an MLflow server:"
            " operator and detectors reach no other"
        )
    return Registry(options.tracking_uri)


def _table(options: Namespace, notes: FeatureNotes, console: Console) -> Table:
    if not 0 < options.take <= 1:
        raise DataError(f"--take {options.take:g}: expected over 0 and at most 1")
    with _progress(console, options.rows if options.data == "host" else None) as progress:
        task = progress.task_ids[0]
        progress.update(task, description=f"reading {options.data}")
        table = read(options, notes, on_row=lambda: progress.advance(task))
    return table.take(slice(None, round(len(table) * options.take)))


def _kept(options: Namespace, registry: Registry, order: Order, table: Table, heritage: Heritage) -> Floats | None:
    """Return rows of the reference of the version to compare with, if some shall be kept and it has one that fits."""
    if not 0 <= options.keep_reference <= 1:
        raise DataError(f"--keep-reference {options.keep_reference:g}: expected between 0 and 1")
    if not options.keep_reference:
        return None
    if order.alias is None:
        raise DataError("--keep-reference: whose? Give --alias, too")
    if options.like and options.like == options.compare_with:
        bundle = heritage.bundle
    else:
        old = rival_of(registry, order)
        bundle = None if old is None else bundle_of(registry, old, why="--keep-reference")
    if bundle is None or bundle.features != table.features:
        return None
    kept: Floats | None = kept_rows(bundle.reference, options.keep_reference)
    return kept


def _plots(registry: Registry, trained: Trained, features: tuple[str, ...], console: Console) -> None:
    """Draw and store the plots. The version stands already: whatever goes wrong here is only said."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            if plots.draw(trained.pipeline, trained.reference, features, Path(folder)):
                registry.log_files(trained.version.run_id, Path(folder), under="plots")
    except Exception as error:  # noqa: BLE001 - pictures are worth no failed training
        console.print(f"anomaly-train: no SHAP plots: {error}", style="yellow", markup=False, highlight=False)


def _progress(console: Console, total: int | None) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    progress.add_task("", total=total)
    return progress


def _stepper(progress: Progress) -> Callable[[str], None]:
    task = progress.task_ids[0]
    words: Mapping[str, str] = WORDS

    def on_step(name: str) -> None:
        progress.update(task, description=words[name], completed=STEPS.index(name))

    return on_step

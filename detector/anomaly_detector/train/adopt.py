"""Give a registered model the bundle that it lacks: a new version, the same model, with what serving wants to know."""

import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

from anomaly_detector.bundle import FOLDER, write_bundle
from anomaly_detector.report import PREFIX
from anomaly_detector.scoring.loading import RefusedError, load_model
from anomaly_detector.scoring.signature import read_signature
from anomaly_detector.train.bundling import make_bundle, serving_tags
from anomaly_detector.train.errors import DataError
from anomaly_detector.train.order import Order
from anomaly_detector.train.registry import Registry, Version
from anomaly_detector.train.table import Table


def adopt(table: Table, registry: Registry, order: Order, *, version: Version) -> Version:
    """Register a copy of `version` with a bundle made from `table`, rows like those that it was trained on.

    A version's artifacts never change under its number, so there is a new one; its tag `parent-version` names the
    old. Raises DataError when the model cannot be loaded or the rows do not fit it, RegistryError.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = registry.download(version, Path(temporary))
        try:
            model, flavor = load_model(folder, allow_pickle=order.allow_pickle)
            signature = read_signature(folder)
        except RefusedError as error:
            here = "" if order.allow_pickle else " (pickles: here with --allow-pickle)"
            raise DataError(f"{version.name} version {version.version}: {error}{here}") from None
        estimator = type(model.steps[-1][1] if hasattr(model, "steps") else model).__name__
        told = None if signature is None else signature.names
        names = told or tuple(map(str, getattr(model, "feature_names_in_", table.features)))
        count = getattr(model, "n_features_in_", len(names))
        if names != table.features or count != len(names):
            its = f"has {count} others" if names == table.features else f"has {', '.join(names)}"
            raise DataError(f"{table.source}: features {', '.join(table.features)}; the model {its}")
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="X does not have valid feature names")  # they were compared
                bundle = make_bundle(model, table, order, estimator=estimator)
                rate = float((model.predict(table.rows) == -1).mean())
        except ValueError as error:
            raise DataError(f"{version.name} version {version.version} fails on {table.source}: {error}") from None
        is_skops = flavor.get("serialization_format") == "skops"
        bundle = replace(bundle, contamination=round(rate, 4), format="skops" if is_skops else "cloudpickle")
        write_bundle(folder / FOLDER, bundle)
        tags = {PREFIX + "parent-version": version.version, PREFIX + "trigger": "adopt"}
        logged = registry.store_copy(folder, of=version, tags=tags)
        about = f"Version {version.version} with reference, scores and drift calibration from {table.source}."
        return registry.register(
            version.name, logged, description=about, tags=serving_tags(bundle, logged) | tags | dict(order.tags)
        )

"""What a new version takes over from an older one: a retraining answers for the same features in the same way."""

import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from anomaly_detector.bundle import Bundle, BundleError, read_bundle
from anomaly_detector.report import PREFIX
from anomaly_detector.train.errors import DataError
from anomaly_detector.train.features import FeatureNotes
from anomaly_detector.train.pipeline import ESTIMATORS, MOST_CONTAMINATION, TRANSFORMS, Recipe
from anomaly_detector.train.registry import Registry, Version

_PARAMETER = "param."
_BETWEEN_TRANSFORMS = re.compile(rf" (?=(?:{'|'.join(TRANSFORMS)}):)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heritage:
    """What holds where an option says nothing else."""

    notes: FeatureNotes = field(default_factory=FeatureNotes)
    recipe: Recipe = field(default_factory=Recipe)
    bundle: Bundle | None = None
    """Of the version that it comes from."""


def inherit(registry: Registry, model: str, number: str) -> Heritage:
    """Return features with units and descriptions, and the recipe, of a version.

    What a version of another origin does not say is as for a model from scratch. Raises RegistryError, and DataError
    for a bundle that cannot be read.
    """
    version = registry.version(model, number)
    bundle = bundle_of(registry, version, why="--like")
    said = registry.parameters(version.run_id) if version.run_id else {}
    estimator = bundle.estimator if bundle else version.tags.get(PREFIX + "estimator", "")
    return Heritage(notes=_notes(bundle), recipe=_recipe(estimator, bundle, said), bundle=bundle)


def bundle_of(registry: Registry, version: Version, *, why: str) -> Bundle | None:
    """Return the bundle of a version, or none; `why` it is wanted. Raises RegistryError and DataError."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return read_bundle(registry.download(version, Path(folder)))
        except BundleError as error:
            raise DataError(f"{why}: version {version.version}: {error}") from None


def _notes(bundle: Bundle | None) -> FeatureNotes:
    if bundle is None:
        return FeatureNotes()
    return FeatureNotes(names=bundle.features, units=bundle.units, descriptions=bundle.descriptions)


def _recipe(estimator: str, bundle: Bundle | None, said: dict[str, str]) -> Recipe:
    """Return the recipe that the run's parameters tell, as far as they are those of this estimator."""
    if estimator not in ESTIMATORS:
        return Recipe()
    changes: dict[str, Any] = {"estimator": estimator}
    contamination = bundle.contamination if bundle else None
    if contamination is not None and 0 < contamination <= MOST_CONTAMINATION:
        changes["contamination"] = contamination
    if said.get("estimator") == estimator:
        changes["parameters"] = {
            name.removeprefix(_PARAMETER): None if value == "None" else yaml.safe_load(value)
            for name, value in said.items()
            if name.startswith(_PARAMETER)
        }
        changes["transforms"] = tuple(_BETWEEN_TRANSFORMS.split(said["transforms"])) if said.get("transforms") else ()
    return Recipe(**changes)

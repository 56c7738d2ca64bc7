"""Load a model that MLflow saved, without trusting it: the only place that deserializes.

A skops file is read with a list of trusted types that stands here, whatever the artifact asks for. A cloudpickle
can run any code at load and is refused unless the AnomalyModel allows it. Versions are compared before either.
"""

import warnings
from pathlib import Path
from typing import Any

import yaml

TRUSTED_TYPES = frozenset(
    {
        # Arrays of trees and neighbours behind scikit-learn's own estimators: data without code.
        "numpy.dtype",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.metrics._dist_metrics.ManhattanDistance64",
        "sklearn.metrics._dist_metrics.MinkowskiDistance64",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.tree._tree.Tree",
    }
)
"""What may be loaded besides the types that skops itself trusts."""


class RefusedError(Exception):
    """Say in one line why a model may not or cannot be served; trying again will not help."""


def load_model(model_dir: Path, *, allow_pickle: bool) -> tuple[Any, dict[str, Any]]:
    """Return the fitted estimator of an MLflow model folder and its `sklearn` flavor as logged.

    Raises RefusedError if the folder is no scikit-learn model, was logged with another scikit-learn, holds types
    that are not trusted, is a pickle that is not allowed, or cannot be deserialized.
    """
    flavor = _flavor(model_dir)
    file = model_dir / str(flavor.get("pickled_model", "model.skops"))
    if not file.resolve().is_relative_to(model_dir.resolve()) or not file.is_file():
        raise RefusedError(f"MLmodel names the model file {flavor.get('pickled_model')!r}, which is not in the folder")
    _check_version(flavor)
    if flavor.get("serialization_format") == "skops":
        return _from_skops(file), flavor
    if not allow_pickle:
        raise RefusedError(
            f"{file.name} is a pickle, which can run any code when it is loaded; log the model with "
            "serialization_format='skops' or set spec.model.allowPickle: true"
        )
    return _from_pickle(file), flavor


def read_description(model_dir: Path) -> dict[str, Any]:
    """Return what the file MLmodel says. Raises RefusedError if there is none, or it cannot be read."""
    try:
        described = yaml.safe_load((model_dir / "MLmodel").read_text())
    except FileNotFoundError:
        raise RefusedError("no MLmodel file: this is not an MLflow model") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RefusedError(f"MLmodel is not YAML: {' '.join(str(error).split())}") from None
    return described if isinstance(described, dict) else {}


def _flavor(model_dir: Path) -> dict[str, Any]:
    flavors = read_description(model_dir).get("flavors")
    flavor = flavors.get("sklearn") if isinstance(flavors, dict) else None
    if not isinstance(flavor, dict):
        named = ", ".join(sorted(flavors)) if isinstance(flavors, dict) else "none"
        raise RefusedError(f"MLmodel: expected the flavor sklearn, got {named}")
    return flavor


def _check_version(flavor: dict[str, Any]) -> None:
    import sklearn  # noqa: PLC0415 - the lean server imports this module and needs scikit-learn only for some models

    logged, here = str(flavor.get("sklearn_version")), sklearn.__version__
    if logged.split(".")[:2] != here.split(".")[:2]:
        raise RefusedError(
            f"the model was logged with scikit-learn {logged}, this image has {here}; scikit-learn reads models of "
            f"the same minor version only: train again, or use an image with scikit-learn {logged}"
        )


def _from_skops(file: Path) -> Any:
    from skops import io  # noqa: PLC0415 - imports scikit-learn

    try:
        untrusted = sorted(set(io.get_untrusted_types(file=file)) - TRUSTED_TYPES)
        model = None if untrusted else io.load(file, trusted=sorted(TRUSTED_TYPES))
    except Exception as error:  # noqa: BLE001 - a broken artifact fails in any way it likes
        raise RefusedError(f"{file.name} cannot be read as skops: {_one_line(error)}") from None
    if untrusted:
        raise RefusedError(f"{file.name} needs types that are not trusted: {', '.join(untrusted)[:500]}")
    return model


def _from_pickle(file: Path) -> Any:
    import cloudpickle  # noqa: PLC0415 - needed for old models only

    try:
        with warnings.catch_warnings(), file.open("rb") as opened:
            warnings.simplefilter("ignore")
            return cloudpickle.load(opened)
    except Exception as error:  # noqa: BLE001 - a broken artifact fails in any way it likes
        raise RefusedError(f"{file.name} cannot be unpickled: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]

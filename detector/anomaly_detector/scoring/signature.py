"""A model's signature, as MLflow logs it in the file MLmodel: how the columns of a row are called, and their types."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomaly_detector.scoring.loading import RefusedError, read_description

DATATYPES = {
    "double": "FP64", "float": "FP32", "long": "INT64", "integer": "INT32", "boolean": "BOOL",
    "float64": "FP64", "float32": "FP32", "int64": "INT64", "int32": "INT32", "bool": "BOOL",
}  # fmt: skip
"""Datatype of the Open Inference Protocol by MLflow's name of a column's type, or NumPy's of a tensor's."""
ANY_NUMBER = "FP64"
"""Datatype of a column whose type is not known."""
_NO_NUMBERS = frozenset({"string", "binary", "datetime", "object", "array", "map", "sparkml_vector"})
_MATRIX = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a row is made of."""

    names: tuple[str, ...] | None
    """None where the columns have none."""
    datatypes: tuple[str, ...]
    """Of each column, of the Open Inference Protocol; of a tensor one for all of its columns."""
    width: int


def read_signature(model_dir: Path) -> Signature | None:
    """Return the signature of a model folder; none if it was logged without, or says nothing of a row's columns.

    Raises RefusedError if it cannot be read, or has columns that hold something else than numbers.
    """
    signature = read_description(model_dir).get("signature")
    inputs = signature.get("inputs") if isinstance(signature, dict) else None
    if inputs is None:
        return None
    try:
        specs = json.loads(inputs)
    except (TypeError, ValueError):
        specs = None
    if not isinstance(specs, list) or not all(isinstance(spec, dict) for spec in specs):
        raise RefusedError(f"MLmodel: signature.inputs: expected a list of columns as JSON, got {inputs!r:.80}")
    if any(spec.get("type") == "tensor" for spec in specs):
        return _of_tensor(specs[0]) if len(specs) == 1 else None
    return _of_columns(specs) if specs else None


def _of_columns(specs: list[dict[str, Any]]) -> Signature:
    named = all("name" in spec for spec in specs)
    for index, spec in enumerate(specs):
        if spec.get("type") in _NO_NUMBERS:
            column = spec.get("name", index)
            raise RefusedError(
                f"the signature in MLmodel has the column {column} of type {spec['type']}; the detector takes rows of "
                "numbers: encode it before the model and train again"
            )
    return Signature(
        names=tuple(str(spec["name"]) for spec in specs) if named else None,
        datatypes=tuple(DATATYPES.get(str(spec.get("type")), ANY_NUMBER) for spec in specs),
        width=len(specs),
    )


def _of_tensor(spec: dict[str, Any]) -> Signature | None:
    """Return what one matrix [rows, columns] says; its columns have no names."""
    inner = spec.get("tensor-spec")
    if not isinstance(inner, dict):
        return None
    shape = inner.get("shape")
    if not isinstance(shape, list) or len(shape) != _MATRIX or type(shape[1]) is not int or shape[1] < 1:
        return None
    return Signature(names=None, datatypes=(DATATYPES.get(str(inner.get("dtype")), ANY_NUMBER),), width=shape[1])

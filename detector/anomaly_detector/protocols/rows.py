"""From JSON to rows of float64, strictly: numbers and null only, every row with exactly the model's features.

null and the literal NaN are a missing value, Infinity is infinite; both are bad input where the model takes neither.
"""

import json
from collections.abc import Sequence
from itertools import chain, islice
from operator import itemgetter
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from anomaly_detector.problems import Problem, bad_input
from anomaly_detector.protocols import Contract
from anomaly_detector.usual import are_usual

_NUMBERS = frozenset({float, int, type(None)})
_LARGEST = float(np.finfo(np.float32).max)  # beyond it a tree, which computes in float32, sees infinity


def loads(body: bytes) -> Any:
    """Parse JSON, also with the literals NaN and Infinity that orjson refuses. Raises Problem."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if b"NaN" not in body and b"Infinity" not in body:
            raise Problem(400, "NotJson", f"body: not JSON: {error}", "body") from None
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "NotJson", f"body: not JSON: {error}", "body") from None


def dumps(value: Any) -> bytes:
    """Write JSON; NaN becomes null."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def by_position(rows: Any, contract: Contract, field: str = "rows") -> NDArray[np.float64]:
    """Return a list of lists as a matrix, its columns in the model's order. Raises Problem."""
    _check_length(rows, contract, field)
    width = len(contract.features)
    for index, row in enumerate(rows):
        if type(row) is not list or len(row) != width:
            raise _misshapen(f"{field}[{index}]", row, contract)
    return _matrix(rows, contract, field)


def by_name(rows: Any, contract: Contract, field: str = "rows", *, strict: bool = True) -> NDArray[np.float64]:
    """Return a list of objects as a matrix; unknown names are refused if `strict`, else left out. Raises Problem."""
    _check_length(rows, contract, field)
    names = contract.features
    pick = itemgetter(*names) if len(names) > 1 else lambda row: (row[names[0]],)
    picked = []
    for index, row in enumerate(rows):
        if type(row) is not dict:
            raise bad_input("WrongType", f"{field}[{index}]", expected="an object by feature name", received=kind(row))
        try:
            picked.append(pick(row))
        except KeyError as error:
            raise bad_input(
                "MissingFeature", f"{field}[{index}].{error.args[0]}", expected="a number", received="nothing"
            ) from None
        if strict and len(row) != len(names):
            extra = next(name for name in row if name not in names)
            raise bad_input("UnknownFeature", f"{field}[{index}].{extra:.80}", expected=_listed(names), received=extra)
    return _matrix(picked, contract, field)


def reorder(rows: Any, columns: Any, contract: Contract, field: str, *, strict: bool) -> NDArray[np.float64]:
    """Return rows whose columns are named beside them (`columns`) in the model's order. Raises Problem."""
    if type(columns) is not list or not all(type(name) is str for name in columns):
        raise bad_input("WrongType", field, expected="a list of feature names", received=kind(columns))
    places: dict[str, int] = {}
    doubled = {name for place, name in enumerate(columns) if places.setdefault(name, place) != place}
    for name in contract.features:
        if name not in places or name in doubled:
            reason = "DuplicateFeature" if name in doubled else "MissingFeature"
            raise bad_input(reason, field, expected=f"{name} once", received=_listed(columns))
    if strict and len(columns) != len(contract.features):
        extra = next(name for name in columns if name not in contract.features)
        raise bad_input("UnknownFeature", field, expected=_listed(contract.features), received=extra)
    _check_length(rows, contract, "rows")
    for index, row in enumerate(rows):
        if type(row) is not list or len(row) != len(columns):
            received = f"{len(row)} values" if type(row) is list else kind(row)
            raise bad_input("WrongShape", f"rows[{index}]", expected=f"{len(columns)} values", received=received)
    pick = [places[name] for name in contract.features]
    return _matrix([[row[place] for place in pick] for row in rows], contract, "rows")


def finish(matrix: NDArray[np.float64], contract: Contract, field: str) -> NDArray[np.float64]:
    """Check a matrix of the model's columns for values that the model does not take. Raises Problem."""
    if (contract.accepts_missing and contract.accepts_infinite) or are_usual(matrix):
        return matrix
    if not contract.accepts_missing and (missing := np.isnan(matrix)).any():
        place = _place(missing, contract, field)
        raise bad_input("MissingValue", place, expected="a number (this model takes no missing values)", received="NaN")
    if not contract.accepts_infinite and (beyond := np.abs(matrix) > _LARGEST).any():
        place = _place(beyond, contract, field)
        raise bad_input(
            "OutOfRange",
            place,
            expected=f"a number between -{_LARGEST:.3g} and {_LARGEST:.3g}",
            received="a larger one",
        )
    return matrix


def kind(value: Any) -> str:
    """Name a JSON value's type as people do."""
    words = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return words.get(type(value), "a number")


def _matrix(rows: Sequence[Sequence[Any]], contract: Contract, field: str) -> NDArray[np.float64]:
    if not _NUMBERS.issuperset(map(type, chain.from_iterable(rows))):
        for index, row in enumerate(rows):
            for name, cell in zip(contract.features, row, strict=True):
                if type(cell) not in _NUMBERS:
                    raise bad_input(
                        "WrongType", f"{field}[{index}].{name:.80}", expected="a number or null", received=kind(cell)
                    )
    try:
        matrix = np.array(rows, dtype=np.float64)
    except OverflowError:
        raise Problem(
            400, "OutOfRange", f"{field}: expected numbers that fit into 64 bits, got a larger one", field
        ) from None
    return finish(matrix, contract, field)


def _check_length(rows: Any, contract: Contract, field: str) -> None:
    if type(rows) is not list:
        raise bad_input("WrongType", field, expected="a list of rows", received=kind(rows))
    if not rows:
        raise bad_input("Empty", field, expected="at least one row", received="none")
    if len(rows) > contract.max_rows:
        raise bad_input(
            "TooManyRows", field, expected=f"at most {contract.max_rows} rows", received=len(rows), status=413
        )


def _misshapen(field: str, row: Any, contract: Contract) -> Problem:
    width = len(contract.features)
    if type(row) is not list:
        return bad_input("WrongType", field, expected=f"a list of {width} numbers", received=kind(row))
    expected = f"{width} numbers ({_listed(contract.features)})"
    return bad_input("WrongShape", field, expected=expected, received=len(row))


def _place(wrong: NDArray[np.bool_], contract: Contract, field: str) -> str:
    row, column = np.argwhere(wrong)[0]
    return f"{field}[{row}].{contract.features[column]}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(islice(names, 500))[:500]

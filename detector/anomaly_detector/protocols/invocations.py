"""MLflow's scoring protocol: `POST /invocations` with its four JSON shapes and CSV.

Predictions are those of scikit-learn: -1 for an anomaly, 1 for a normal row. As with MLflow, columns that the
model does not know are left out.
"""

import csv
import io
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_detector.problems import Problem, bad_input
from anomaly_detector.protocols import Answer, Contract, Payload, Query, Scored
from anomaly_detector.protocols.rows import by_name, by_position, dumps, kind, loads, reorder

_SHAPES = ("dataframe_split", "dataframe_records", "instances", "inputs")


class Invocations:
    """What `requests`, `mlflow.deployments` and curl send to an MLflow scoring server."""

    name = "invocations"

    def parse(self, payload: Payload, contract: Contract) -> Query:
        """Return the rows of a JSON or CSV body."""
        match payload.content_type:
            case "application/json":
                rows = _from_json(loads(payload.body), contract)
            case "text/csv":
                rows = _from_csv(payload.body, contract)
            case other:
                raise bad_input(
                    "UnsupportedMediaType",
                    "content-type",
                    expected="application/json or text/csv",
                    received=other[:80],
                    status=415,
                )
        return Query(rows=rows, explain="none")

    def render(self, query: Query, scored: Scored, contract: Contract) -> Answer:  # noqa: ARG002 - Codec
        """Return `{"predictions": [-1 | 1, ...]}`."""
        return Answer(body=dumps({"predictions": np.where(scored.anomalous, -1, 1)}))

    def refuse(self, problem: Problem) -> Answer:
        """Return MLflow's error body, with our details beside it and never a stack trace."""
        code = "BAD_REQUEST" if problem.status < 500 else "INTERNAL_ERROR"  # noqa: PLR2004 - HTTP
        body = {"error_code": code, "message": problem.message} | problem.to_json()
        return Answer(status=problem.status, body=json.dumps(body).encode())


def _from_json(body: Any, contract: Contract) -> NDArray[np.float64]:
    found = [name for name in _SHAPES if name in body] if type(body) is dict else []
    if len(found) != 1:
        received = ", ".join(found) or kind(body)
        raise bad_input(
            "WrongFormat", "body", expected=f"an object with one of {', '.join(_SHAPES)}", received=received
        )
    value = body[found[0]]
    match found[0]:
        case "dataframe_split":
            return _from_split(value, contract)
        case "dataframe_records":
            return by_name(value, contract, "dataframe_records", strict=False)
        case "inputs" if type(value) is dict:
            return _from_columns(value, contract)
        case name:
            return _from_list(value, contract, name)


def _from_split(value: Any, contract: Contract) -> NDArray[np.float64]:
    if type(value) is not dict:
        raise bad_input("WrongType", "dataframe_split", expected="an object", received=kind(value))
    if "columns" not in value:
        return by_position(value.get("data"), contract, "dataframe_split.data")
    return reorder(value.get("data"), value["columns"], contract, "dataframe_split.columns", strict=False)


def _from_list(value: Any, contract: Contract, field: str) -> NDArray[np.float64]:
    if type(value) is list and value:
        if type(value[0]) is dict:
            return by_name(value, contract, field, strict=False)
        if type(value[0]) is not list and len(contract.features) == 1:
            value = [[cell] for cell in value]
    return by_position(value, contract, field)


def _from_columns(value: dict[str, Any], contract: Contract) -> NDArray[np.float64]:
    columns = []
    for name in contract.features:
        column = value.get(name)
        if type(column) is not list:
            received = "nothing" if name not in value else kind(column)
            raise bad_input("MissingFeature", f"inputs.{name}", expected="a list of numbers", received=received)
        columns.append([cell[0] if type(cell) is list and len(cell) == 1 else cell for cell in column])
    lengths = [len(column) for column in columns]
    if len(set(lengths)) != 1:
        raise bad_input("WrongShape", "inputs", expected="as many values in each column", received=lengths)
    return by_position([list(row) for row in zip(*columns, strict=True)], contract, "inputs")


def _from_csv(body: bytes, contract: Contract) -> NDArray[np.float64]:
    try:
        lines = list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise Problem(400, "NotCsv", f"body: not CSV in UTF-8: {error}", "body") from None
    lines = [line for line in lines if line]
    if len(lines) < 2:  # noqa: PLR2004 - names and one row
        raise bad_input(
            "Empty", "body", expected="a line of names and at least one row", received=f"{len(lines)} lines"
        )
    names, wanted = [name.strip() for name in lines[0]], frozenset(contract.features)
    rows: list[list[Any]] = []
    for index, line in enumerate(lines[1:]):
        if len(line) != len(names):
            raise bad_input("WrongShape", f"body[{index}]", expected=f"{len(names)} values", received=len(line))
        cells = zip(names, line, strict=True)
        rows.append([_number(cell, index, name) if name in wanted else None for name, cell in cells])
    return reorder(rows, names, contract, "body", strict=False)


def _number(cell: str, row: int, name: str) -> float:
    text = cell.strip()
    if text.lower() in ("", "nan", "null", "na"):
        return float("nan")
    try:
        return float(text)
    except ValueError:
        raise bad_input("WrongType", f"body[{row}].{name:.80}", expected="a number", received=repr(text[:80])) from None

"""The Open Inference Protocol v2 over HTTP, with its binary extension.

MLServer's, KServe's and Triton's clients speak it.
"""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_detector.problems import Problem, bad_input
from anomaly_detector.protocols import Answer, Contract, Payload, Query, Scored
from anomaly_detector.protocols.rows import dumps, finish, kind, loads
from anomaly_detector.protocols.tensors import read_tensor, split_binary, write_tensor

HEADER_LENGTH = "Inference-Header-Content-Length"
OUTPUTS = {"label": "INT64", "score": "FP64", "confidence": "FP64", "explanation": "BYTES", "shap_values": "FP64"}
"""Datatype by output. `label` is 1 for an anomaly, else 0; `explanation` is JSON, empty where a row is normal."""
_DEFAULT_OUTPUTS = ("label", "score", "confidence")
_MATRIX = 2


class Infer:
    """One tensor [rows, features], or one tensor [rows] or [rows, 1] for each feature by name."""

    name = "v2"

    def parse(self, payload: Payload, contract: Contract) -> Query:
        """Return the rows and, in `details`, what the answer must repeat."""
        head, raw = split_binary(payload.body, payload.headers.get(HEADER_LENGTH.lower()))
        body = loads(head)
        if type(body) is not dict:
            raise bad_input("WrongType", "body", expected="an inference request, an object", received=kind(body))
        tensors = _inputs(body.get("inputs"), raw)
        matrix = finish(_table(tensors, contract), contract, "inputs")
        if len(matrix) > contract.max_rows:
            raise bad_input(
                "TooManyRows", "inputs", expected=f"at most {contract.max_rows} rows", received=len(matrix), status=413
            )
        request_id = body.get("id", "")
        if type(request_id) is not str or not _is_text(request_id):
            raise bad_input("WrongType", "id", expected="a string of Unicode", received=kind(request_id))
        outputs = _outputs(body)
        return Query(
            rows=matrix,
            explain="anomalies" if "explanation" in outputs else "none",
            shap_values="shap_values" in outputs,
            details=(request_id, outputs),
        )

    def render(self, query: Query, scored: Scored, contract: Contract) -> Answer:
        """Return the outputs that were asked for, by default label, score and confidence."""
        request_id, outputs = query.details
        written = [
            write_tensor(name, OUTPUTS[name], _output(name, scored), binary=binary) for name, binary in outputs.items()
        ]
        body: dict[str, Any] = {"model_name": contract.model, "model_version": contract.version}
        if request_id:
            body["id"] = request_id
        head = dumps(body | {"outputs": [tensor for tensor, _ in written]})
        if not any(outputs.values()):
            return Answer(body=head)
        return Answer(
            body=head + b"".join(raw for _, raw in written),
            content_type="application/octet-stream",
            headers={HEADER_LENGTH: str(len(head))},
        )

    def refuse(self, problem: Problem) -> Answer:
        """Return `{"error": message}`, as the protocol says."""
        return Answer(status=problem.status, body=json.dumps({"error": problem.message}).encode())


def metadata(contract: Contract, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the model's metadata: one input a feature, of the type that the signature says, and all outputs."""
    width = len(contract.features)
    datatypes = contract.datatypes or ("FP64",) * width
    return {
        "name": contract.model,
        "versions": [contract.version],
        "platform": "anomaly-detector",
        "inputs": [
            {"name": name, "datatype": datatype, "shape": [-1, 1]}
            for name, datatype in zip(contract.features, datatypes, strict=True)
        ],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": [-1, width] if name == "shap_values" else [-1]}
            for name, datatype in OUTPUTS.items()
        ],
        "parameters": parameters,
    }


def _inputs(inputs: Any, raw: bytes) -> dict[str, NDArray[np.float64]]:
    if type(inputs) is not list or not inputs:
        raise bad_input("WrongType", "inputs", expected="a list of tensors", received=kind(inputs))
    tensors: dict[str, NDArray[np.float64]] = {}
    offset = 0
    for index, value in enumerate(inputs):
        where = f"inputs[{index}]"
        if type(value) is not dict or type(value.get("name")) is not str:
            raise bad_input(
                "WrongType", where, expected="a tensor with name, shape, datatype, data", received=kind(value)
            )
        size = _binary_size(value, where)
        chunk = None if size is None else raw[offset : offset + size]
        offset += size or 0
        tensors[value["name"]] = read_tensor(value, where, chunk)
    if len(tensors) != len(inputs):
        raise bad_input("DuplicateFeature", "inputs", expected="every name once", received="one of them twice")
    return tensors


def _binary_size(value: dict[str, Any], where: str) -> int | None:
    parameters = value.get("parameters")
    size = parameters.get("binary_data_size") if type(parameters) is dict else None
    if size is not None and (type(size) is not int or size < 0):
        raise bad_input("WrongType", f"{where}.parameters.binary_data_size", expected="bytes", received=str(size)[:80])
    return size


def _table(tensors: dict[str, NDArray[np.float64]], contract: Contract) -> NDArray[np.float64]:
    width = len(contract.features)
    if len(tensors) == 1:
        name, tensor = next(iter(tensors.items()))
        if tensor.ndim == _MATRIX and tensor.shape[1] == width:
            return tensor
        if tensor.ndim == 1 and width in (1, len(tensor)):
            return tensor.reshape(-1, width)
        if name not in contract.features or width == 1:
            expected = f"[rows, {width}] ({', '.join(contract.features)[:300]})"
            raise bad_input("WrongShape", "inputs[0].shape", expected=expected, received=list(tensor.shape))
    columns = []
    for name in contract.features:
        tensor = tensors.get(name, np.empty(0))
        if name not in tensors:
            raise bad_input("MissingFeature", "inputs", expected=f"a tensor named {name}", received=_names(tensors))
        if tensor.ndim == _MATRIX and tensor.shape[1] != 1:
            raise bad_input("WrongShape", f"{name}.shape", expected="[rows] or [rows, 1]", received=list(tensor.shape))
        columns.append(tensor.ravel())
    if len({len(column) for column in columns}) != 1:
        raise bad_input("WrongShape", "inputs", expected="as many rows in each", received=[len(c) for c in columns])
    if unknown := tensors.keys() - set(contract.features):
        raise bad_input("UnknownFeature", "inputs", expected=", ".join(contract.features)[:300], received=min(unknown))
    return np.ascontiguousarray(np.column_stack(columns))


def _is_text(value: str) -> bool:
    """Say whether it can be written: JSON's escapes may name half of a character."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _names(tensors: dict[str, Any]) -> str:
    return ", ".join(tensors)[:300]


def _outputs(body: dict[str, Any]) -> dict[str, bool]:
    """Return the wanted outputs by name, and whether each goes as binary."""
    parameters = body.get("parameters")
    binary = type(parameters) is dict and parameters.get("binary_data_output") is True
    outputs = body.get("outputs")
    if not outputs:
        return dict.fromkeys(_DEFAULT_OUTPUTS, binary)
    wanted: dict[str, bool] = {}
    for index, output in enumerate(outputs if type(outputs) is list else [outputs]):
        name = output.get("name") if type(output) is dict else None
        if type(name) is not str or name not in OUTPUTS:
            raise bad_input(
                "UnknownOutput", f"outputs[{index}].name", expected=", ".join(OUTPUTS), received=str(name)[:80]
            )
        own = output.get("parameters")
        choice = own.get("binary_data") if type(own) is dict else None
        wanted[name] = binary if choice is None else choice is True
    return wanted


def _output(name: str, scored: Scored) -> Any:
    match name:
        case "label":
            return scored.anomalous
        case "score":
            return scored.scores
        case "confidence":
            return np.full(len(scored.scores), np.nan) if scored.confidence is None else scored.confidence
        case "explanation":
            said = scored.explanations
            return [dumps(said[row]).decode() if row in said else "" for row in range(len(scored.scores))]
        case _:
            return scored.shap_values

"""The OpenAPI document of the users' port."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from anomaly_detector.protocols import Contract
from anomaly_detector.protocols.tensors import DTYPES
from anomaly_detector.protocols.v2 import HEADER_LENGTH, OUTPUTS


def _version() -> str:
    try:
        return version("anomaly-operator")
    except PackageNotFoundError:
        return "0"


VERSION = _version()
_NUMBER: dict[str, Any] = {"type": ["number", "null"]}
_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["reason", "message"],
            "properties": {
                "reason": {"type": "string"},
                "message": {"type": "string"},
                "field": {"type": "string"},
                "expected": {},
                "received": {},
            },
        }
    },
}
_MLFLOW_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error_code", "message"],
    "properties": {"error_code": {"type": "string"}, "message": {"type": "string"}},
}
_V2_ERROR: dict[str, Any] = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_HEADER_LENGTH: dict[str, Any] = {
    "name": HEADER_LENGTH,
    "in": "header",
    "description": "Where raw tensors follow the JSON (the binary extension): the length of the JSON.",
    "schema": {"type": "integer", "minimum": 0},
}
_CSV = "A line of names, then one line a row; an empty cell is a missing value."
_REFUSED = ("400", "404", "408", "413", "415", "500", "503", "504")


def document(contract: Contract) -> dict[str, Any]:
    """Return the document for a model."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Anomaly detector of {contract.model}",
            "version": VERSION,
            "description": "null and the literal NaN are missing values.",
        },
        "paths": _scoring(contract)
        | {
            "/v2": {"get": _get("The server's metadata.")},
            "/v2/health/live": {"get": _get("Liveness.")},
            "/v2/health/ready": {"get": _get("Readiness.")},
            "/health": {"get": _get("Liveness.")},
            "/ready": {"get": _get("Readiness.")},
            "/ping": {"get": _get("Readiness, by MLflow's name.")},
            "/version": {"get": _get("The model's version, as text.", "text/plain")},
            "/openapi.json": {"get": _get("This document.")},
        },
    }


def _scoring(contract: Contract) -> dict[str, Any]:
    """Return the paths that score, and those that describe the model, with and without its version."""
    features, paths = contract.features, {}
    invocations = _operation(
        "MLflow's scoring protocol.",
        _invocations(features),
        _object(predictions={"type": "array", "items": {"enum": [-1, 1]}}),
        _MLFLOW_ERROR,
    )
    invocations["requestBody"]["content"]["text/csv"] = {"schema": {"type": "string", "description": _CSV}}
    infer = _operation("Open Inference Protocol v2.", _infer(features), _inferred(), _V2_ERROR)
    infer["requestBody"]["content"]["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    infer["responses"]["200"]["content"]["application/octet-stream"] = {}
    infer["parameters"] = [_HEADER_LENGTH]
    for path in (f"/v2/models/{contract.model}", f"/v2/models/{contract.model}/versions/{contract.version}"):
        paths[f"{path}/infer"] = {"post": infer}
        paths[path] = {"get": _get("The model's metadata.")}
        paths[f"{path}/ready"] = {"get": _get("Whether the model is ready.")}
    return paths | {
        "/predict": {"post": _operation("Score rows and explain the anomalies.", _predict(features), _predictions())},
        "/explain": {"post": _operation("Score and explain every row.", _predict(features), _predictions())},
        "/invocations": {"post": invocations},
    }


def _operation(
    summary: str, request: dict[str, Any], answer: dict[str, Any], error: dict[str, Any] = _ERROR
) -> dict[str, Any]:
    refused = {
        status: {"description": "Refused, and why.", "content": {"application/json": {"schema": error}}}
        for status in _REFUSED
    }
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
        "responses": {
            "200": {"description": "Scored.", "content": {"application/json": {"schema": answer}}},
            "409": {"description": "Explanations are off.", "content": {"application/json": {"schema": error}}},
            **refused,
        },
    }


def _get(summary: str, content_type: str = "application/json") -> dict[str, Any]:
    content: dict[str, Any] = {content_type: {}}
    return {
        "summary": summary,
        "responses": {
            "200": {"description": "Yes.", "content": content},
            "503": {"description": "Not now.", "content": {"application/json": {}}},
        },
    }


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _rows(features: Sequence[str]) -> dict[str, Any]:
    count = len(features)
    return {
        "type": "array",
        "minItems": 1,
        "items": {"type": "array", "items": _NUMBER, "minItems": count, "maxItems": count},
    }


def _records(features: Sequence[str]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": _object(**dict.fromkeys(features, _NUMBER))}


def _predict(features: Sequence[str]) -> dict[str, Any]:
    names = {"type": "array", "items": {"enum": list(features)}, "uniqueItems": True, "minItems": len(features)}
    by_position = _object(rows=_rows(features))
    by_position["properties"]["features"] = names
    by_position["additionalProperties"] = False
    records = _records(features)
    records["items"]["additionalProperties"] = False
    return {"oneOf": [by_position, _object(rows=records) | {"additionalProperties": False}]}


def _predictions() -> dict[str, Any]:
    prediction = _object(anomaly={"type": "boolean"}, score={"type": "number"}, confidence=_NUMBER)
    prediction["properties"] |= {"id": {"type": "string"}, "explanation": {"type": "object"}}
    return _object(
        model={"type": "string"}, version={"type": "string"}, predictions={"type": "array", "items": prediction}
    )


def _invocations(features: Sequence[str]) -> dict[str, Any]:
    rows, records = _rows(features), _records(features)
    split = _object(columns={"enum": [list(features)]}, data=rows)
    columns = _object(**{name: {"type": "array", "items": _NUMBER, "minItems": 1} for name in features})
    inputs = {"anyOf": [rows, records, columns]}
    shapes = {"dataframe_split": split, "dataframe_records": records, "instances": rows, "inputs": inputs}
    return {"anyOf": [_object(**{name: shape}) | {"additionalProperties": False} for name, shape in shapes.items()]}


def _infer(features: Sequence[str]) -> dict[str, Any]:
    tensor = _object(
        name={"type": "string"},
        shape={"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 2},
        datatype={"enum": list(DTYPES)},
    )
    tensor["properties"] |= {
        "data": {"type": "array"},
        "parameters": {"type": "object", "properties": {"binary_data_size": {"type": "integer", "minimum": 0}}},
    }
    output = _object(name={"enum": list(OUTPUTS)})
    output["properties"]["parameters"] = {"type": "object", "properties": {"binary_data": {"type": "boolean"}}}
    request = _object(inputs={"type": "array", "items": tensor, "minItems": 1, "maxItems": max(1, len(features))})
    request["properties"] |= {
        "id": {"type": "string"},
        "outputs": {"type": "array", "items": output},
        "parameters": {"type": "object", "properties": {"binary_data_output": {"type": "boolean"}}},
    }
    return request


def _inferred() -> dict[str, Any]:
    output = _object(
        name={"enum": list(OUTPUTS)},
        shape={"type": "array", "items": {"type": "integer"}},
        datatype={"enum": sorted(set(OUTPUTS.values()))},
    )
    output["properties"] |= {"data": {"type": "array"}, "parameters": {"type": "object"}}
    answer = _object(
        model_name={"type": "string"}, model_version={"type": "string"}, outputs={"type": "array", "items": output}
    )
    answer["properties"]["id"] = {"type": "string"}
    return answer

"""Schemas of the built-in kinds, and how their objects are read from JSON."""

import re
from functools import cache
from importlib import resources
from typing import Any

import orjson

from anomaly_devcluster.api.schema import ANY, MISSING, Schema
from anomaly_devcluster.data import data

Types = dict[str, dict[str, str]]
QUANTITY = re.compile(r"^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$")
_INT64 = 1 << 63
_SCHEMAS: dict[str, Schema] = {}
_PYTHON: dict[str, Any] = {"string": str, "boolean": bool, "time": str, "bytes": str, "intOrString": (int, str)}


class DecodeError(ValueError):
    """A value has the wrong type."""


@cache
def types() -> Types:
    """Return the table of fields by type name."""
    table: Types = orjson.loads(resources.files(__package__).joinpath("types.json").read_bytes())
    return table


@cache
def kinds() -> Any:
    """Return the tables of kinds.yaml."""
    return data("api/kinds")


def schema_of(name: str) -> Schema:
    """Return the schema of a built-in type."""
    if name not in _SCHEMAS:
        schema = _SCHEMAS[name] = Schema(
            type="object", atomic=name in kinds()["atomicTypes"]
        )  # before what leads back to it
        fields = types()[name]
        schema.properties = {field: _field(name, field, kind.rstrip("!")) for field, kind in fields.items()}
        schema.required = tuple(field for field, kind in fields.items() if kind.endswith("!"))
        schema.retain_keys = name in ("DeploymentStrategy", "Volume")
        schema.finish()
    return _SCHEMAS[name]


def _field(owner: str, field: str, kind: str) -> Schema:
    at, table = f"{owner}.{field}", kinds()
    default = table["defaults"].get(owner, {}).get(field, MISSING)
    keys = tuple(table["listKeys"].get(at, ()))
    if kind[0] == "[":
        items = _element(kind[1:].rstrip("!"))
        patch_key = table["patchKeys"].get(at, keys[0] if keys else "")
        is_set = at in table["sets"]
        list_type = "map" if keys else "set" if is_set else "atomic"
        schema = Schema(type="array", items=items, list_type=list_type, list_keys=keys, patch_key=patch_key)
        schema.patch_merge = is_set
    elif kind[0] == "{":
        schema = Schema(type="object", additional=_element(kind[1:].rstrip("!")), atomic=at in table["atomicFields"])
    else:
        named = _element(kind)
        if default is MISSING:
            return named
        schema = Schema(**{slot: getattr(named, slot) for slot in Schema.__slots__})
    schema.default = default
    return schema.finish()


def _element(kind: str) -> Schema:
    if kind == "any":
        return ANY
    if kind[0] in "[{":
        return _field("", "", kind)
    return schema_of(kind) if kind in types() else Schema(type=kind)


def decode(value: Any, schema: Schema, path: str, unknown: list[str]) -> Any:
    """Read a value as Kubernetes' own decoder does: drop unknown fields, nulls and empty optional collections.

    Raises DecodeError for a value of the wrong type.
    """
    if schema.type == "any":
        return value
    if schema.type == "object":
        if (
            isinstance(value, bool)
            and schema is _SCHEMAS.get("JSONSchemaProps")
            and path.endswith("additionalProperties")
        ):
            return value
        if not isinstance(value, dict):
            raise DecodeError(f"json: cannot unmarshal {_json_type(value)} into Go struct field {path} of type object")
        return _decode_object(value, schema, path, unknown)
    if schema.type == "array":
        if not isinstance(value, list):
            raise DecodeError(f"json: cannot unmarshal {_json_type(value)} into Go struct field {path} of type array")
        items = schema.items or ANY
        return [decode(item, items, f"{path}[{index}]", unknown) for index, item in enumerate(value)]
    return _decode_scalar(value, schema.type, path)


def _decode_object(value: dict[str, Any], schema: Schema, path: str, unknown: list[str]) -> dict[str, Any]:
    known = schema.properties
    out: dict[str, Any] = {}
    for name, item in value.items():
        child = known.get(name) or schema.additional
        at = f"{path}.{name}" if path else name
        if child is None:
            unknown.append(at)
            continue
        if item is None:
            if child.type == "any" and schema.additional:
                out[name] = item
            continue
        decoded = decode(item, child, at, unknown)
        optional = name in known and name not in schema.required
        if optional and (decoded == [] or (decoded == {} and child.additional not in (None, ANY))):
            continue
        out[name] = decoded
    return out


def _decode_scalar(value: Any, kind: str, path: str) -> Any:
    if kind == "quantity":
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str) or not QUANTITY.match(value):
            raise DecodeError(
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            )
        return value
    if kind in ("integer", "number"):
        accepted = isinstance(value, (int, float)) and not isinstance(value, bool)
        if kind == "integer" and accepted and (value != int(value) or abs(value) >= _INT64):
            accepted = False
    else:
        accepted = isinstance(value, _PYTHON[kind]) and not (isinstance(value, bool) and kind != "boolean")
    if not accepted:
        raise DecodeError(f"json: cannot unmarshal {_json_type(value)} into Go struct field {path} of type {kind}")
    return int(value) if kind == "integer" else value


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, dict) else "array" if isinstance(value, list) else "null"

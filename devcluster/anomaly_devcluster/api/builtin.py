"""Schemas of the built-in kinds, and how their objects are read from JSON."""

from functools import cache
from importlib import resources
from typing import Any

import orjson

from anomaly_devcluster.api.quantities import is_quantity
from anomaly_devcluster.api.schema import ANY, MISSING, Schema, fits, json_type
from anomaly_devcluster.data import data

Types = dict[str, dict[str, str]]
QUANTITY = "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_SCHEMAS: dict[str, Schema] = {}


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
        # What may be false is false when it is absent, as in the types of Kubernetes.
        required = [field for field, kind in fields.items() if kind.endswith("!") and kind != "boolean!"]
        schema.required = (*required, *kinds()["required"].get(name, ()))
        schema.rules = tuple(kinds()["rules"].get(name, ()))
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
        named, raw = _element(kind), table["constraints"].get(at, {})
        if default is MISSING and not raw:
            return named
        schema = Schema(**{slot: getattr(named, slot) for slot in Schema.__slots__})
        schema.raw = raw
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
    if schema.type == "quantity":
        value = str(value) if json_type(value) in ("integer", "number") else value
        if isinstance(value, str) and not is_quantity(value):
            raise DecodeError("quantities must match the regular expression " + QUANTITY)
    if json_type(value) != schema.type and not fits(value, schema.type):
        given = json_type(value)
        given = {"integer": "number", "boolean": "bool"}.get(given, given)
        raise DecodeError(f"json: cannot unmarshal {given} into Go struct field {path} of type {schema.type}")
    if isinstance(value, dict):
        return _decode_object(value, schema, path, unknown)
    if isinstance(value, list):
        items = schema.items or ANY
        return [decode(item, items, f"{path}[{index}]", unknown) for index, item in enumerate(value)]
    return int(value) if schema.type == "integer" else value


def _decode_object(value: dict[str, Any], schema: Schema, path: str, unknown: list[str]) -> dict[str, Any]:
    known = schema.properties
    out: dict[str, Any] = {}
    for name, item in value.items():
        child, at = known.get(name) or schema.additional, f"{path}.{name}" if path else name
        if child is None:
            unknown.append(at)
        elif item is None:
            if child.type == "any" and schema.additional:
                out[name] = item
        else:
            decoded = decode(item, child, at, unknown)
            optional = name in known and name not in schema.required
            if not optional or not (decoded == [] or (decoded == {} and child.additional not in (None, ANY))):
                out[name] = decoded
    return out

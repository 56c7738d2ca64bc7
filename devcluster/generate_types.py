"""Write `anomaly_devcluster/api/types.json`: which fields the built-in kinds have, and of which type.

Run by hand when the emulated version moves on: `python devcluster/generate_types.py`. The facts are read from the
models of the official Python client, which are generated from Kubernetes' own OpenAPI document; the client is needed
here only, never at run time. A type expression is a name, `[T` (list of T), `{T` (map of string to T); `!` marks a
required field.
"""

import json
import types
import typing
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from kubernetes.aio.client import models

FOLDER = Path(__file__).parent / "anomaly_devcluster" / "api"
SCALARS = {str: "string", int: "integer", bool: "boolean", float: "number", datetime: "time", bytes: "bytes"}
EXCEPTIONS = {  # of another type than the client says: quantities, what may be empty, schemas that may be none
    ("HTTPHeader", "value"): "string",
    ("JSONSchemaProps", "dependencies"): "{{any",
    ("JSONSchemaProps", "items"): "JSONSchemaProps",
    ("JSONSchemaProps", "additionalProperties"): "any",
    ("ResourceRequirements", "limits"): "{quantity",
    ("ResourceRequirements", "requests"): "{quantity",
    ("VolumeResourceRequirements", "limits"): "{quantity",
    ("VolumeResourceRequirements", "requests"): "{quantity",
    ("EmptyDirVolumeSource", "sizeLimit"): "quantity",
    ("MetricTarget", "averageValue"): "quantity",
    ("MetricTarget", "value"): "quantity",
}


def roots() -> Iterator[type]:
    """Yield the models of all kinds that kinds.yaml names."""
    tables = yaml.safe_load((FOLDER / "kinds.yaml").read_text())
    below = [row for row in tables["subresources"].values() if "kind" in row]
    for row in [*tables["kinds"], *tables["reviews"], *below, {"kind": "DeleteOptions"}]:
        name = row.get("version", "v1").upper() + row["kind"]
        prefix = row.get("group", "").partition(".")[0].capitalize() or "Core"
        yield getattr(models, name, None) or getattr(models, prefix + name)


def short(model: type) -> str:
    """Return the type's name as Kubernetes has it, without the client's version prefix."""
    name = model.__name__
    for prefix in ("CoreV1", "EventsV1", "AuthenticationV1", "RbacV1", "DiscoveryV1", "V1", "V2"):
        if name.startswith(prefix):
            kept = "Events" if prefix == "EventsV1" else "Discovery" if prefix == "DiscoveryV1" else ""
            return kept + name.removeprefix(prefix)
    return name


def expression(annotation: Any, seen: list[type]) -> str:  # noqa: PLR0911 - one return a form
    """Translate a pydantic annotation."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return expression(arguments[0], seen)
    if origin in (typing.Union, types.UnionType):
        kinds = {expression(a, seen) for a in arguments if a is not type(None)}
        if kinds == {"integer", "string"}:
            return "intOrString"
        return "bytes" if "bytes" in kinds else "number" if "number" in kinds else min(kinds)
    if origin is list:
        return "[" + expression(arguments[0], seen)
    if origin is dict:
        return "{" + (expression(arguments[1], seen) if arguments else "any")
    if isinstance(annotation, type) and hasattr(annotation, "model_fields"):
        seen.append(annotation)
        return short(annotation)
    return SCALARS.get(annotation, "any")


def main() -> None:
    """Walk from the served kinds to every type that they hold."""
    table: dict[str, dict[str, str]] = {}
    queue = list(roots())
    while queue:
        model = queue.pop()
        if short(model) in table:
            continue
        fields = table[short(model)] = {}
        for name, field in model.model_fields.items():
            key = field.serialization_alias or name
            required = "!" if field.is_required() else ""
            fields[key] = EXCEPTIONS.get((short(model), key)) or expression(field.annotation, queue) + required
    table = {name: dict(sorted(fields.items())) for name, fields in sorted(table.items())}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(fields)}" for name, fields in table.items())
    (FOLDER / "types.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main()

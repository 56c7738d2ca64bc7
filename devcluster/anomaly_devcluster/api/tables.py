"""Tables, as `kubectl get` prints them."""

from typing import Any

from anomaly_devcluster.api.cells import CELLS
from anomaly_devcluster.api.jsonpath import first
from anomaly_devcluster.api.resources import Resource

Object = dict[str, Any]


def definitions(resource: Resource) -> list[Object]:
    """Return the columns of a resource's table."""
    return [
        {
            "name": name,
            "type": kind if kind != "date" or resource.custom else "string",
            "format": "name" if name == "Name" else "",
            "description": "",
            "priority": priority,
        }
        for name, kind, priority, _ in resource.columns
    ]


def table(resource: Resource, bodies: list[Object], revision: str, *, columns: bool = True) -> Object:
    """Return a Table of objects."""
    rows = [{"cells": [cell(c[3], c[1], body) for c in resource.columns], "object": _metadata(body)} for body in bodies]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": revision},
        "columnDefinitions": definitions(resource) if columns else [],
        "rows": rows,
    }


def _metadata(body: Object) -> Object:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": body["metadata"]}


def cell(source: str, kind: str, body: Object) -> Any:
    """Return one cell: what a path leads to, or what the named function makes of the object."""
    value = CELLS[source](body) if source in CELLS else first(body, source)
    if kind == "date":
        return age(value) if value else "<unknown>"
    if kind in ("integer", "number", "boolean"):
        return value
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def age(timestamp: str) -> str:
    """Return how long ago a time was, as kubectl writes it."""
    return CELLS["age"]({"at": timestamp})  # type: ignore[no-any-return] # cells are any JSON

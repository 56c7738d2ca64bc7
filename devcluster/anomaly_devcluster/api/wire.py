"""How stored objects go over the wire: with kind and version, as tables, alone and in lists.

The store keeps objects without apiVersion and kind, because the items of a list of built-in objects have none.
"""

import re
from collections.abc import Iterable
from typing import Any

import orjson

from anomaly_devcluster.api import tables
from anomaly_devcluster.api.builtin import kinds
from anomaly_devcluster.api.errors import not_emulated
from anomaly_devcluster.api.resources import Resource
from anomaly_devcluster.store import Entry, Event

Object = dict[str, Any]

_EVENT_FIELDS: dict[str, str] = kinds()["eventFields"]
_TO_CORE = {new: old for old, new in _EVENT_FIELDS.items()}


def stored_form(resource: Resource, body: Object) -> Object:
    """Translate what a client wrote into what is stored: Events of both groups are stored as core/v1 has them."""
    if resource.stored_as == resource.qualified:
        return body
    return {_TO_CORE.get(name, name): value for name, value in body.items()}


def served_form(resource: Resource, body: Object) -> Object:
    """Translate what is stored into what a version's clients read."""
    if resource.stored_as == resource.qualified:
        return body
    return {_EVENT_FIELDS.get(name, name): value for name, value in body.items()}


def raw(resource: Resource, entry: Entry) -> bytes:
    """Return an object's JSON without kind and version."""
    if resource.stored_as == resource.qualified:
        return entry.raw
    return orjson.dumps(served_form(resource, entry.body))


def full(resource: Resource, entry: Entry) -> bytes:
    """Return an object's JSON."""
    head = b'{"kind":"%s","apiVersion":"%s",' % (resource.kind.encode(), resource.group_version.encode())
    return head + raw(resource, entry)[1:]


def as_object(resource: Resource, body: Object) -> Object:
    """Return an object with kind and version."""
    return {"kind": resource.kind, "apiVersion": resource.group_version, **served_form(resource, body)}


def as_table(accept: str) -> bool:
    """Say whether the Accept header asks for a Table; raises StatusError(501) for other forms than that."""
    form = re.match(r"[^,]*;\s*as=(\w+)", accept)
    if form and form[1] != "Table":
        raise not_emulated(f"the form {form[1]}")
    return bool(form)


def one(resource: Resource, entry: Entry, accept: str) -> bytes:
    """Return one object in the form asked for."""
    if as_table(accept):
        return orjson.dumps(tables.table(resource, [entry.body], str(entry.revision)))
    return full(resource, entry)


def many(resource: Resource, entries: Iterable[Entry], metadata: Object, accept: str) -> bytes:
    """Return a list in the form asked for."""
    if as_table(accept):
        listed = tables.table(resource, [entry.body for entry in entries], metadata["resourceVersion"])
        return orjson.dumps(listed | {"metadata": metadata})
    body = b'{"kind":"%s","apiVersion":"%s","metadata":%s,"items":[' % (
        resource.list_kind.encode(),
        resource.group_version.encode(),
        orjson.dumps(metadata),
    )
    item = full if resource.custom else raw
    return body + b",".join(item(resource, entry) for entry in entries) + b"]}"


def event_line(resource: Resource, event: Event, change: str, entry: Entry) -> bytes:
    """Return a watch event's line; watchers of the same resource share the bytes."""
    key = (resource.group_version, change)
    line = event.lines.get(key)
    if line is None:
        shown = full(resource, entry)
        if entry.revision != event.revision:  # left the selection: what it was, at the revision of leaving
            body = entry.copy()
            body["metadata"]["resourceVersion"] = str(event.revision)
            shown = orjson.dumps(as_object(resource, body))
        line = event.lines[key] = line_of(change, shown)
    return line


def line_of(change: str, shown: bytes) -> bytes:
    """Return a watch event's line."""
    return b'{"type":"%s","object":%s}\n' % (change.encode(), shown)

"""Sets of field paths: who owns what, in the form of `metadata.managedFields`.

A path is a tuple of elements: `f:name` a field, `k:{...}` an element of a list by its keys, `v:...` one of a set.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import orjson

from anomaly_devcluster.api.schema import ANY, Schema, element_key

Object = dict[str, Any]
Path = tuple[str, ...]
Leaves = dict[Path, Any]

_HELD = object()
"""Stands as the value of what has an owner beside the owners of its parts: elements and entries of maps."""
_UNOWNED = "name namespace creationTimestamp selfLink uid generation managedFields resourceVersion"
_STRIPPED = {("f:metadata", f"f:{name}") for name in _UNOWNED.split()}


def leaves(body: Object, schema: Schema) -> Leaves:
    """Return every path of an object that can have an owner, with its value."""
    out: Leaves = {}
    _walk(body, schema, (), out)
    return {path: value for path, value in out.items() if path[:2] not in _STRIPPED and path != ("f:metadata",)}


def _walk(value: Any, schema: Schema, path: Path, out: Leaves) -> None:
    if isinstance(value, dict) and not schema.atomic:
        if not value and path:
            out[path] = {}
        for name, item in value.items():
            child = (*path, f"f:{name}")
            _walk(item, schema.child(name), child, out)
            if name not in schema.properties:
                out.setdefault(child, _HELD)
    elif isinstance(value, list) and schema.list_type == "map":
        for item in value:
            child = (*path, key_element(item, schema))
            _walk(item, schema.items or ANY, child, out)
            out[child] = _HELD
    elif isinstance(value, list) and schema.list_type == "set":
        for item in value:
            out[*path, f"v:{orjson.dumps(item).decode()}"] = item
    else:
        out[path] = value


def key_element(item: Any, schema: Schema) -> str:
    """Return the path element of an element of a list of type map."""
    values = element_key(item, schema.list_keys, schema.items)
    try:
        return _key_text(schema.list_keys, *values)
    except TypeError:  # a list or an object in the place of a key; validation will say so
        return _key_text.__wrapped__(schema.list_keys, *values)


@lru_cache(10_000, typed=True)
def _key_text(keys: tuple[str, ...], *values: Any) -> str:
    keyed = {key: value for key, value in zip(keys, values, strict=True) if value is not None}
    return f"k:{orjson.dumps(keyed, option=orjson.OPT_SORT_KEYS).decode()}"


def changed(before: Leaves, after: Leaves) -> set[Path]:
    """Return the paths that were added or have another value."""
    return {path for path, value in after.items() if path not in before or before[path] != value}


def prefixes(paths: Iterable[Path]) -> set[Path]:
    """Return the paths and everything that they lie in."""
    return {path[:length] for path in paths for length in range(1, len(path) + 1)}


def remove(body: Any, schema: Schema, paths: set[Path], at: Path = ()) -> Any:
    """Return the object without what lies at or below the paths."""
    if isinstance(body, dict) and not schema.atomic:
        out = {}
        for name, item in body.items():
            child = (*at, f"f:{name}")
            if child not in paths:
                out[name] = remove(item, schema.child(name), paths, child)
        return out
    if isinstance(body, list) and schema.list_type == "map":
        keyed = [((*at, key_element(item, schema)), item) for item in body]
        return [remove(item, schema.items or ANY, paths, child) for child, item in keyed if child not in paths]
    if isinstance(body, list) and schema.list_type == "set":
        return [item for item in body if (*at, f"v:{orjson.dumps(item).decode()}") not in paths]
    return body


def merge(live: Any, config: Any, schema: Schema) -> Any:
    """Return the live object with everything that the applied configuration says."""
    if isinstance(config, dict) and isinstance(live, dict) and not schema.atomic:
        merged = dict(live)
        for name, value in config.items():
            merged[name] = merge(live[name], value, schema.child(name)) if name in live else value
        return merged
    if isinstance(config, list) and isinstance(live, list) and schema.list_type == "map":
        applied = {key_element(item, schema): item for item in config}
        items = schema.items or ANY
        there = {key_element(item, schema): item for item in live}
        kept = [merge(item, applied[key], items) if key in applied else item for key, item in there.items()]
        return kept + [item for key, item in applied.items() if key not in there]
    if isinstance(config, list) and isinstance(live, list) and schema.list_type == "set":
        return [*live, *(item for item in config if item not in live)]
    return config


def to_fields(paths: Iterable[Path]) -> Object:
    """Return the `fieldsV1` form of a set of paths."""
    root: Object = {}
    members = []
    for path in sorted(paths):
        node = root
        for element in path:
            node = node.setdefault(element, {})
        members.append(node)
    for node in members:
        if node:
            node["."] = {}
    return root


def from_fields(fields: Object, at: Path = ()) -> set[Path]:
    """Read the `fieldsV1` form of a set of paths."""
    found: set[Path] = set()
    for element, below in fields.items():
        if element == ".":
            found.add(at)
        elif below:
            found |= from_fields(below, (*at, element))
        else:
            found.add((*at, element))
    return found


def shown(path: Path) -> str:
    """Write a path as conflicts do: `.spec.containers[name="main"].image`."""
    text = ""
    for element in path:
        kind, _, rest = element.partition(":")
        if kind == "f":
            text += f".{rest}"
        elif kind == "k":
            keys = ",".join(f"{key}={orjson.dumps(value).decode()}" for key, value in orjson.loads(rest).items())
            text += f"[{keys}]"
        else:
            text += f"[={rest}]"
    return text

"""Sets of field paths: who owns what, in the form of `metadata.managedFields`.

A path is a tuple of elements: `f:name` a field, `k:{...}` an element of a list by its keys, `v:...` one of a set.
"""

from collections.abc import Iterable
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


def _parts(value: Any, schema: Schema) -> dict[str, tuple[Any, Schema]] | None:
    """Return what may have owners of its own in a value, by path element; None for what has one owner as a whole."""
    if isinstance(value, dict) and not schema.atomic:
        return {f"f:{name}": (item, schema.child(name)) for name, item in value.items()}
    if isinstance(value, list) and schema.list_type == "map":
        return {element_key(item, schema): (item, schema.items or ANY) for item in value}
    if isinstance(value, list) and schema.list_type == "set":
        return {f"v:{orjson.dumps(item).decode()}": (item, ANY) for item in value}
    return None


def _whole(kind: type, parts: dict[str, Any]) -> Any:
    """Put a dict or a list together again."""
    return {element[2:]: item for element, item in parts.items()} if kind is dict else list(parts.values())


def leaves(body: Object, schema: Schema) -> Leaves:
    """Return every path of an object that can have an owner, with its value."""
    out: Leaves = {}
    _walk(body, schema, (), out)
    return {path: value for path, value in out.items() if path[:2] not in _STRIPPED and path != ("f:metadata",)}


def _walk(value: Any, schema: Schema, path: Path, out: Leaves) -> None:
    if isinstance(value, dict) and not schema.atomic and (value or not path):  # as _parts does, but every write is here
        for name, item in value.items():
            at = (*path, f"f:{name}")
            _walk(item, schema.child(name), at, out)
            if name not in schema.properties:
                out.setdefault(at, _HELD)
    elif isinstance(value, list) and (parts := _parts(value, schema)) is not None:
        for element, (item, child) in parts.items():
            _walk(item, child, (*path, element), out)
            if schema.list_type == "map":
                out.setdefault((*path, element), _HELD)
    else:
        out[path] = value


def changed(before: Leaves, after: Leaves) -> set[Path]:
    """Return the paths that were added or have another value."""
    return {path for path, value in after.items() if path not in before or before[path] != value}


def prefixes(paths: Iterable[Path]) -> set[Path]:
    """Return the paths and everything that they lie in."""
    return {path[:length] for path in paths for length in range(1, len(path) + 1)}


def remove(body: Any, schema: Schema, paths: set[Path], at: Path = ()) -> Any:
    """Return the object without what lies at or below the paths."""
    parts = _parts(body, schema)
    if parts is None:
        return body
    kept = {e: remove(*part, paths, (*at, e)) for e, part in parts.items() if (*at, e) not in paths}
    return _whole(type(body), kept)


def merge(live: Any, config: Any, schema: Schema) -> Any:
    """Return the live object with everything that the applied configuration says."""
    there, applied = _parts(live, schema), _parts(config, schema)
    if there is None or applied is None or type(live) is not type(config):
        return config
    kept = {e: merge(item, applied[e][0], child) if e in applied else item for e, (item, child) in there.items()}
    return _whole(type(live), kept | {e: item for e, (item, _) in applied.items() if e not in there})


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
    for element, inner in fields.items():
        if element == "." or not inner:
            found.add(at if element == "." else (*at, element))
        else:
            found |= from_fields(inner, (*at, element))
    return found


def shown(path: Path) -> str:
    """Write a path as conflicts do: `.spec.containers[name="main"].image`."""
    text = ""
    for element in path:
        kind, _, rest = element.partition(":")
        if kind == "k":
            keys = ",".join(f"{key}={orjson.dumps(value).decode()}" for key, value in orjson.loads(rest).items())
            text += f"[{keys}]"
        else:
            text += f".{rest}" if kind == "f" else f"[={rest}]"
    return text

"""Whether an object is still as it was applied, as the API server's own book-keeping tells.

Whoever changes a field that was applied takes it from the applier's managed fields. So an object that bears the wanted
spec-hash and all of whose wanted fields are still held need not be applied again by an operator that has just started.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

_NOT_MANAGED = ("apiVersion", "kind", "metadata", "status")
_METADATA = ("labels", "annotations", "ownerReferences")


def holds(owned: Iterable[str], manifest: Mapping[str, Any]) -> bool:
    """Return whether sets of fields (fieldsV1, as JSON text) cover everything that a manifest says."""
    said = {name: value for name, value in manifest.items() if name not in _NOT_MANAGED}
    said["metadata"] = {name: manifest["metadata"][name] for name in _METADATA if name in manifest["metadata"]}
    return any(_covers(json.loads(text), said) for text in owned)


def _covers(owned: Mapping[str, Any], value: Any) -> bool:
    if not owned:
        return True  # a scalar, or a list or map that is held as one
    if isinstance(value, Mapping):
        return all(_is_held(owned.get(f"f:{name}"), item) for name, item in value.items())
    if isinstance(value, list | tuple):
        return all(any(_covers(owned[key], item) for key in owned if _is_key_of(key, item)) for item in value)
    return False


def _is_held(owned: Mapping[str, Any] | None, value: Any) -> bool:
    return _says_nothing(value) if owned is None else _covers(owned, value)


def _says_nothing(value: Any) -> bool:
    """Return whether there is nothing that somebody else could have taken."""
    if isinstance(value, Mapping):
        return all(_says_nothing(item) for item in value.values())
    return value is None or value in ([], ())


def _is_key_of(key: str, item: Any) -> bool:
    """Return whether a key of an associative list or set names an item."""
    kind, _, text = key.partition(":")
    if kind == "k" and isinstance(item, Mapping):
        return all(item.get(name) == value for name, value in json.loads(text).items())
    return kind == "v" and bool(json.loads(text) == item)

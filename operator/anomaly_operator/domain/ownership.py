"""Whether an object is still as it was applied, as the API server's own book-keeping tells.

Whoever changes a field that was applied takes it from the applier's managed fields. So an object that bears the wanted
spec-hash and all of whose wanted fields are still held need not be applied again by an operator that has just started.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from anomaly_operator.domain.records import Json

_NOT_MANAGED = ("apiVersion", "kind", "metadata", "status")
_METADATA = ("labels", "annotations", "ownerReferences")


def holds(owned: Iterable[str], manifest: Mapping[str, Any]) -> bool:
    """Return whether sets of fields (fieldsV1, as JSON text) cover everything that a manifest says."""
    said = {name: value for name, value in manifest.items() if name not in _NOT_MANAGED}
    said["metadata"] = {name: manifest["metadata"][name] for name in _METADATA if name in manifest["metadata"]}
    return any(_covers(json.loads(text), said) for text in owned)


def _covers(owned: Json, value: Any) -> bool:
    if not owned:
        return True  # a scalar, or a list or map that is held as one
    if isinstance(value, dict) or isinstance(value, Mapping):  # noqa: SIM101 - a dict is told at once, a Mapping slowly
        return all(_is_held(owned.get(f"f:{name}"), item) for name, item in value.items())
    if isinstance(value, list | tuple):
        items = {_key(text): below for text, below in owned.items() if text != "."}
        kinds = {names for names, _ in items}
        return all(any(_covers(below, item) for below in _named(items, kinds, item)) for item in value)
    return False


def _is_held(owned: Json | None, value: Any) -> bool:
    return _says_nothing(value) if owned is None else _covers(owned, value)


def _says_nothing(value: Any) -> bool:
    """Return whether there is nothing that somebody else could have taken."""
    if isinstance(value, Mapping):
        return all(_says_nothing(item) for item in value.values())
    return value is None or value in ([], ())


@lru_cache(maxsize=4096)
def _key(text: str) -> tuple[tuple[str, ...], Any]:
    """Read a key of an associative list (names and values) or of a set (no names); every model's objects have the same.

    A value that cannot be hashed stays text, which no item equals: so it counts as not held.
    """
    kind, _, said = text.partition(":")
    value: Any = json.loads(said) if kind in ("k", "v") else None
    if kind == "k":
        return tuple(value), tuple(value.values())
    return (), value if isinstance(value, str | int | float | None) else text


def _named(items: Mapping[Any, Json], kinds: Iterable[tuple[str, ...]], item: Any) -> Iterator[Json]:
    """Return what is held of an item of a list."""
    for names in kinds:
        if names and isinstance(item, dict):
            key: Any = (names, tuple(item.get(name) for name in names))
        elif not names and not isinstance(item, dict | list):
            key = ((), item)
        else:
            continue
        try:
            if key in items:
                yield items[key]
        except TypeError:  # no such value can be a key
            continue

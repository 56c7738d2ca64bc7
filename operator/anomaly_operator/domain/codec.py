"""Write durable records as JSON and read them back.

Names become camelCase, times RFC 3339. What says nothing (None, empty text, empty list) is left out.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from anomaly_operator.domain.records import Json, Status
from anomaly_operator.domain.times import Time, parse_time, rfc3339

T = TypeVar("T")


class UnreadableError(ValueError):
    """Say which field of a record cannot be read, and what was expected."""


def to_json(record: Any) -> Json:
    """Return a record of `records` as a JSON object."""
    result: Json = {}
    for name, key, write in _writers(type(record)):
        value = getattr(record, name)
        if value is not None and value not in ("", ()):
            result[key] = write(value) if write is not None else value
    return result


def from_json(kind: type[T], value: Any, where: str) -> T:
    """Read a record; unknown fields are ignored. Raises UnreadableError naming the field below `where`."""
    if not isinstance(value, Mapping):
        raise UnreadableError(f"{where}: expected an object, got {type(value).__name__}")
    given = {
        name: _read(hint, value[key], f"{where}.{key}")
        for name, key, hint in _declared(kind)
        if value.get(key) is not None
    }
    try:
        return kind(**given)
    except TypeError as error:
        raise UnreadableError(f"{where}: {error}") from None


def status_from_json(value: Any) -> Status:
    """Read `status`, field by field: one that somebody spoiled by hand is as if it were not there."""
    given: dict[str, Any] = {}
    if isinstance(value, Mapping):
        for name, key, kind in _declared(Status):
            if value.get(key) is None:
                continue
            try:
                given[name] = _read(kind, value[key], f"status.{key}")
            except UnreadableError:
                continue
    return Status(**given)


_DECLARED: dict[type, tuple[tuple[str, str, Any], ...]] = {}


def _declared(kind: type) -> tuple[tuple[str, str, Any], ...]:
    """Return (attribute, JSON name, type) of each field."""
    known = _DECLARED.get(kind)
    if known is None:
        hints = get_type_hints(kind, include_extras=True)
        known = tuple((f.name, f.metadata.get("json") or _camel(f.name), hints[f.name]) for f in fields(kind))
        _DECLARED[kind] = known
    return known


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        return next(argument for argument in get_args(kind) if argument is not type(None))
    return kind


Writer = Callable[[Any], Any]
_WRITERS: dict[type, tuple[tuple[str, str, Writer | None], ...]] = {}


def _writers(kind: type) -> tuple[tuple[str, str, Writer | None], ...]:
    """Return (attribute, JSON name, how to write it; None: as it is) of each field."""
    known = _WRITERS.get(kind)
    if known is None:
        known = tuple((name, key, _writer(_without_none(hint))) for name, key, hint in _declared(kind))
        _WRITERS[kind] = known
    return known


def _writer(kind: Any) -> Writer | None:
    if kind == Time:
        return rfc3339
    if get_origin(kind) is tuple:
        item = _writer(_without_none(get_args(kind)[0])) or (lambda value: value)
        return lambda values: [item(value) for value in values]
    return to_json if isinstance(kind, type) and is_dataclass(kind) else None


def _read(kind: Any, value: Any, where: str) -> Any:
    kind = _without_none(kind)
    origin = get_origin(kind)
    if origin is Annotated:
        at = parse_time(value)
        if at is None:
            raise UnreadableError(f"{where}: expected an RFC 3339 time, got {value!r}")
        return at
    if origin is Literal:
        accepted = value in get_args(kind)
    elif origin is tuple:
        if isinstance(value, list):
            return tuple(_read(get_args(kind)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        accepted = False
    elif isinstance(kind, type) and is_dataclass(kind):
        return from_json(kind, value, where)
    elif kind is float:
        accepted = isinstance(value, int | float) and not isinstance(value, bool)
    elif kind is int:
        accepted = isinstance(value, int) and not isinstance(value, bool)
    else:
        accepted = isinstance(value, kind)
    if not accepted:
        raise UnreadableError(f"{where}: expected {getattr(kind, '__name__', kind)}, got {value!r}")
    return value

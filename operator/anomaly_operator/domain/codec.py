"""Write durable records as JSON and read them back.

Names become camelCase, times RFC 3339. What says nothing (None, empty text, empty list) is left out.
"""

import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache, partial
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from anomaly_operator.domain.records import Json, Status
from anomaly_operator.domain.times import Time, parse_time, rfc3339

T = TypeVar("T")


class UnreadableError(ValueError):
    """Say which field of a record cannot be read, and what was expected."""


def to_json(record: Any) -> Json:
    """Return a record of `records` as a JSON object."""
    result: Json = {}
    for name, key, write in _writers(type(record)):  # type: ignore[arg-type] # mypy takes a class with fields for unhashable
        value = getattr(record, name)
        if value is not None and value not in ("", ()):
            result[key] = write(value) if write is not None else value
    return result


def from_json(kind: type[T], value: Any, where: str) -> T:
    """Read a record; unknown fields are ignored. Raises UnreadableError naming the field below `where`."""
    if not isinstance(value, Mapping):
        raise UnreadableError(f"{where}: expected an object, got {type(value).__name__}")
    readers = _readers(kind)  # type: ignore[arg-type] # as above
    given = {name: read(value[key], f"{where}.{key}") for name, key, read in readers if value.get(key) is not None}
    try:
        return kind(**given)
    except TypeError as error:
        raise UnreadableError(f"{where}: {error}") from None


def status_from_json(value: Any) -> Status:
    """Read `status`, field by field: one that somebody spoiled by hand is as if it were not there."""
    given: dict[str, Any] = {}
    if isinstance(value, Mapping):
        for name, key, read in _readers(Status):
            if value.get(key) is None:
                continue
            try:
                given[name] = read(value[key], f"status.{key}")
            except UnreadableError:
                continue
    return Status(**given)


def _declared(kind: type) -> Iterator[tuple[str, str, Any]]:
    """Yield (attribute, JSON name, type without None) of each field."""
    hints = get_type_hints(kind, include_extras=True)
    for declared in fields(kind):
        name = declared.name
        yield name, declared.metadata.get("json") or _camel(name), _without_none(hints[name])


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        return next(argument for argument in get_args(kind) if argument is not type(None))
    return kind


Writer = Callable[[Any], Any]
Reader = Callable[[Any, str], Any]
"""Takes the JSON value and where it stands."""


@cache
def _writers(kind: type) -> tuple[tuple[str, str, Writer | None], ...]:
    """Return (attribute, JSON name, how to write it; None: as it is) of each field."""
    return tuple((name, key, _writer(hint)) for name, key, hint in _declared(kind))


def _writer(kind: Any) -> Writer | None:
    if kind == Time:
        return rfc3339
    if get_origin(kind) is tuple:
        item = _writer(_without_none(get_args(kind)[0])) or (lambda value: value)
        return lambda values: [item(value) for value in values]
    return to_json if isinstance(kind, type) and is_dataclass(kind) else None


@cache
def _readers(kind: type) -> tuple[tuple[str, str, Reader], ...]:
    """Return (attribute, JSON name, how to read it) of each field."""
    return tuple((name, key, _reader(hint)) for name, key, hint in _declared(kind))


def _reader(kind: Any) -> Reader:
    if kind == Time:
        return _read_time
    if get_origin(kind) is tuple:
        item = _reader(_without_none(get_args(kind)[0]))
        return lambda value, where: tuple(item(one, f"{where}[{i}]") for i, one in enumerate(_a(list, value, where)))
    if get_origin(kind) is Literal:
        return partial(_one_of, get_args(kind), str(kind))
    if isinstance(kind, type) and is_dataclass(kind):
        return partial(from_json, kind)
    return partial(_a, kind)


def _read_time(value: Any, where: str) -> float:
    at = parse_time(value)
    if at is None:
        raise UnreadableError(f"{where}: expected an RFC 3339 time, got {value!r}")
    return at


def _one_of(words: tuple[Any, ...], expected: str, value: Any, where: str) -> Any:
    if value not in words:
        raise UnreadableError(f"{where}: expected {expected}, got {value!r}")
    return value


def _a(kind: Any, value: Any, where: str) -> Any:
    wanted = int | float if kind is float else kind
    if not isinstance(value, wanted) or (kind in (int, float) and isinstance(value, bool)):
        raise UnreadableError(f"{where}: expected {getattr(kind, '__name__', kind)}, got {value!r}")
    return value

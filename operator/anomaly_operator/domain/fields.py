"""How a field of the resource is declared once and serves as type, default, validation and CRD schema.

`field()` and `nested()` declare; `parse()` reads plain JSON into the dataclass; `crdgen` turns the same
declarations into OpenAPI. Defaults are written as users would write them ('5m', '650M').
"""

import copy
import dataclasses
import functools
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Format = Literal["duration", "quantity", "intOrPercent", "free", "overrides"]
T = TypeVar("T")

DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)?$"
INT_OR_PERCENT_PATTERN = r"^([0-9]+|([0-9]|[1-9][0-9]|100)%)$"

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip


class SpecError(ValueError):
    """Say what is wrong with a field of the resource: where, what was there, what to do."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule over several fields of an object: for the API server in CEL, for `parse` as a predicate."""

    cel: str
    message: str
    holds: Callable[[Any], bool]
    """Whether the parsed object keeps the rule."""
    field_path: str | None = None
    """Field that the message is about, below the object, e.g. `.alias`."""


@dataclass(frozen=True, slots=True)
class IntOrPercent:
    """A number of pods, or a share of them."""

    value: int
    percent: bool = False

    def of(self, total: int) -> int:
        """Return the number of pods out of `total`, rounded up, at least 1."""
        return max(1, math.ceil(self.value * total / 100) if self.percent else self.value)


@dataclass(frozen=True, slots=True)
class Declared:
    """What was said about a field; stands in the dataclass field's metadata under `declared`."""

    description: str
    format: Format | None
    default: Any
    """As users write it; MISSING without one."""
    name: str | None
    """Name in JSON where it is not the attribute in camelCase."""
    nullable: bool
    schema: Mapping[str, Any]
    """OpenAPI keywords."""


def field(
    description: str,
    *,
    default: Any = MISSING,
    format: Format | None = None,  # noqa: A002 - OpenAPI's word
    name: str | None = None,
    nullable: bool = False,
    **schema: Any,
) -> Any:
    """Declare a field; without `default` it is required, with None it is optional."""
    declared = Declared(description, format, default, name, nullable, schema)
    metadata = {"declared": declared}
    if default is MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(
        default_factory=lambda: _convert(copy.deepcopy(default), format, "default"), metadata=metadata
    )


def nested(description: str, kind: Callable[[], Any]) -> Any:
    """Declare an object whose fields all have defaults."""
    metadata = {"declared": Declared(description, None, {}, None, nullable=False, schema={})}
    return dataclasses.field(default_factory=kind, metadata=metadata)


def overrides(description: str, kind: Callable[[], Any]) -> Any:
    """Declare an object that overrides another key by key: without defaults of its own in the schema."""
    metadata = {"declared": Declared(description, "overrides", {}, None, nullable=False, schema={})}
    return dataclasses.field(default_factory=kind, metadata=metadata)


def declared(of: "dataclasses.Field[Any]") -> Declared | None:
    """Return what `field()` was told, None for attributes that are not part of the resource."""
    found: Declared | None = of.metadata.get("declared")
    return found


def json_name(of: "dataclasses.Field[Any]") -> str:
    """Return a field's name in JSON: the attribute in camelCase unless declared otherwise."""
    told = declared(of)
    if told is not None and told.name:
        return told.name
    head, *rest = of.name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def parse_duration(text: str) -> float:
    """Return the seconds of a Go-style duration such as '1m30s'; raises ValueError."""
    if not re.fullmatch(DURATION_PATTERN, text):
        raise ValueError(f"expected a duration such as 30s, 5m or 1h30m, got {text!r}")
    return sum(float(number) * _SECONDS[unit] for number, _, unit in re.findall(r"([0-9]+(\.[0-9]+)?)(ms|s|m|h)", text))


def parse_quantity(value: str | int) -> int:
    """Return the bytes of a Kubernetes quantity such as '650M' or '1Gi'; raises ValueError."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)", str(value))
    if found is None or found[2] not in _BYTES:
        raise ValueError(f"expected a quantity such as 650M or 1Gi, got {value!r}")
    return int(float(found[1]) * _BYTES[found[2]])


def _convert(value: Any, fmt: Format | None, where: str) -> Any:
    """Turn a value as users write it into what the program works with."""
    try:
        if value is None or fmt in (None, "free"):
            return value
        if fmt == "duration":
            return parse_duration(_expect(value, str, where))
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise ValueError(f"expected a number or text, got {json.dumps(value)[:80]}")  # noqa: TRY301, TRY004 - one way out
        if fmt == "quantity":
            return parse_quantity(value)
        if not re.fullmatch(INT_OR_PERCENT_PATTERN, str(value)):
            raise ValueError(f"expected a number of pods or a share such as 50%, got {value!r}")  # noqa: TRY301
        return IntOrPercent(int(str(value).rstrip("%")), percent=str(value).endswith("%"))
    except SpecError:
        raise
    except ValueError as error:
        raise SpecError(where, str(error)) from None


def parse(kind: type[T], value: Any, path: str) -> T:
    """Build the dataclass `kind` from plain JSON; unknown fields are ignored.

    Raises SpecError naming the field, what was expected and what was there.
    """
    _expect(value, dict, path)
    known: dict[str, Any] = {}
    for attribute, name, hint, told in _layout(kind):  # type: ignore[arg-type] # mypy takes a class with fields for unhashable
        where = f"{path}.{name}"
        if value.get(name) is not None:
            known[attribute] = _parse_value(hint, told, value[name], where)
        elif told.default is MISSING:
            raise SpecError(where, "is required")
    result = kind(**known)
    for rule in getattr(kind, "RULES", ()):
        if not rule.holds(result):
            raise SpecError(path, rule.message)
    return result


@functools.cache
def _layout(kind: type) -> tuple[tuple[str, str, Any, Declared], ...]:
    """Return (attribute, JSON name, type, declaration) of each declared field."""
    hints = get_type_hints(kind)
    found = ((item, declared(item)) for item in dataclasses.fields(kind))
    return tuple((item.name, json_name(item), hints[item.name], told) for item, told in found if told is not None)


def _parse_value(hint: Any, told: Declared, value: Any, where: str) -> Any:
    if told.format in ("duration", "quantity", "intOrPercent"):
        return _convert(value, told.format, where)
    plain = bare(hint)
    if dataclasses.is_dataclass(plain):
        return parse(plain, value, where)  # type: ignore[arg-type]
    if get_origin(plain) is tuple:
        items = tuple(_expect(value, list, where))
        for index, one in enumerate(items):
            _expect(one, get_origin(get_args(plain)[0]) or get_args(plain)[0], f"{where}[{index}]")
        result: Any = items
    elif get_origin(plain) is Literal:
        result = value
    else:
        result = _expect(value, get_origin(plain) or plain, where)
    _check(told.schema if get_origin(plain) is not Literal else {"enum": list(get_args(plain))}, result, where)
    return result


def bare(hint: Any) -> Any:
    """Return a type hint without `| None`."""
    if get_origin(hint) in (Union, UnionType):
        return next(a for a in get_args(hint) if a is not type(None))
    return hint


_NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}


def _expect(value: Any, kind: Any, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    accepted = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if not accepted or (kind is float and not math.isfinite(value)):
        raise SpecError(where, f"expected {_NAMES[kind]}, got {json.dumps(value, default=str)[:80]}")
    return value


_LIMITS: tuple[tuple[str, Callable[[Any, Any], bool], str], ...] = (
    ("minimum", lambda v, limit: v >= limit, "must be at least {}"),
    ("maximum", lambda v, limit: v <= limit, "must be at most {}"),
    ("pattern", lambda v, limit: re.search(limit, v) is not None, "must match {}"),
    ("enum", lambda v, limit: v in limit, "must be one of {}"),
    ("minLength", lambda v, limit: len(v) >= limit, "must have at least {} characters"),
    ("maxLength", lambda v, limit: len(v) <= limit, "must have at most {} characters"),
    ("maxItems", lambda v, limit: len(v) <= limit, "must have at most {} items"),
    ("maxProperties", lambda v, limit: len(v) <= limit, "must have at most {} keys"),
)


def _check(schema: Mapping[str, Any], value: Any, where: str) -> None:
    for keyword, holds, words in _LIMITS:
        if keyword in schema and not holds(value, schema[keyword]):
            shown = ", ".join(schema[keyword]) if keyword == "enum" else schema[keyword]
            raise SpecError(where, f"{words.format(shown)}, got {json.dumps(value)[:80]}")

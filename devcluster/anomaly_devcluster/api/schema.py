"""What an object of a kind may hold: one form for the built-in kinds and for those of CustomResourceDefinitions."""

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from anomaly_devcluster.api.errors import Cause

MISSING: Any = object()
"""Stands for no default."""
_INT64 = 1 << 63
_JSON = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
_FORMS: dict[str, tuple[str, ...]] = {
    "number": ("integer", "number"),
    "intOrString": ("integer", "string"),
    "quantity": ("string",),
    "time": ("string",),
    "bytes": ("string",),
    "any": ("object", "array", "string", "boolean", "integer", "number"),
}
"""The JSON types that are taken for a schema's type; the others stand for themselves."""


@dataclass(slots=True, eq=False, kw_only=True)
class Schema:
    """One node of a structural schema."""

    type: str = "any"
    """object, array, string, integer, number, boolean, intOrString, quantity, time, bytes, or any."""
    properties: dict[str, "Schema"] = field(default_factory=dict)
    additional: "Schema | None" = None
    """Of the values of a map."""
    items: "Schema | None" = None
    required: tuple[str, ...] = ()
    default: Any = MISSING
    nullable: bool = False
    preserve: bool = False
    """Unknown fields stay."""
    list_type: str = "atomic"
    list_keys: tuple[str, ...] = ()
    atomic: bool = False
    """A map or an object that has one owner as a whole."""
    patch_key: str = ""
    """By which a strategic merge patch finds an element of this list."""
    patch_merge: bool = False
    """A strategic merge patch adds to this list of scalars."""
    retain_keys: bool = False
    raw: dict[str, Any] = field(default_factory=dict)
    """The OpenAPI schema of a custom resource, or the constraints of a built-in field."""
    rules: tuple[dict[str, Any], ...] = ()
    """CEL rules, as `x-kubernetes-validations` has them."""
    defaulted: dict[str, "Schema"] = field(default_factory=dict)
    """The properties that have defaults."""
    holds: frozenset[str] = frozenset()
    """`default`, `rule` or `constraint` if there is one here or below, so that walks can leave out what has none."""

    def child(self, name: str) -> "Schema":
        """Return the schema of a field or of a map's value."""
        return self.properties.get(name) or self.additional or ANY

    def finish(self) -> "Schema":
        """Note what there is below."""
        below = [*self.properties.values(), *(s for s in (self.additional, self.items) if s)]
        self.defaulted = {name: s for name, s in self.properties.items() if s.default is not MISSING}
        own = {"rule": self.rules, "constraint": self.raw or self.required, "default": self.defaulted}
        self.holds = frozenset(kind for kind, there in own.items() if there).union(*(s.holds for s in below))
        return self


ANY = Schema(preserve=True)


class Part(NamedTuple):
    """A value somewhere in an object, with its schema and path, and what it was in another object."""

    value: Any
    schema: Schema
    at: str
    old: Any


def walk(value: Any, schema: Schema, old: Any = None, holding: str = "") -> Iterator[Part]:
    """Yield every part of a value that has a schema, each before what is in it, so that it may be changed then.

    `holding` leaves out what has no `default`, `rule` or `constraint`.
    """
    pending = [Part(value, schema, "", old)] if not holding or holding in schema.holds else []
    while pending:
        part = pending.pop()
        yield part
        pending += reversed(list(_within(*part, holding)))


def _within(value: Any, schema: Schema, at: str, old: Any, holding: str) -> Iterator[Part]:
    if isinstance(value, dict):
        before = old if isinstance(old, dict) else {}
        for name, item in value.items():
            child = schema.child(name)
            if child is not ANY and (not holding or holding in child.holds):
                place = below(at, name) if name in schema.properties else f"{at}[{name}]"
                yield Part(item, child, place, before.get(name))
    elif isinstance(value, list) and schema.items and (not holding or holding in schema.items.holds):
        keyed = schema.list_keys and isinstance(old, list)
        known = {element_key(item, schema): item for item in old} if keyed else {}
        for index, item in enumerate(value):
            counterpart = known.get(element_key(item, schema)) if known else None
            yield Part(item, schema.items, f"{at}[{index}]", counterpart)


def below(at: str, name: str) -> str:
    """Return the path of a field."""
    return f"{at}.{name}" if at else name


def apply_defaults(body: Any, schema: Schema) -> None:
    """Fill in defaults in place, also where a null stands in the place of one."""
    for value, holder, _, _ in walk(body, schema, holding="default"):
        for name, child in holder.defaulted.items() if isinstance(value, dict) else ():
            if name not in value or (value[name] is None and not child.nullable):
                value[name] = copy.deepcopy(child.default)


def prune(body: Any, schema: Schema) -> list[str]:
    """Drop in place what a structural schema does not know; return the dropped paths."""
    unknown = []
    for value, holder, at, _ in walk(body, schema):
        if isinstance(value, dict) and not holder.preserve and not holder.additional:
            for name in [name for name in value if name not in holder.properties]:
                unknown.append(below(at, name))
                del value[name]
    return unknown


def check(body: Any, schema: Schema) -> list[Cause]:
    """Return where a value is not as its schema says."""
    return [
        cause for part in walk(body, schema, holding="constraint") for cause in _check(part.value, part.schema, part.at)
    ]


def _check(value: Any, schema: Schema, at: str) -> Iterator[Cause]:
    if not fits(value, schema.type):
        if value is not None or not schema.nullable:
            kind = json_type(value)
            said = f'Invalid value: "{kind}": {at} in body must be of type {schema.type}: "{kind}"'
            yield Cause(at, "FieldValueTypeInvalid", said)
    elif "enum" in schema.raw and value not in schema.raw["enum"]:
        yield Cause.unsupported(at, value, schema.raw["enum"])
    elif isinstance(value, str):
        yield from _check_string(value, schema.raw, at)
    elif isinstance(value, (int, float)):
        yield from _check_number(value, schema.raw, at)
    else:
        yield from _check_size(value, schema.raw, at)
        if isinstance(value, dict):
            # To Kubernetes' own types an empty text is none.
            empty = None if schema.raw else ""
            lacks = [name for name in schema.required if name not in value or value[name] == empty]
            yield from (Cause.required(below(at, name)) for name in lacks)
        elif schema.raw and schema.list_type != "atomic":
            yield from _check_unique(value, schema, at)


def _check_unique(value: list[Any], schema: Schema, at: str) -> Iterator[Cause]:
    seen: list[Any] = []
    for index, item in enumerate(value):
        key = element_key(item, schema) if schema.list_type == "map" else item
        if key in seen:
            yield Cause(f"{at}[{index}]", "FieldValueDuplicate", f"Duplicate value: {key}")
        seen.append(key)


def _check_size(value: Any, raw: dict[str, Any], at: str) -> Iterator[Cause]:
    kind = "Items" if isinstance(value, list) else "Properties"
    if (limit := raw.get(f"max{kind}")) is not None and len(value) > limit:
        yield Cause(at, "FieldValueTooMany", f"Too many: {len(value)}: must have at most {limit} items")
    if (limit := raw.get(f"min{kind}")) is not None and len(value) < limit:
        yield Cause.invalid(at, len(value), f"{at} in body should have at least {limit} items")


def _check_string(value: str, raw: dict[str, Any], at: str) -> Iterator[Cause]:
    if (limit := raw.get("maxLength")) is not None and len(value) > limit:
        yield Cause(at, "FieldValueTooLong", f"Too long: may not be more than {limit} bytes")
    if (limit := raw.get("minLength")) is not None and len(value) < limit:
        yield Cause.invalid(at, value, f"{at} in body should be at least {limit} chars long")
    if (pattern := raw.get("pattern")) and not re.search(pattern, value):
        yield Cause.invalid(at, value, f"{at} in body should match '{pattern}'")


def _check_number(value: float, raw: dict[str, Any], at: str) -> Iterator[Cause]:
    for name, word, sign in (("minimum", "greater", 1), ("maximum", "less", -1)):
        strict = raw.get(f"exclusive{name.capitalize()}") is True
        limit = raw.get(name)
        if limit is not None and (sign * (value - limit) < 0 or (strict and value == limit)):
            than = f"{word} than" if strict else f"{word} than or equal to"
            yield Cause.invalid(at, value, raw.get("message") or f"{at} in body should be {than} {limit}")
    if (step := raw.get("multipleOf")) and value % step:
        yield Cause.invalid(at, value, f"{at} in body should be a multiple of {step}")


def json_type(value: Any) -> str:
    """Return the JSON type of a value."""
    return _JSON.get(type(value), "null")


def fits(value: Any, kind: str) -> bool:
    """Say whether a value is of a schema's type; a float may stand for the integer that it is."""
    given = json_type(value)
    if given == "number" and kind == "integer":
        return bool(value.is_integer() and abs(value) < _INT64)
    return given == kind or given in _FORMS.get(kind, ())


def compile_custom(raw: dict[str, Any], *, root: bool = False) -> Schema:
    """Build the schema of a custom resource from its OpenAPI v3 form."""
    kind = "intOrString" if raw.get("x-kubernetes-int-or-string") else raw.get("type", "any")
    additional = raw.get("additionalProperties")
    properties = {name: compile_custom(child) for name, child in raw.get("properties", {}).items()}
    if root or raw.get("x-kubernetes-embedded-resource"):
        properties |= {"apiVersion": Schema(type="string"), "kind": Schema(type="string"), "metadata": ANY}
    return Schema(
        type=kind,
        properties=properties,
        additional=ANY if additional is True else compile_custom(additional) if isinstance(additional, dict) else None,
        items=compile_custom(raw["items"]) if isinstance(raw.get("items"), dict) else None,
        required=tuple(n for n in raw.get("required", ()) if not root or n not in ("apiVersion", "kind", "metadata")),
        default=raw.get("default", MISSING),
        nullable=bool(raw.get("nullable")),
        preserve=bool(raw.get("x-kubernetes-preserve-unknown-fields")) or kind == "any",
        list_type=raw.get("x-kubernetes-list-type", "atomic"),
        list_keys=tuple(raw.get("x-kubernetes-list-map-keys", ())),
        atomic=raw.get("x-kubernetes-map-type") == "atomic",
        raw=raw,
        rules=tuple(raw.get("x-kubernetes-validations") or ()),
    ).finish()


def element_key(item: Any, schema: Schema) -> str:
    """Return what tells an element of a list of type map from others, `k:{...}`; absent keys take their defaults."""
    known, values = schema.items.properties if schema.items else {}, []
    for key in schema.list_keys:
        value = item.get(key, MISSING) if isinstance(item, dict) else MISSING
        value = known[key].default if value is MISSING and key in known else value
        values.append(None if value is MISSING else value)
    try:
        return _key_text(schema.list_keys, *values)
    except TypeError:  # a list or an object in the place of a key; validation will say so
        return _key_text.__wrapped__(schema.list_keys, *values)


@lru_cache(10_000, typed=True)
def _key_text(keys: tuple[str, ...], *values: Any) -> str:
    keyed = {key: value for key, value in zip(keys, values, strict=True) if value is not None}
    return f"k:{orjson.dumps(keyed, option=orjson.OPT_SORT_KEYS).decode()}"

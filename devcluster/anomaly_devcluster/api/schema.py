"""What an object of a kind may hold: one form for the built-in kinds and for those of CustomResourceDefinitions."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

MISSING: Any = object()
"""Stands for no default."""


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
    embedded: bool = False
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
    """The OpenAPI schema of a custom resource, for its constraints."""
    has_defaults: bool = False

    def child(self, name: str) -> "Schema":
        """Return the schema of a field or of a map's value."""
        return self.properties.get(name) or self.additional or ANY

    def finish(self) -> "Schema":
        """Note whether there are defaults below, so that walks can stop early."""
        below = [*self.properties.values(), *(s for s in (self.additional, self.items) if s)]
        self.has_defaults = any(s.has_defaults or s.default is not MISSING for s in below)
        return self


ANY = Schema(preserve=True)


def apply_defaults(value: Any, schema: Schema) -> None:
    """Fill in defaults in place, also where a null stands in the place of one."""
    if not schema.has_defaults:
        return
    if isinstance(value, dict):
        for name, child in schema.properties.items():
            if child.default is not MISSING and (name not in value or (value[name] is None and not child.nullable)):
                value[name] = orjson.loads(orjson.dumps(child.default))
            if name in value:
                apply_defaults(value[name], child)
        if schema.additional:
            for name, item in value.items():
                if name not in schema.properties:
                    apply_defaults(item, schema.additional)
    elif isinstance(value, list) and schema.items:
        for item in value:
            apply_defaults(item, schema.items)


def prune(value: Any, schema: Schema, path: str, unknown: list[str]) -> None:
    """Drop in place what a structural schema does not know, noting the dropped paths."""
    if isinstance(value, dict):
        known = schema.properties
        for name in list(value):
            child = known.get(name) or schema.additional
            at = f"{path}.{name}" if path else name
            if child:
                prune(value[name], child, at, unknown)
            elif not schema.preserve and not (schema.embedded and name in ("apiVersion", "kind", "metadata")):
                unknown.append(at)
                del value[name]
    elif isinstance(value, list) and schema.items:
        for index, item in enumerate(value):
            prune(item, schema.items, f"{path}[{index}]", unknown)


def compile_custom(raw: dict[str, Any]) -> Schema:
    """Build the schema of a custom resource from its OpenAPI v3 form."""
    kind = "intOrString" if raw.get("x-kubernetes-int-or-string") else raw.get("type", "any")
    additional = raw.get("additionalProperties")
    keys = tuple(raw.get("x-kubernetes-list-map-keys", ()))
    return Schema(
        type=kind,
        properties={name: compile_custom(child) for name, child in raw.get("properties", {}).items()},
        additional=ANY if additional is True else compile_custom(additional) if isinstance(additional, dict) else None,
        items=compile_custom(raw["items"]) if isinstance(raw.get("items"), dict) else None,
        required=tuple(raw.get("required", ())),
        default=raw.get("default", MISSING),
        nullable=bool(raw.get("nullable")),
        preserve=bool(raw.get("x-kubernetes-preserve-unknown-fields")) or kind == "any",
        embedded=bool(raw.get("x-kubernetes-embedded-resource")),
        list_type=raw.get("x-kubernetes-list-type", "atomic"),
        list_keys=keys,
        atomic=raw.get("x-kubernetes-map-type") == "atomic",
        raw=raw,
    ).finish()


def element_key(item: Any, keys: Iterable[str], schema: Schema | None) -> tuple[Any, ...]:
    """Return what tells an element of a list of type map from the others; absent keys take their defaults."""
    values = []
    for key in keys:
        value = item.get(key, MISSING) if isinstance(item, dict) else MISSING
        if value is MISSING and schema and key in schema.properties:
            value = schema.properties[key].default
        values.append(None if value is MISSING else value)
    return tuple(values)

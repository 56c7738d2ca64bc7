"""Custom resources: what a CustomResourceDefinition must be, what it serves, and the validation of its objects."""

import re
from typing import Any

from anomaly_devcluster import clock
from anomaly_devcluster.api.builtin import schema_of
from anomaly_devcluster.api.cel_rules import Rules
from anomaly_devcluster.api.errors import Cause
from anomaly_devcluster.api.resources import Column, Resource, Subresource
from anomaly_devcluster.api.schema import ANY, Schema, compile_custom, element_key

Object = dict[str, Any]
_NAME = Column("Name", ".metadata.name")
_AGE = Column("Age", ".metadata.creationTimestamp", type="date")
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "intOrString": (int, str),
}


def complete_definition(body: Object) -> None:
    """Fill in the names that a definition may leave out."""
    spec = body.get("spec") or {}
    names = spec.get("names") or {}
    if kind := names.get("kind"):
        names.setdefault("singular", kind.lower())
        names.setdefault("listKind", f"{kind}List")


def establish(body: Object) -> None:
    """Set the status that says that the definition is served."""
    spec = body["spec"]
    at = clock.now()
    conditions = [
        ("NamesAccepted", "NoConflicts", "no conflicts found"),
        ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ]
    body["status"] = {
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": at, "reason": reason, "message": message}
            for kind, reason, message in conditions
        ],
        "acceptedNames": spec["names"],
        "storedVersions": [version["name"] for version in spec["versions"] if version.get("storage")],
    }


def check_definition(body: Object, _: Object | None) -> list[Cause]:
    """Return what is wrong with a CustomResourceDefinition."""
    spec, causes = body["spec"], []
    names = spec.get("names") or {}
    expected = f"{names.get('plural')}.{spec.get('group')}"
    if body["metadata"]["name"] != expected:
        detail = f'must be spec.names.plural+"."+spec.group, that is {expected!r}'
        causes.append(Cause.invalid("metadata.name", body["metadata"]["name"], detail))
    if spec.get("scope") not in ("Namespaced", "Cluster"):
        causes.append(Cause.unsupported("spec.scope", spec.get("scope"), ["Cluster", "Namespaced"]))
    versions = spec.get("versions") or []
    if sum(bool(version.get("storage")) for version in versions) != 1:
        causes.append(
            Cause.invalid("spec.versions", versions, "must have exactly one version marked as storage version")
        )
    for index, version in enumerate(versions):
        at = f"spec.versions[{index}].schema.openAPIV3Schema"
        raw = (version.get("schema") or {}).get("openAPIV3Schema")
        if not isinstance(raw, dict):
            causes.append(Cause.required(at, "schemas are required"))
            continue
        causes += _check_structural(raw, at, root=True)
        causes += Rules.check(raw, at)
    return causes


def _check_structural(raw: Object, at: str, *, root: bool = False) -> list[Cause]:
    """Return where a schema is not structural."""
    causes: list[Cause] = []
    untyped = raw.get("x-kubernetes-int-or-string") or raw.get("x-kubernetes-preserve-unknown-fields")
    if not raw.get("type") and (root or not untyped):
        causes.append(Cause.required(f"{at}.type", "must not be empty for specified object fields"))
    if root and raw.get("type") not in (None, "object"):
        causes.append(Cause.invalid(f"{at}.type", raw.get("type"), "must be object at the root"))
    if raw.get("properties") and raw.get("additionalProperties"):
        causes.append(Cause.forbidden(f"{at}.additionalProperties", "must not be used together with properties"))
    if raw.get("type") == "array" and not isinstance(raw.get("items"), dict):
        causes.append(Cause.required(f"{at}.items", "must be specified"))
    if raw.get("x-kubernetes-list-type") == "map" and not raw.get("x-kubernetes-list-map-keys"):
        causes.append(
            Cause.required(f"{at}.x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map")
        )
    if raw.get("$ref"):
        causes.append(Cause.forbidden(f"{at}.$ref", "$ref is not supported"))
    for name, child in (raw.get("properties") or {}).items():
        causes += _check_structural(child, f"{at}.properties[{name}]")
    if isinstance(raw.get("items"), dict):
        causes += _check_structural(raw["items"], f"{at}.items")
    if isinstance(raw.get("additionalProperties"), dict):
        causes += _check_structural(raw["additionalProperties"], f"{at}.additionalProperties")
    return causes


def served(body: Object) -> list[Resource]:
    """Return the resources that a valid definition makes, one a served version."""
    spec = body["spec"]
    return [_resource(spec, version) for version in spec["versions"] if version.get("served")]


def _resource(spec: Object, version: Object) -> Resource:
    names = spec["names"]
    raw = version["schema"]["openAPIV3Schema"]
    schema = compile_custom(raw)
    schema.properties = {
        **schema.properties,
        "apiVersion": Schema(type="string"),
        "kind": Schema(type="string"),
        "metadata": schema_of("ObjectMeta"),
    }
    group, name = spec["group"], version["name"]
    declared = version.get("subresources") or {}
    columns = [
        Column(c["name"], c["jsonPath"], c.get("priority", 0), c["type"])
        for c in version.get("additionalPrinterColumns") or ()
    ]
    return Resource(
        group=group,
        version=name,
        plural=names["plural"],
        kind=names["kind"],
        list_kind=names["listKind"],
        singular=names["singular"],
        namespaced=spec["scope"] == "Namespaced",
        schema=schema.finish(),
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        columns=(_NAME, *(columns or [_AGE])),
        subresources={below: Subresource.of(below, group, name, names["kind"]) for below in declared},
        selectable=tuple(f["jsonPath"].lstrip(".") for f in version.get("selectableFields") or ()),
        scale=declared.get("scale") or {},
        rules=Rules(raw),
    )


def validate(resource: Resource, body: Object, old: Object | None) -> list[Cause]:
    """Return what a custom object breaks: its schema first, then, if that holds, its CEL rules."""
    present = {"metadata", "apiVersion", "kind", *body}
    causes = [Cause.required(name) for name in resource.schema.required if name not in present]
    for name, value in body.items():
        if name != "metadata":
            causes += _check(value, resource.schema.child(name), name)
    if not causes and resource.rules:
        causes = resource.rules.validate(body, old)
    return causes


def _check(value: Any, schema: Schema, at: str) -> list[Cause]:
    if value is None:
        return [] if schema.nullable or schema is ANY else [_wrong_type(value, schema.type, at)]
    wanted = _TYPES.get(schema.type)
    whole = schema.type == "integer" and isinstance(value, float) and value.is_integer()
    boolean = isinstance(value, bool) and schema.type != "boolean"
    if wanted and (not isinstance(value, wanted) or boolean) and not whole:
        return [_wrong_type(value, schema.type, at)]
    causes = _check_constraints(value, schema.raw, at)
    if isinstance(value, dict):
        causes += [Cause.required(f"{at}.{name}") for name in schema.required if name not in value]
        for name, item in value.items():
            causes += _check(item, schema.child(name), f"{at}.{name}" if name in schema.properties else f"{at}[{name}]")
    elif isinstance(value, list):
        causes += _check_list(value, schema, at)
    return causes


def _wrong_type(value: Any, wanted: str, at: str) -> Cause:
    shown = {bool: "boolean", int: "integer", float: "number", str: "string", dict: "object", list: "array"}.get(
        type(value), "null"
    )
    return Cause(
        at, "FieldValueTypeInvalid", f'Invalid value: "{shown}": {at} in body must be of type {wanted}: "{shown}"'
    )


def _check_list(value: list[Any], schema: Schema, at: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: list[Any] = []
    for index, item in enumerate(value):
        causes += _check(item, schema.items or ANY, f"{at}[{index}]")
        if schema.list_type in ("map", "set"):
            key = element_key(item, schema.list_keys, schema.items) if schema.list_type == "map" else item
            if key in seen:
                causes.append(Cause(f"{at}[{index}]", "FieldValueDuplicate", f"Duplicate value: {key}"))
            seen.append(key)
    return causes


def _check_constraints(value: Any, raw: Object, at: str) -> list[Cause]:
    if "enum" in raw and value not in raw["enum"]:
        return [Cause.unsupported(at, value, raw["enum"])]
    if isinstance(value, str):
        return _check_string(value, raw, at)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _check_number(value, raw, at)
    causes = []
    kind = "Items" if isinstance(value, list) else "Properties"
    if (limit := raw.get(f"max{kind}")) is not None and len(value) > limit:
        causes.append(Cause(at, "FieldValueTooMany", f"Too many: {len(value)}: must have at most {limit} items"))
    if (limit := raw.get(f"min{kind}")) is not None and len(value) < limit:
        causes.append(Cause.invalid(at, len(value), f"{at} in body should have at least {limit} items"))
    return causes


def _check_string(value: str, raw: Object, at: str) -> list[Cause]:
    causes = []
    if (limit := raw.get("maxLength")) is not None and len(value) > limit:
        causes.append(Cause(at, "FieldValueTooLong", f"Too long: may not be more than {limit} bytes"))
    if (limit := raw.get("minLength")) is not None and len(value) < limit:
        causes.append(Cause.invalid(at, value, f"{at} in body should be at least {limit} chars long"))
    if (pattern := raw.get("pattern")) and not re.search(pattern, value):
        causes.append(Cause.invalid(at, value, f"{at} in body should match '{pattern}'"))
    return causes


def _check_number(value: float, raw: Object, at: str) -> list[Cause]:
    causes = []
    for name, word in (("minimum", "greater"), ("maximum", "less")):
        limit = raw.get(name)
        if limit is None:
            continue
        strict = raw.get(f"exclusive{name.capitalize()}") is True
        beyond = value < limit if name == "minimum" else value > limit
        if beyond or (strict and value == limit):
            than = f"{word} than" if strict else f"{word} than or equal to"
            causes.append(Cause.invalid(at, value, f"{at} in body should be {than} {limit}"))
    if (step := raw.get("multipleOf")) and value % step:
        causes.append(Cause.invalid(at, value, f"{at} in body should be a multiple of {step}"))
    return causes

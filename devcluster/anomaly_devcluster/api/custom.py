"""Custom resources: what a CustomResourceDefinition must be, what it serves, and its end."""

from collections.abc import Iterator
from typing import Any

from anomaly_devcluster import clock
from anomaly_devcluster.api.builtin import kinds, schema_of
from anomaly_devcluster.api.call import Call
from anomaly_devcluster.api.errors import Cause
from anomaly_devcluster.api.expressions import check_rules
from anomaly_devcluster.api.resources import Catalog, Column, Resource, Subresource
from anomaly_devcluster.api.schema import compile_custom
from anomaly_devcluster.store import Event, Store

Object = dict[str, Any]
_NAME = Column("Name", ".metadata.name")
_AGE = Column("Age", ".metadata.creationTimestamp", type="date")
DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
_CLEANUP = "customresourcecleanup.apiextensions.k8s.io"


def _complete(body: Object) -> None:
    """Fill in the names that a definition may leave out."""
    spec = body.get("spec") or {}
    names = spec.get("names") or {}
    if kind := names.get("kind"):
        names.setdefault("singular", kind.lower())
        names.setdefault("listKind", f"{kind}List")


def _establish(body: Object) -> None:
    """Set the status that says that the definition is served."""
    spec, at = body["spec"], clock.now()
    body["status"] = {
        "conditions": [{**condition, "lastTransitionTime": at} for condition in kinds()["established"]],
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
    versions = spec.get("versions") or []
    if sum(bool(version.get("storage")) for version in versions) != 1:
        detail = "must have exactly one version marked as storage version"
        causes.append(Cause.invalid("spec.versions", versions, detail))
    for index, version in enumerate(versions):
        at = f"spec.versions[{index}].schema.openAPIV3Schema"
        raw = (version.get("schema") or {}).get("openAPIV3Schema")
        if not isinstance(raw, dict):
            causes.append(Cause.required(at, "schemas are required"))
            continue
        for place, schema in _schemas(raw, at):
            causes += _check_structural(schema, place, root=schema is raw) + check_rules(schema, place)
    return causes


def _schemas(raw: Object, at: str) -> Iterator[tuple[str, Object]]:
    """Yield a schema and every one in it, with their places."""
    yield at, raw
    for name, child in (raw.get("properties") or {}).items():
        yield from _schemas(child, f"{at}.properties[{name}]")
    for name in ("items", "additionalProperties"):
        if isinstance(raw.get(name), dict):
            yield from _schemas(raw[name], f"{at}.{name}")


def _check_structural(raw: Object, at: str, *, root: bool) -> list[Cause]:
    untyped = raw.get("x-kubernetes-int-or-string") or raw.get("x-kubernetes-preserve-unknown-fields")
    causes = []
    if not raw.get("type") and (root or not untyped):
        causes.append(Cause.required(f"{at}.type", "must not be empty for specified object fields"))
    if root and raw.get("type") not in (None, "object"):
        causes.append(Cause.invalid(f"{at}.type", raw.get("type"), "must be object at the root"))
    if raw.get("properties") and raw.get("additionalProperties"):
        causes.append(Cause.forbidden(f"{at}.additionalProperties", "must not be used together with properties"))
    if raw.get("type") == "array" and not isinstance(raw.get("items"), dict):
        causes.append(Cause.required(f"{at}.items", "must be specified"))
    if raw.get("x-kubernetes-list-type") == "map" and not raw.get("x-kubernetes-list-map-keys"):
        detail = "must not be empty if x-kubernetes-list-type is map"
        causes.append(Cause.required(f"{at}.x-kubernetes-list-map-keys", detail))
    if raw.get("$ref"):
        causes.append(Cause.forbidden(f"{at}.$ref", "$ref is not supported"))
    return causes


def served(body: Object) -> list[Resource]:
    """Return the resources that a valid definition makes, one a served version."""
    spec = body["spec"]
    return [_resource(spec, version) for version in spec["versions"] if version.get("served")]


def _resource(spec: Object, version: Object) -> Resource:
    names = spec["names"]
    schema = compile_custom(version["schema"]["openAPIV3Schema"], root=True)
    schema.properties["metadata"] = schema_of("ObjectMeta")
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
        schema=schema,
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        columns=(_NAME, *(columns or [_AGE])),
        subresources={below: Subresource.of(below, group, name, names["kind"]) for below in declared},
        selectable=tuple(f["jsonPath"].lstrip(".") for f in version.get("selectableFields") or ()),
        scale=declared.get("scale") or {},
    )


class Definitions:
    """Follow the definitions in the store."""

    def __init__(self, store: Store, catalog: Catalog) -> None:
        self._store = store
        self._catalog = catalog
        store.listeners.append(self._changed)

    def admit(self, call: Call, operation: str, _: Object | None, new: Object | None) -> None:
        """Complete a definition's names, and hold it until its objects are gone."""
        if new is None or call.resource.qualified != DEFINITIONS:
            return
        _complete(new)
        if operation == "CREATE":
            new["metadata"]["finalizers"] = [*new["metadata"].get("finalizers", ()), _CLEANUP]

    def _changed(self, resource: str, event: Event) -> None:
        if resource == DEFINITIONS:
            self._definition_changed(event)
        elif event.change == "DELETED":
            entry = self._store.get(DEFINITIONS, ("", resource))
            if entry and entry.body["metadata"].get("deletionTimestamp"):
                self._finish(resource)

    def _definition_changed(self, event: Event) -> None:
        body, name = event.entry.body, event.entry.key[1]
        if event.change == "DELETED":
            self._catalog.define(name, [])
            return
        if body["metadata"].get("deletionTimestamp"):
            if event.before and not event.before.body["metadata"].get("deletionTimestamp"):
                self._empty(name)
            return
        if event.before is None or event.before.body["spec"] != body["spec"]:
            self._catalog.define(name, served(body))
        if "conditions" not in body.get("status", {}):
            established = event.entry.copy()
            _establish(established)
            self._store.put(DEFINITIONS, event.entry.key, established, event.entry)

    def _empty(self, name: str) -> None:
        """Delete the objects of a definition that goes; those with finalizers are marked and waited for."""
        for entry in self._store.entries(name):
            body = entry.copy()
            if body["metadata"].get("finalizers"):
                body["metadata"] |= {"deletionTimestamp": clock.now(0), "deletionGracePeriodSeconds": 0}
                self._store.put(name, entry.key, body, entry)
            else:
                self._store.delete(name, entry)
        self._finish(name)

    def _finish(self, name: str) -> None:
        entry = self._store.get(DEFINITIONS, ("", name))
        if entry is None or self._store.entries(name):
            return
        body = entry.copy()
        body["metadata"]["finalizers"] = [f for f in body["metadata"].get("finalizers", ()) if f != _CLEANUP]
        updated = self._store.put(DEFINITIONS, entry.key, body, entry)
        if not body["metadata"]["finalizers"]:
            self._store.delete(DEFINITIONS, updated)

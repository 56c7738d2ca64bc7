"""OpenAPI v3 documents of everything that is served, for `kubectl explain` and for client-side validation."""

from typing import Any

from anomaly_devcluster.api import builtin
from anomaly_devcluster.api.call import Answer
from anomaly_devcluster.api.discovery import VERSION
from anomaly_devcluster.api.errors import no_such_path
from anomaly_devcluster.api.resources import Catalog, Resource
from anomaly_devcluster.api.schema import MISSING, Schema

Object = dict[str, Any]
_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_SCALARS: dict[str, Object] = builtin.kinds()["scalars"]
_PATCHES = ("application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json")
_PROTOBUF_V2 = "application/com.github.proto-openapi.spec.v2"
_STRATEGIC = "application/strategic-merge-patch+json"


def empty_v2(accept: str) -> Answer:
    """Answer `/openapi/v2` with a document of nothing: kubectl asks for it about kinds that v3 does not have."""
    if accept.startswith(_PROTOBUF_V2):
        return Answer(200, b"\x0a\x032.0", f"{_PROTOBUF_V2}.v1.0+protobuf")  # field 1, swagger: "2.0"
    info = {"title": "Kubernetes (devcluster), see /openapi/v3", "version": VERSION["gitVersion"]}
    return Answer.of({"swagger": "2.0", "info": info, "paths": {}, "definitions": {}})


def answer(catalog: Catalog, path: str) -> Object:
    """Answer `/openapi/v3` and what lies below; raises StatusError(404)."""
    versions = {(r.group, r.version) for r in catalog}
    if not path:
        at = {_path(*gv): {"serverRelativeURL": f"/openapi/v3/{_path(*gv)}?hash={catalog.revision}"} for gv in versions}
        return {"paths": dict(sorted(at.items()))}
    for group, version in versions:
        if _path(group, version) == path:
            return _document([r for r in catalog if (r.group, r.version) == (group, version)])
    raise no_such_path()


def _path(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def _document(resources: list[Resource]) -> Object:
    schemas: Object = {}
    paths: Object = {}
    for resource in resources:
        name = f"{_reversed(resource.group)}.{resource.version}.{resource.kind}"
        kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
        root = _custom_root(resource) if resource.custom else _fields(resource.type_name, schemas)
        schemas[name] = {**root, "x-kubernetes-group-version-kind": [kind]}
        _reference("ObjectMeta", schemas)
        paths |= _paths(resource, name, kind)
    info = {"title": "Kubernetes (devcluster)", "version": VERSION["gitVersion"]}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _reversed(group: str) -> str:
    if not group or "." not in group or group.endswith(".k8s.io"):
        return f"io.k8s.api.{group.partition('.')[0] or 'core'}"
    return ".".join(reversed(group.split(".")))


def _custom_root(resource: Resource) -> Object:
    schema = resource.schema.raw
    texts = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
    metadata = {"description": "Standard object's metadata.", "allOf": [{"$ref": f"#/components/schemas/{_META}"}]}
    return {**schema, "properties": {**texts, **schema.get("properties", {}), "metadata": metadata}}


def _fields(type_name: str, schemas: Object) -> Object:
    properties, required = {}, []
    typed = builtin.schema_of(type_name).properties
    for name, kind in builtin.types()[type_name].items():
        properties[name] = {**_shape(kind.rstrip("!"), schemas), **_marks(typed[name])}
        if kind.endswith("!"):
            required.append(name)
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def _marks(schema: Schema) -> Object:
    """Return how patches treat a field: kubectl computes its own from these."""
    marks: Object = {}
    if schema.type == "array":
        marks["x-kubernetes-list-type"] = schema.list_type
        if schema.list_keys:
            marks["x-kubernetes-list-map-keys"] = list(schema.list_keys)
        retain = schema.items is not None and schema.items.retain_keys
        if schema.patch_key or schema.patch_merge:
            marks["x-kubernetes-patch-strategy"] = "merge,retainKeys" if retain else "merge"
        if schema.patch_key:
            marks["x-kubernetes-patch-merge-key"] = schema.patch_key
    elif schema.retain_keys:
        marks["x-kubernetes-patch-strategy"] = "retainKeys"
    if schema.atomic:
        marks["x-kubernetes-map-type"] = "atomic"
    if schema.default is not MISSING:
        marks["default"] = schema.default
    return marks


def _shape(kind: str, schemas: Object) -> Object:
    if kind[0] == "[":
        return {"type": "array", "items": _shape(kind[1:].rstrip("!"), schemas)}
    if kind[0] == "{":
        return {"type": "object", "additionalProperties": _shape(kind[1:].rstrip("!"), schemas)}
    return _SCALARS[kind] if kind in _SCALARS else {"allOf": [{"$ref": _reference(kind, schemas)}]}


def _reference(type_name: str, schemas: Object) -> str:
    name = _META if type_name == "ObjectMeta" else f"io.k8s.api.{type_name}"
    if name not in schemas:
        schemas[name] = {}  # before its fields, which may lead back to it
        schemas[name] = _fields(type_name, schemas)
    return f"#/components/schemas/{name}"


def _paths(resource: Resource, schema: str, kind: Object) -> Object:
    scope = "/namespaces/{namespace}" if resource.namespaced else ""
    collection = f"/{_path(resource.group, resource.version)}{scope}/{resource.plural}"
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    done = {"200": {"description": "OK", "content": content}}
    parameters = [
        {"name": name, "in": "query", "schema": {"type": "string"}}
        for name in ("dryRun", "fieldManager", "fieldValidation")
    ]
    patches = _PATCHES if resource.custom else (*_PATCHES, _STRATEGIC)

    def operation(action: str, **more: Any) -> Object:
        return {"responses": done, "x-kubernetes-action": action, "x-kubernetes-group-version-kind": kind, **more}

    accepted = {"content": {name: {"schema": {"type": "object"}} for name in patches}}
    return {
        collection: {
            "get": operation("list"),
            "post": operation("post", parameters=parameters, requestBody={"content": content}),
        },
        f"{collection}/{{name}}": {
            "get": operation("get"),
            "put": operation("put", parameters=parameters, requestBody={"content": content}),
            "patch": operation("patch", parameters=parameters, requestBody=accepted),
            "delete": operation("delete"),
        },
    }

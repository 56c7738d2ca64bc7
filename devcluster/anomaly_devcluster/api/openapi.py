"""OpenAPI v3 documents of everything that is served, for `kubectl explain` and for client-side validation."""

from typing import Any

from anomaly_devcluster.api import builtin
from anomaly_devcluster.api.call import Answer
from anomaly_devcluster.api.discovery import VERSION
from anomaly_devcluster.api.errors import no_such_path
from anomaly_devcluster.api.resources import Catalog, Resource
from anomaly_devcluster.api.schema import MISSING, Schema
from anomaly_devcluster.data import data

Object = dict[str, Any]
_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_SCALARS: dict[str, Object] = builtin.kinds()["scalars"]
_PROTOBUF_V2 = "application/com.github.proto-openapi.spec.v2"


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
        paths |= _paths(resource, name)
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
    strategy = ["retainKeys"] if (schema.items or schema).retain_keys else []
    if schema.type == "array":
        strategy = ["merge", *strategy] if schema.patch_key or schema.patch_merge else []
        marks["x-kubernetes-list-type"] = schema.list_type
        marks["x-kubernetes-list-map-keys"] = list(schema.list_keys)
        marks["x-kubernetes-patch-merge-key"] = schema.patch_key
    marks["x-kubernetes-patch-strategy"] = ",".join(strategy)
    marks["x-kubernetes-map-type"] = "atomic" if schema.atomic else ""
    marks = {name: mark for name, mark in marks.items() if mark}
    return marks if schema.default is MISSING else {**marks, "default": schema.default}


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


def _paths(resource: Resource, schema: str) -> Any:
    inside = "/namespaces/{namespace}" if resource.namespaced else ""
    return data(
        "api/openapi",
        collection=f"/{_path(resource.group, resource.version)}{inside}/{resource.plural}",
        group=resource.group,
        kind=resource.kind,
        schema=schema,
        strategic="json" if resource.custom else "strategic-merge",
        version=resource.version,
    )

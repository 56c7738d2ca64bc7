"""Objects as clients send them: decoded, pruned, told apart from what they are not, and their metadata checked."""

import re
from typing import Any

from anomaly_devcluster.api import wire
from anomaly_devcluster.api.builtin import DecodeError, decode, schema_of
from anomaly_devcluster.api.call import Call
from anomaly_devcluster.api.errors import Cause, StatusError, bad_request, invalid
from anomaly_devcluster.api.resources import Resource
from anomaly_devcluster.api.schema import prune

Object = dict[str, Any]

_LABEL = re.compile(r"^(?!.{64})[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
_VALUE = re.compile(r"^(?!.{64})(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
_KEY = re.compile(r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?(?!.{64})([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$")
_SUBDOMAIN = re.compile(r"^(?!.{254})[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_PATH_SEGMENT = re.compile(r"^[^/%]+$")
_RULES = {
    _LABEL: "must be a lowercase RFC 1123 label of at most 63 characters",
    _VALUE: "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', at most 63",
    _KEY: "name part must consist of alphanumeric characters, '-', '_' or '.'",
    _SUBDOMAIN: (
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
        "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
        r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
    ),
    _PATH_SEGMENT: "may not contain '/' or '%'",
}
_NAMES = {"namespaces": _LABEL, "services": _LABEL}
_NAMES |= dict.fromkeys(("roles", "rolebindings", "clusterroles", "clusterrolebindings"), _PATH_SEGMENT)
_MAX_ANNOTATIONS = 256 * 1024


def read_typed(body: Any, type_name: str) -> Object:
    """Decode what is no object of its own, such as DeleteOptions or a Scale; raises StatusError(400)."""
    try:
        decoded: Object = decode(body, schema_of(type_name), "", [])
    except DecodeError as error:
        raise bad_request(f"{type_name} cannot be read: {error}") from None
    return decoded


def read_object(call: Call, body: Any) -> Object:
    """Check kind and version of a client's object and decode it.

    Raises StatusError: 400 for another kind, wrong types, or (fieldValidation=Strict) unknown fields.
    """
    resource = call.resource
    if not isinstance(body, dict):
        raise bad_request(f"the object provided is unrecognized: expected an object of kind {resource.kind}")
    kind, version = body.get("kind") or resource.kind, body.get("apiVersion") or resource.group_version
    if (kind, version) != (resource.kind, resource.group_version):
        if resource.custom and version == resource.group_version:
            causes = [Cause.invalid("kind", kind, f"must be {resource.kind}")]
            raise invalid(resource.group, resource.kind, str(body.get("metadata", {}).get("name", "")), causes)
        raise bad_request(
            f"{kind} in version {version!r} cannot be handled as a {resource.kind}: "
            f"the request's path serves {resource.group_version}, Kind={resource.kind}"
        )
    content = {name: value for name, value in body.items() if name not in ("kind", "apiVersion")}
    unknown: list[str] = []
    try:
        if resource.custom:
            content["metadata"] = decode(content.get("metadata") or {}, schema_of("ObjectMeta"), "metadata", unknown)
            unknown += prune(content, resource.schema)
        else:
            content = {"metadata": {}, **decode(content, resource.schema, "", unknown)}
    except DecodeError as error:
        raise _unreadable(resource, str(error)) from None
    _report_unknown(call, unknown)
    return wire.stored_form(resource, content)


def _unreadable(resource: Resource, why: str) -> StatusError:
    return bad_request(f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {why}')


def _report_unknown(call: Call, unknown: list[str]) -> None:
    """Refuse, warn of or ignore unknown fields, as the request says; built-in kinds and custom ones warn by default."""
    mode = call.query.get("fieldValidation") or "Warn"
    told = [f'unknown field "{path}"' for path in sorted(unknown)]
    if told and mode == "Strict":
        raise _unreadable(call.resource, f"strict decoding error: {', '.join(told)}")
    call.warnings += [] if mode == "Ignore" else told


def check_metadata(resource: Resource, metadata: Object) -> list[Cause]:
    """Return what is wrong with names, labels, annotations and owner references."""
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    owners = metadata.get("ownerReferences") or []
    forms = [
        ("name", [metadata["name"]], _NAMES.get(resource.plural, _SUBDOMAIN)),
        ("namespace", [metadata["namespace"]] if resource.namespaced else (), _LABEL),
        ("labels", labels, _KEY),
        ("labels", labels.values(), _VALUE),
        ("annotations", map(str.lower, annotations), _KEY),
    ]
    causes = [
        Cause.invalid(f"metadata.{field}", value, _RULES[form])
        for field, values, form in forms
        for value in values
        if not form.match(value)
    ]
    if sum(len(k) + len(v) for k, v in annotations.items()) > _MAX_ANNOTATIONS:
        detail = f"Too long: may not be more than {_MAX_ANNOTATIONS} bytes"
        causes.append(Cause("metadata.annotations", "FieldValueTooLong", detail))
    if len(controllers := [owner for owner in owners if owner.get("controller")]) > 1:
        causes.append(Cause.invalid("metadata.ownerReferences", controllers, "only one may be the managing controller"))
    return causes + [
        Cause.invalid(f"metadata.ownerReferences[{index}].{name}", "", f"{name} must not be empty")
        for index, owner in enumerate(owners)
        for name in ("apiVersion", "kind", "name", "uid")
        if not owner.get(name)
    ]

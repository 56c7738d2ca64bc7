"""Objects as clients send them: decoded, pruned, and told apart from what they are not."""

import re
from typing import Any

from anomaly_devcluster.api import wire
from anomaly_devcluster.api.builtin import DecodeError, decode, schema_of
from anomaly_devcluster.api.call import Call
from anomaly_devcluster.api.errors import Cause, bad_request, invalid
from anomaly_devcluster.api.schema import prune

Object = dict[str, Any]

_SUBDOMAIN = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
_LABEL_VALUE = re.compile(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
_QUALIFIED = re.compile(r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$")
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
MAX_ANNOTATIONS = 256 * 1024


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
        content = _decode(call, content, unknown)
    except DecodeError as error:
        raise bad_request(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {error}'
        ) from None
    report_unknown(call, unknown)
    return wire.stored_form(resource, content)


def _decode(call: Call, content: Object, unknown: list[str]) -> Object:
    resource = call.resource
    if not resource.custom:
        decoded: Object = decode(content, resource.schema, "", unknown)
        decoded.setdefault("metadata", {})
        return decoded
    metadata = content.get("metadata") or {}
    content["metadata"] = decode(metadata, schema_of("ObjectMeta"), "metadata", unknown)
    prune(content, resource.schema, "", unknown)
    return content


def report_unknown(call: Call, unknown: list[str]) -> None:
    """Refuse, warn of or ignore unknown fields, as the request says; built-in kinds and custom ones warn by default."""
    mode = call.query.get("fieldValidation") or "Warn"
    told = [f'unknown field "{path}"' for path in sorted(unknown)]
    if not told or mode == "Ignore":
        return
    if mode == "Strict":
        resource = call.resource
        raise bad_request(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
            f"strict decoding error: {', '.join(told)}"
        )
    call.warnings += told


def check_metadata(body: Object, *, namespaced: bool, plural: str) -> list[Cause]:
    """Return what is wrong with names, labels, annotations, finalizers and owner references."""
    metadata = body["metadata"]
    causes = _check_name(metadata.get("name", ""), plural)
    if namespaced and not _LABEL.match(metadata.get("namespace", "")):
        causes.append(Cause.invalid("metadata.namespace", metadata.get("namespace", ""), "must be a DNS label"))
    for key, value in (metadata.get("labels") or {}).items():
        causes += _check_label(key, value)
    annotations = metadata.get("annotations") or {}
    causes += [
        Cause.invalid("metadata.annotations", key, "name part must consist of alphanumeric characters, '-', '_' or '.'")
        for key in annotations
        if not _QUALIFIED.match(key.lower())
    ]
    if sum(len(k) + len(v) for k, v in annotations.items()) > MAX_ANNOTATIONS:
        causes.append(
            Cause(
                "metadata.annotations", "FieldValueTooLong", f"Too long: may not be more than {MAX_ANNOTATIONS} bytes"
            )
        )
    controllers = [o for o in metadata.get("ownerReferences") or () if o.get("controller")]
    if len(controllers) > 1:
        causes.append(Cause.invalid("metadata.ownerReferences", controllers, "only one may be the managing controller"))
    for index, owner in enumerate(metadata.get("ownerReferences") or ()):
        missing = [name for name in ("apiVersion", "kind", "name", "uid") if not owner.get(name)]
        causes += [
            Cause.invalid(f"metadata.ownerReferences[{index}].{name}", "", f"{name} must not be empty")
            for name in missing
        ]
    return causes


def _check_name(name: str, plural: str) -> list[Cause]:
    if not name:
        return [Cause.required("metadata.name", "name or generateName is required")]
    if plural in ("roles", "rolebindings", "clusterroles", "clusterrolebindings"):
        return [Cause.invalid("metadata.name", name, "may not contain '/' or '%'")] if set(name) & set("/%") else []
    if plural in ("namespaces", "services"):
        if not _LABEL.match(name) or len(name) > 63:  # noqa: PLR2004 - RFC 1123
            return [Cause.invalid("metadata.name", name, "must be a lowercase RFC 1123 label of at most 63 characters")]
        return []
    if not _SUBDOMAIN.match(name) or len(name) > 253:  # noqa: PLR2004 - RFC 1123
        return [Cause.invalid("metadata.name", name, _SUBDOMAIN_RULE)]
    return []


def _check_label(key: str, value: str) -> list[Cause]:
    causes = []
    if not _QUALIFIED.match(key) or len(key.rpartition("/")[2]) > 63:  # noqa: PLR2004 - labels' limit
        causes.append(
            Cause.invalid("metadata.labels", key, "name part must consist of alphanumeric characters, '-', '_' or '.'")
        )
    if not _LABEL_VALUE.match(value) or len(value) > 63:  # noqa: PLR2004
        detail = (
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', at most 63"
        )
        causes.append(Cause.invalid("metadata.labels", value, detail))
    return causes

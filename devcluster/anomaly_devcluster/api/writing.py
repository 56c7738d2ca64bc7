"""Create, update and patch: one path that every write takes, whatever its form."""

import secrets
import uuid
from collections.abc import Callable
from typing import Any

import orjson

from anomaly_devcluster import clock
from anomaly_devcluster.api import errors, ownership, wire
from anomaly_devcluster.api.call import Answer, Call
from anomaly_devcluster.api.errors import Cause, StatusError, bad_request, invalid
from anomaly_devcluster.api.merge import json_patch, merge_patch, strategic_merge
from anomaly_devcluster.api.objects import check_metadata, read_object
from anomaly_devcluster.api.ownership import Managers
from anomaly_devcluster.api.reading import named
from anomaly_devcluster.api.resources import Resource
from anomaly_devcluster.api.schema import apply_defaults
from anomaly_devcluster.api.strategies import KEPT_BY_STATUS, begin, complete
from anomaly_devcluster.api.validation import check_emulated, check_schema, validate
from anomaly_devcluster.store import Entry, Store

Object = dict[str, Any]
Admission = Callable[[Call, str, Object | None, Object | None], None]
"""Refuses a call's operation (CREATE, UPDATE, DELETE) on (old, new) by raising, or completes new."""

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = ("application/apply-patch+yaml", "application/apply-patch")
_SERVERS_OWN = (
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generateName",
)
_NAME_CHARACTERS = "bcdfghjklmnpqrstvwxz2456789"


class Writer:
    """Answer writes, and change the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.mutating: list[Admission] = []
        """Called before an object is validated."""
        self.validating: list[Admission] = []
        """Called last before an object is stored."""

    def create(self, call: Call) -> Answer:
        """Answer a POST."""
        body = read_object(call, call.read())
        entry = self.add(call, body)
        return Answer(201, wire.one(call.resource, entry, call.accept))

    def update(self, call: Call) -> Answer:
        """Answer a PUT."""
        body = read_object(call, call.read())
        entry = named(self._store, call)
        return Answer(200, wire.one(call.resource, self.change(call, entry, body), call.accept))

    def patch(self, call: Call) -> Answer:
        """Answer a PATCH of any of the four kinds."""
        if call.content_type in APPLY_PATCH:
            return self._apply(call)
        patch, entry = call.read(), named(self._store, call)
        base = wire.as_object(call.resource, entry.copy())
        body = read_object(call, patched(call, base, patch))
        return Answer(200, wire.one(call.resource, self.change(call, entry, body), call.accept))

    def _apply(self, call: Call) -> Answer:
        resource = call.resource
        if not call.query.get("fieldManager"):
            cause = Cause.required("fieldManager", "is required for apply patch")
            raise invalid("meta.k8s.io", "PatchOptions", "", [cause])
        config = read_object(call, call.read())
        metadata = config["metadata"]
        if metadata.setdefault("name", call.name) != call.name:
            raise _misnamed(metadata["name"], call.name)
        if call.subresource == "status":
            config = {"metadata": {"name": call.name}, "status": config.get("status", {})}
        elif resource.has_status:
            config.pop("status", None)
        entry = self._store.get(resource.stored_as, call.key)
        if entry is None:
            if call.subresource or metadata.get("uid"):
                raise errors.not_found(resource.group, resource.plural, call.name)
            body, managers = ownership.apply(call, None, config)
            return Answer(201, wire.one(resource, self.add(call, body, managers), call.accept))
        check_unchanged(call, entry, metadata)
        body, managers = ownership.apply(call, entry.copy(), config)
        return Answer(200, wire.one(resource, self.change(call, entry, body, managers), call.accept))

    def add(self, call: Call, body: Object, managers: Managers | None = None) -> Entry:
        """Store a new object; with `managers` it is applied, else its fields become the caller's."""
        resource, metadata = call.resource, body["metadata"]
        _name(call, metadata)
        if metadata.pop("resourceVersion", None):
            raise StatusError(500, "", "resourceVersion should not be set on objects to be created")
        for name in ("managedFields", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
            metadata.pop(name, None)
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": clock.now()}
        if resource.custom or "generation" in resource.traits:
            metadata["generation"] = 1
        begin(resource, body)
        return self._store_changed(call, None, body, managers)

    def change(self, call: Call, entry: Entry, body: Object, managers: Managers | None = None) -> Entry:
        """Store an object in place of `entry`, or what of it the subresource may write."""
        metadata = body["metadata"]
        if metadata.setdefault("name", entry.key[1]) != entry.key[1]:
            raise _misnamed(metadata["name"], entry.key[1])
        check_unchanged(call, entry, metadata)
        return self._store_changed(call, entry, _restricted(call, entry, body), managers)

    def _store_changed(self, call: Call, entry: Entry | None, body: Object, managers: Managers | None) -> Entry:
        resource, metadata = call.resource, body["metadata"]
        operation, old = ("UPDATE", entry.body) if entry else ("CREATE", None)
        _default(call, body)
        for admit in self.mutating:
            admit(call, operation, old, body)
        key = (metadata.get("namespace", ""), metadata.get("name", ""))
        if entry is None and self._store.get(resource.stored_as, key):
            raise errors.already_exists(resource.group, resource.plural, key[1])
        if old and "generation" in old["metadata"] and _is_new_generation(call, body, old):
            metadata["generation"] = old["metadata"]["generation"] + 1
        self._check(call, body, old)
        if managers:
            ownership.settle(managers, body, resource.schema)
        elif body != old:
            ownership.track_update(call, old, body)
        if entry and body == old:
            return entry
        for admit in self.validating:
            admit(call, operation, old, body)
        if call.dry_run:
            return Entry(key, entry.revision if entry else 0, body, orjson.dumps(body))
        stored = self._store.put(resource.stored_as, key, body, entry)
        return self._store.delete(resource.stored_as, stored) if entry and finished(resource, body) else stored

    def _check(self, call: Call, body: Object, old: Object | None) -> None:
        resource = call.resource
        causes = check_metadata(resource, body["metadata"]) if old is None else []
        causes += _check_finalizers(body, old)
        causes += validate(call, body, old)
        if causes:
            raise invalid(resource.group, resource.kind, body["metadata"].get("name", ""), causes)
        check_emulated(resource, body)


def patched(call: Call, base: Object, patch: Any) -> Object:
    """Apply a patch of the request's type.

    Raises StatusError: 415 for a type that the resource does not take, 400 and 422 for what does not fit.
    """
    accepted = [JSON_PATCH, MERGE_PATCH, *([] if call.resource.custom else [STRATEGIC_MERGE_PATCH])]
    if call.content_type not in accepted:
        known = "the body of the request was in an unknown format - accepted media types include: "
        raise errors.unsupported_media_type(known + ", ".join([*accepted, APPLY_PATCH[0]]))
    if call.content_type == JSON_PATCH:
        return json_patch(base, patch)
    if not isinstance(patch, dict):
        raise bad_request("error decoding patch: expected an object")
    merged: Object = (
        merge_patch(base, patch)
        if call.content_type == MERGE_PATCH
        else strategic_merge(base, patch, call.resource.schema)
    )
    return merged


def finished(resource: Resource, body: Object) -> bool:
    """Say whether a deletion has nothing left to wait for."""
    metadata = body["metadata"]
    held = resource.qualified == "namespaces" and body["spec"].get("finalizers")
    waiting = held or metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds")
    return bool(metadata.get("deletionTimestamp")) and not waiting


def _misnamed(name: str, expected: str) -> StatusError:
    return bad_request(f"the name of the object ({name}) does not match the name on the URL ({expected})")


def _name(call: Call, metadata: Object) -> None:
    """Settle name and namespace of a new object."""
    if not metadata.get("name") and (prefix := metadata.get("generateName")):
        metadata["name"] = prefix[:58] + "".join(secrets.choice(_NAME_CHARACTERS) for _ in range(5))
    if not call.resource.namespaced:
        metadata.pop("namespace", None)
    elif metadata.setdefault("namespace", call.namespace) != call.namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")


def check_unchanged(call: Call, entry: Entry, expected: Object) -> None:
    """Raise StatusError(409) unless the object has the resourceVersion and the uid that are expected, if any are."""
    resource, own = call.resource, entry.body["metadata"]["uid"]
    if (wanted := expected.get("resourceVersion")) and wanted != str(entry.revision):
        raise errors.conflict(resource.group, resource.plural, entry.key[1])
    if (uid := expected.get("uid")) and uid != own:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {own}"
        raise errors.conflict(resource.group, resource.plural, entry.key[1], why)


def _restricted(call: Call, entry: Entry, body: Object) -> Object:
    """Return what the request may change of an object; the rest is as it was."""
    resource = call.resource
    metadata, kept = body["metadata"], entry.body["metadata"]
    if call.subresource == "status":
        old = entry.copy()
        old.pop("status", None)
        body = {**old, **({"status": body["status"]} if "status" in body else {})}
        if "metadata-with-status" not in resource.traits:
            return body
        body["metadata"] = metadata
        if name := KEPT_BY_STATUS.get(resource.qualified):
            metadata.pop(name, None)
            metadata |= {name: kept[name]} if name in kept else {}
    elif resource.has_status:
        body.pop("status", None)
        if "status" in entry.body:
            body["status"] = orjson.loads(orjson.dumps(entry.body["status"]))
    for name in _SERVERS_OWN:
        metadata.pop(name, None)
        if name in kept:
            metadata[name] = kept[name]
    metadata["resourceVersion"] = kept["resourceVersion"]
    if resource.namespaced and metadata.setdefault("namespace", entry.key[0]) != entry.key[0]:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    if "managedFields" not in metadata and "managedFields" in kept:
        metadata["managedFields"] = kept["managedFields"]
    return body


def _is_new_generation(call: Call, body: Object, old: Object) -> bool:
    """Say whether anything but metadata and status changes; annotations of Deployments count: ReplicaSets get them."""
    if call.resource.qualified == "deployments.apps" and not call.subresource:
        before, now = (part["metadata"].get("annotations") or {} for part in (old, body))
        if before != now:
            return True
    return any(body.get(k) != old.get(k) for k in {*body, *old} - {"metadata", "status"})


def _default(call: Call, body: Object) -> None:
    resource = call.resource
    if "spec" in resource.schema.properties and not resource.custom:
        body.setdefault("spec", {})
    apply_defaults(body, resource.schema)
    if causes := check_schema(resource, body):
        raise invalid(resource.group, resource.kind, body["metadata"].get("name", ""), causes)
    complete(resource, body)


def _check_finalizers(body: Object, old: Object | None) -> list[Cause]:
    before = ((old or {}).get("metadata") or {}).get("finalizers") or []
    new = [name for name in body["metadata"].get("finalizers") or [] if name not in before]
    if old is None or not new or not old["metadata"].get("deletionTimestamp"):
        return []
    detail = f"no new finalizers can be added if the object is being deleted, found new finalizers {new}"
    return [Cause.forbidden("metadata.finalizers", detail)]

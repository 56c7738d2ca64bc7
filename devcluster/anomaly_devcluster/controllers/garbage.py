"""Delete what belongs to nobody any more: owner references in background, foreground and orphan fashion."""

import asyncio
import logging
from typing import NamedTuple

from anomaly_devcluster.client import DEFINITIONS, FAILURES, GONE, NOT_FOUND, ApiError, Object, Resource
from anomaly_devcluster.controllers.base import Controller, being_deleted
from anomaly_devcluster.controllers.discovery import deletable
from anomaly_devcluster.informer import Informer, Key

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
_IGNORED = {"events"}
_log = logging.getLogger(__name__)


class _Item(NamedTuple):
    resource: Resource
    body: Object


class GarbageCollector(Controller):
    """Watch everything that can be deleted; its keys are UIDs (in the place of the name)."""

    workers = 8

    def watch(self) -> None:
        """Follow all resources, and definitions for new ones."""
        self._items: dict[str, _Item] = {}
        self._dependents: dict[str, set[str]] = {}
        self._informers: dict[Resource, Informer] = {}
        self._discover = asyncio.Event()
        self._discover.set()
        self.informers(DEFINITIONS).on_change(lambda *_: self._discover.set())

    async def run(self) -> None:
        """Discover and collect until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_resources())
            tasks.create_task(super().run())

    async def _follow_resources(self) -> None:
        while True:
            await self._discover.wait()
            self._discover.clear()
            try:
                found = await deletable(self.client)
            except FAILURES as error:
                _log.debug("discovery: %s", error)
                found = []
            new = [r for r in found if r not in self._informers and r.plural not in _IGNORED]
            for resource in new:
                informer = self._informers[resource] = self.informers(resource)
                informer.on_change(lambda kind, body, r=resource: self._changed(r, kind, body))  # type: ignore[misc]
            established = {d["spec"]["names"]["plural"] for d in self.informers(DEFINITIONS)}
            if not found or established - {r.plural for r in self._informers}:
                await asyncio.sleep(0.2)
                self._discover.set()

    def _changed(self, resource: Resource, kind: str, body: Object) -> None:
        uid = body["metadata"]["uid"]
        owners = {reference["uid"] for reference in body["metadata"].get("ownerReferences") or []}
        before = self._items.get(uid)
        if before is not None:
            for owner in {r["uid"] for r in before.body["metadata"].get("ownerReferences") or []} - owners:
                self._dependents.get(owner, set()).discard(uid)
        if kind == "DELETED":
            self._items.pop(uid, None)
            for owner in owners:
                self._dependents.get(owner, set()).discard(uid)
                self._look_at(owner)
            for dependent in self._dependents.pop(uid, set()):
                self._look_at(dependent)
            return
        self._items[uid] = _Item(resource, body)
        for owner in owners:
            self._dependents.setdefault(owner, set()).add(uid)
            if owner in self._items and being_deleted(self._items[owner].body):
                self._look_at(owner)
        if owners or being_deleted(body):
            self._look_at(uid)

    def _look_at(self, uid: str) -> None:
        self.enqueue(("", uid))

    async def reconcile(self, key: Key) -> float | None:
        """Decide about one object: finish its own deletion, or delete it because its owners are gone."""
        item = self._items.get(key[1])
        if item is None:
            return None
        finalizers = item.body["metadata"].get("finalizers") or []
        if being_deleted(item.body):
            if FOREGROUND in finalizers:
                return await self._delete_dependents(key[1], item)
            if ORPHAN in finalizers:
                await self._orphan_dependents(key[1], item)
            return None
        return await self._collect(item)

    async def _collect(self, item: _Item) -> float | None:
        references = item.body["metadata"].get("ownerReferences") or []
        if not references:
            return None
        states = [await self._owner_state(item, reference) for reference in references]
        solid = [r for r, state in zip(references, states, strict=True) if state == "solid"]
        waiting = [r for r, state in zip(references, states, strict=True) if state == "waiting"]
        if solid:
            if len(solid) < len(references):  # dangling references go, the object stays
                await self._set_references(item, solid)
            return None
        policy = "Background"
        if waiting and any(self._dependents.get(item.body["metadata"]["uid"], set())):
            policy = "Foreground"
        await self.client.delete(item.resource, item.body, policy=policy)
        return None

    async def _owner_state(self, item: _Item, reference: Object) -> str:
        """Return solid, waiting (for its dependents to go) or absent; absence is asked of the API, never assumed."""
        known = self._items.get(reference["uid"])
        if known is None:
            resource = next(
                (
                    r
                    for r in self._informers
                    if r.kind == reference["kind"] and _group(r.version) == _group(reference["apiVersion"])
                ),
                None,
            )
            if resource is None:
                self._discover.set()
                return "solid"  # a kind that is not served now may be served again
            namespace = item.body["metadata"].get("namespace") if resource.namespaced else None
            try:
                body = await self.client.get(resource, namespace, reference["name"])
            except ApiError as error:
                if error.code in (NOT_FOUND, GONE):
                    return "absent"
                raise
            if body["metadata"]["uid"] != reference["uid"]:
                return "absent"
        else:
            body = known.body
        waiting = being_deleted(body) and FOREGROUND in (body["metadata"].get("finalizers") or [])
        return "waiting" if waiting else "solid"

    async def _delete_dependents(self, uid: str, item: _Item) -> float | None:
        blocking = False
        for dependent_uid in list(self._dependents.get(uid, ())):
            dependent = self._items.get(dependent_uid)
            if dependent is None:
                continue
            references = dependent.body["metadata"].get("ownerReferences") or []
            blocking |= any(r["uid"] == uid and r.get("blockOwnerDeletion") for r in references)
            if not being_deleted(dependent.body):
                self._look_at(dependent_uid)
        if not blocking:
            await self._remove_finalizer(item, FOREGROUND)
        return None

    async def _orphan_dependents(self, uid: str, item: _Item) -> None:
        for dependent_uid in list(self._dependents.get(uid, ())):
            dependent = self._items.get(dependent_uid)
            if dependent is not None:
                references = dependent.body["metadata"].get("ownerReferences") or []
                await self._set_references(dependent, [r for r in references if r["uid"] != uid])
        await self._remove_finalizer(item, ORPHAN)

    async def _set_references(self, item: _Item, references: list[Object]) -> None:
        version = item.body["metadata"]["resourceVersion"]
        change = {"metadata": {"resourceVersion": version, "ownerReferences": references}}
        changed = await self.client.patch(item.resource, item.body, change)
        self._informers[item.resource].record(changed)

    async def _remove_finalizer(self, item: _Item, finalizer: str) -> None:
        left = [f for f in item.body["metadata"].get("finalizers") or [] if f != finalizer]
        version = item.body["metadata"]["resourceVersion"]
        change = {"metadata": {"resourceVersion": version, "finalizers": left}}
        await self.client.patch(item.resource, item.body, change)


def _group(version: str) -> str:
    return version.rpartition("/")[0]

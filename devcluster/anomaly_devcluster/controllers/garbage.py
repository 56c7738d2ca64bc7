"""Delete what belongs to nobody any more: owner references in background, foreground and orphan fashion."""

import asyncio
import logging
from collections import defaultdict
from typing import Any, NamedTuple

from anomaly_devcluster.client import DEFINITIONS, FAILURES, GONE, NOT_FOUND, ApiError, Object, Resource
from anomaly_devcluster.controllers.base import Controller, being_deleted, deletable
from anomaly_devcluster.informer import Informer, Key

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
_IGNORED = {"events"}
_log = logging.getLogger(__name__)


class _Item(NamedTuple):
    resource: Resource
    body: Object

    @property
    def references(self) -> list[Object]:
        """To its owners."""
        return self.body["metadata"].get("ownerReferences") or []

    @property
    def finalizers(self) -> list[str]:
        """What its deletion waits for."""
        return self.body["metadata"].get("finalizers") or []


class GarbageCollector(Controller):
    """Watch everything that can be deleted; its keys are UIDs (in the place of the name)."""

    workers = 8

    def watch(self) -> None:
        """Follow all resources, and definitions for new ones."""
        self._items: dict[str, _Item] = {}
        self._dependents: defaultdict[str, set[str]] = defaultdict(set)
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
        uid, owners = body["metadata"]["uid"], _owners(body)
        before = self._items.pop(uid, None)
        for owner in _owners(before.body) if before else ():
            self._dependents[owner].discard(uid)
        if kind == "DELETED":
            for dependent in self._dependents.pop(uid, ()):
                self.enqueue(("", dependent))
        else:
            self._items[uid] = _Item(resource, body)
            if owners or being_deleted(body):
                self.enqueue(("", uid))
        for owner in owners:
            if kind != "DELETED":
                self._dependents[owner].add(uid)
            if owner in self._items and being_deleted(self._items[owner].body):
                self.enqueue(("", owner))

    async def reconcile(self, key: Key) -> float | None:
        """Decide about one object: finish its own deletion, or delete it because its owners are gone."""
        item = self._items.get(key[1])
        if item is None:
            return None
        dependents = [self._items[uid] for uid in self._dependents.get(key[1], ()) if uid in self._items]
        if not being_deleted(item.body):
            await self._collect(item, bool(dependents))
        elif FOREGROUND in item.finalizers:
            references = [r for each in dependents for r in each.references if r["uid"] == key[1]]
            if not any(r.get("blockOwnerDeletion") for r in references):
                await self._patch(item, finalizers=[f for f in item.finalizers if f != FOREGROUND])
            for each in dependents:
                if not being_deleted(each.body):
                    self.enqueue(("", each.body["metadata"]["uid"]))
        elif ORPHAN in item.finalizers:
            for each in dependents:
                await self._patch(each, ownerReferences=[r for r in each.references if r["uid"] != key[1]])
            await self._patch(item, finalizers=[f for f in item.finalizers if f != ORPHAN])
        return None

    async def _collect(self, item: _Item, has_dependents: bool) -> None:  # noqa: FBT001 - a truth about the item
        states = [await self._owner_state(item, reference) for reference in item.references]
        solid = [r for r, state in zip(item.references, states, strict=True) if state == "solid"]
        if not solid and states:
            policy = "Foreground" if "waiting" in states and has_dependents else "Background"
            await self.client.delete(item.resource, item.body, policy=policy)
        elif len(solid) < len(states):  # dangling references go, the object stays
            await self._patch(item, ownerReferences=solid)

    async def _owner_state(self, item: _Item, reference: Object) -> str:
        """Return solid, waiting (for its dependents to go) or absent; absence is asked of the API, never assumed."""
        if known := self._items.get(reference["uid"]):
            waiting = being_deleted(known.body) and FOREGROUND in known.finalizers
            return "waiting" if waiting else "solid"
        kind = (_group(reference["apiVersion"]), reference["kind"])
        resource = next((r for r in self._informers if (_group(r.version), r.kind) == kind), None)
        if resource is None:
            self._discover.set()
            return "solid"  # a kind that is not served now may be served again
        try:
            body = await self.client.get(resource, item.body["metadata"].get("namespace"), reference["name"])
        except ApiError as error:
            if error.code in (NOT_FOUND, GONE):
                return "absent"
            raise
        return "solid" if body["metadata"]["uid"] == reference["uid"] else "absent"

    async def _patch(self, item: _Item, **metadata: Any) -> None:
        change = {"metadata": {"resourceVersion": item.body["metadata"]["resourceVersion"], **metadata}}
        await self._informers[item.resource].patch(item.body, change)


def _owners(body: Object) -> set[str]:
    return {reference["uid"] for reference in body["metadata"].get("ownerReferences") or ()}


def _group(version: str) -> str:
    return version.rpartition("/")[0]

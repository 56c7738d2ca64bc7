"""What every controller is: a queue of keys, and a reconcile that reads everything and then writes."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Any, ClassVar

from anomaly_devcluster import clock
from anomaly_devcluster.api.selectors import matches_selector
from anomaly_devcluster.client import CONFLICT, FAILURES, NOT_FOUND, ApiError, Client, Object, Resource
from anomaly_devcluster.events import EventRecorder
from anomaly_devcluster.informer import Informer, Informers, Key, controller_of, key_of

_FIRST_RETRY_SECONDS = 0.02
_LAST_RETRY_SECONDS = 10.0
_NEEDED = {"list", "watch", "delete"}
_log = logging.getLogger(__name__)


class Controller(ABC):
    """Reconcile keys one at a time each, several keys at once, failed ones again with a growing delay."""

    workers: ClassVar[int] = 4

    def __init__(self, client: Client, informers: Informers, events: EventRecorder) -> None:
        self.client = client
        self.informers = informers
        self.events = events
        self._due: asyncio.Queue[Key] = asyncio.Queue()
        self._waiting: set[Key] = set()
        self._running: dict[Key, bool] = {}
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self.watch()

    @abstractmethod
    def watch(self) -> None:
        """Subscribe to what decisions depend on."""

    @abstractmethod
    async def reconcile(self, key: Key) -> float | None:
        """Bring the world closer to what the object of this key says; return after how many seconds to look again."""

    def enqueue(self, key: Key) -> None:
        """Reconcile this key as soon as possible."""
        if key in self._running:
            self._running[key] = True
        elif key not in self._waiting:
            self._waiting.add(key)
            self._due.put_nowait(key)

    def enqueue_after(self, key: Key, seconds: float) -> None:
        """Reconcile this key later, unless an earlier time is set already."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is None or timer.when() > loop.time() + seconds:
            if timer is not None:
                timer.cancel()
            self._timers[key] = loop.call_later(seconds, self._timer_fired, key)

    def _timer_fired(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.enqueue(key)

    def on_objects(self, resource: Resource) -> Informer:
        """Reconcile each changed object of this resource."""
        informer = self.informers(resource)
        informer.on_change(lambda _, body: self.enqueue(key_of(body)))
        return informer

    def on_children(self, resource: Resource, owner_kind: str) -> Informer:
        """Reconcile the controlling owner, of the given kind, of each changed object of this resource."""
        informer = self.informers(resource)

        def changed(_: str, body: Object) -> None:
            owner = controller_of(body)
            if owner and owner["kind"] == owner_kind:
                self.enqueue((body["metadata"].get("namespace", ""), owner["name"]))

        informer.on_change(changed)
        return informer

    def on_neighbours(self, resource: Resource, others: Informer) -> Informer:
        """Reconcile all of `others` in the namespace of each changed object of this resource."""
        informer = self.informers(resource)

        def changed(_: str, body: Object) -> None:
            for other in others.namespaced(body["metadata"]["namespace"]):
                self.enqueue(key_of(other))

        informer.on_change(changed)
        return informer

    async def run(self) -> None:
        """Work until cancelled."""
        await self.informers.synced()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self.workers):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self._due.get()
            self._waiting.discard(key)
            self._running[key] = False
            try:
                again = await self._attempt(key)
            finally:
                changed_meanwhile = self._running.pop(key)
            if changed_meanwhile:
                self.enqueue(key)
            elif again is not None:
                self.enqueue_after(key, again)

    async def _attempt(self, key: Key) -> float | None:
        try:
            again = await self.reconcile(key)
        except FAILURES as error:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            expected = isinstance(error, ApiError) and error.code in (CONFLICT, NOT_FOUND)
            _log.log(logging.DEBUG if expected else logging.WARNING, "%s %s: %r", type(self).__name__, key, error)
            return min(_LAST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2.0 ** (failures - 1))
        except Exception:  # noqa: BLE001 - one object that nobody foresaw must not stop the others
            _log.exception("%s %s", type(self).__name__, key)
            return _LAST_RETRY_SECONDS
        self._failures.pop(key, None)
        return again

    async def write_status(self, informer: Informer, body: Object, status: Object) -> None:
        """Replace the status of an object if it differs; empty values are left out, as Kubernetes does."""
        compact = _compact(status)
        if compact != _compact(body.get("status") or {}):
            await informer.update({**body, "status": compact}, "status")

    async def claim(self, owner: Object, informer: Informer) -> list[Object]:
        """Return the children of `owner`; adopt orphans that its selector matches, release those it no longer does.

        As Kubernetes' controller reference manager does.
        """
        uid, selector = owner["metadata"]["uid"], owner["spec"]["selector"]
        claimed = []
        for child in informer.namespaced(owner["metadata"]["namespace"]):
            controller = controller_of(child)
            fits = matches_selector(selector, child["metadata"].get("labels"))
            if controller is not None and controller["uid"] == uid:
                if fits:
                    claimed.append(child)
                elif "deletionTimestamp" not in owner["metadata"]:
                    others = [r for r in child["metadata"]["ownerReferences"] if r["uid"] != uid]
                    await informer.patch(child, _owned(child, others))
            elif controller is None and fits and not being_deleted(child) and not being_deleted(owner):
                others = child["metadata"].get("ownerReferences") or []
                claimed.append(await informer.patch(child, _owned(child, [*others, owner_reference(owner)])))
        return claimed


def _owned(child: Object, references: list[Object]) -> Object:
    return {"metadata": {"uid": child["metadata"]["uid"], "ownerReferences": references}}


def _compact(status: Object) -> Object:
    return {name: value for name, value in status.items() if name == "replicas" or value not in (None, 0, [])}


async def gather_all(calls: list[Awaitable[Any]]) -> None:
    """Run calls at once and wait for all of them; raise the first error afterwards."""
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def being_deleted(body: Object) -> bool:
    """Tell whether deletion has been asked for."""
    return "deletionTimestamp" in body["metadata"]


def share(value: int | str, of: int) -> float:
    """Return a number, or a percentage of another number."""
    return int(value[:-1]) * of / 100 if isinstance(value, str) and value.endswith("%") else int(value)


def pod_of(owner: Object) -> Object:
    """Return a pod as the template of a ReplicaSet or Job asks for it."""
    template, own = owner["spec"]["template"], owner["metadata"]
    metadata = {key: value for key, value in template.get("metadata", {}).items() if key != "creationTimestamp"}
    metadata |= {"generateName": f"{own['name']}-", "namespace": own["namespace"]}
    metadata["ownerReferences"] = [owner_reference(owner)]
    return {"metadata": metadata, "spec": template["spec"]}


def owner_reference(owner: Object) -> Object:
    """Return the reference that makes `owner` the controller of a child."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def condition(kind: str, status: str, reason: str, message: str = "") -> Object:
    """Return a condition, without its times."""
    return {"type": kind, "status": status, "reason": reason, "message": message}


def set_condition(conditions: list[Object], new: Object) -> list[Object]:
    """Return the conditions with one of them set; lastTransitionTime moves only when its status does."""
    known = next((c for c in conditions if c["type"] == new["type"]), None)
    if known is None:
        return [*conditions, {**new, "lastTransitionTime": clock.now()}]
    since = known.get("lastTransitionTime") if known["status"] == new["status"] else clock.now()
    changed = {**known, **new, "lastTransitionTime": since}
    return [changed if c["type"] == new["type"] else c for c in conditions]


async def deletable(client: Client) -> list[Resource]:
    """Return all resources that can be listed, watched and deleted, each in its group's preferred version."""
    versions = ["v1"]
    groups = await client.request("GET", "/apis")
    versions += [group["preferredVersion"]["groupVersion"] for group in groups["groups"]]
    found = []
    for version in versions:
        prefix = "/apis" if "/" in version else "/api"
        try:
            resources = (await client.request("GET", f"{prefix}/{version}"))["resources"]
        except ApiError:
            continue  # an aggregated API without a backend must not stop the others
        found += [
            Resource(version, r["name"], r["kind"], r["namespaced"])
            for r in resources
            if "/" not in r["name"] and set(r["verbs"]) >= _NEEDED
        ]
    return found

"""Keep a local copy of a collection by list and watch, and tell handlers what changes."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

from anomaly_devcluster.api.selectors import matches_selector
from anomaly_devcluster.client import FAILURES, GONE, NOT_FOUND, ApiError, Client, Object, Resource

Key = tuple[str, str]
"""Namespace (empty for cluster-scoped objects) and name."""
Handler = Callable[[str, Object], None]
"""Called with ADDED, MODIFIED or DELETED and the newest object."""

_REMEMBERED_DELETIONS = 4096
_log = logging.getLogger(__name__)


def key_of(body: Object) -> Key:
    """Return the key of an object."""
    return body["metadata"].get("namespace", ""), body["metadata"]["name"]


class Informer:
    """The newest known body of each object of one resource, and who wants to hear of changes."""

    def __init__(self, client: Client, resource: Resource) -> None:
        self.resource = resource
        self.synced = asyncio.Event()
        self._client = client
        self._objects: dict[Key, Object] = {}
        self._handlers: list[Handler] = []
        self._deleted: dict[str, None] = {}

    def on_change(self, handler: Handler) -> None:
        """Call `handler` for each change from now on, and for what is known already."""
        self._handlers.append(handler)
        for body in list(self._objects.values()):
            handler("ADDED", body)

    def get(self, namespace: str, name: str) -> Object | None:
        """Return one object, None if there is none."""
        return self._objects.get((namespace, name))

    def __iter__(self) -> Iterator[Object]:
        return iter(list(self._objects.values()))

    def namespaced(self, namespace: str) -> list[Object]:
        """Return all objects of a namespace."""
        return [body for (space, _), body in self._objects.items() if space == namespace]

    def selected(self, namespace: str, selector: Object | None) -> list[Object]:
        """Return the objects of a namespace that a LabelSelector selects."""
        return [b for b in self.namespaced(namespace) if matches_selector(selector, b["metadata"].get("labels"))]

    def owned_by(self, owner: Object) -> list[Object]:
        """Return the objects whose controller is `owner`."""
        uid, namespace = owner["metadata"]["uid"], owner["metadata"].get("namespace", "")
        return [body for body in self.namespaced(namespace) if controller_uid(body) == uid]

    def record(self, body: Object) -> Object:
        """Take in what a write answered, so that the next decision does not wait for the watch to bring it."""
        if body.get("kind") == self.resource.kind and body["metadata"].get("uid") not in self._deleted:
            self._store(body)
        return body

    async def create(self, body: Object) -> Object:
        """Create an object and record it."""
        return self.record(await self._client.create(self.resource, body))

    async def update(self, body: Object, subresource: str | None = None) -> Object:
        """Replace an object and record the answer."""
        return self.record(await self._client.update(self.resource, body, subresource))

    async def patch(self, body: Object, change: Any, subresource: str | None = None) -> Object:
        """Patch an object and record the answer."""
        return self.record(await self._client.patch(self.resource, body, change, subresource))

    async def run(self) -> None:
        """List and watch until cancelled, whatever the server does meanwhile."""
        version: str | None = None
        delay = 0.05
        while True:
            try:
                if version is None:
                    version = await self._relist()
                    self.synced.set()
                async for kind, body in self._client.watch(self.resource, version):
                    version = body["metadata"]["resourceVersion"]
                    delay = 0.05
                    self._take(kind, body)
            except (*FAILURES, ValueError) as error:
                _log.debug("watch of %s: %r", self.resource.plural, error)
                if isinstance(error, ApiError) and error.code in (GONE, NOT_FOUND):
                    version = None
                if isinstance(error, ApiError) and error.code == NOT_FOUND:  # the kind is no longer served
                    self._replace({})
                await asyncio.sleep(delay)
            delay = min(delay * 2, 2)

    async def _relist(self) -> str:
        answer = await self._client.list(self.resource)
        items = {}
        for item in answer["items"]:
            item.setdefault("kind", self.resource.kind)
            item.setdefault("apiVersion", self.resource.version)
            items[key_of(item)] = item
        self._replace(items)
        version: str = answer["metadata"]["resourceVersion"]
        return version

    def _replace(self, items: dict[Key, Object]) -> None:
        for key in self._objects.keys() - items.keys():
            self._remove(self._objects[key])
        for body in items.values():
            self._store(body)

    def _take(self, kind: str, body: Object) -> None:
        if kind == "DELETED":
            self._remove(body)
        elif kind in ("ADDED", "MODIFIED"):
            self._store(body)

    def _store(self, body: Object) -> None:
        key = key_of(body)
        known = self._objects.get(key)
        if known is not None and known["metadata"]["uid"] != body["metadata"]["uid"]:
            if _version(known) > _version(body):
                return
            self._remove(known)
            known = None
        if known is None or _version(known) < _version(body):
            self._objects[key] = body
            self._tell("ADDED" if known is None else "MODIFIED", body)

    def _remove(self, body: Object) -> None:
        self._deleted[body["metadata"]["uid"]] = None
        if len(self._deleted) > _REMEMBERED_DELETIONS:
            del self._deleted[next(iter(self._deleted))]
        known = self._objects.get(key_of(body))
        if known is not None and known["metadata"]["uid"] == body["metadata"]["uid"]:
            del self._objects[key_of(body)]
            self._tell("DELETED", body)

    def _tell(self, kind: str, body: Object) -> None:
        for handler in self._handlers:
            handler(kind, body)


class Informers:
    """One shared informer a resource, started on first use."""

    def __init__(self, client: Client, tasks: asyncio.TaskGroup) -> None:
        self._client = client
        self._tasks = tasks
        self._informers: dict[Resource, Informer] = {}

    def __call__(self, resource: Resource) -> Informer:
        """Return the informer of a resource."""
        if resource not in self._informers:
            informer = self._informers[resource] = Informer(self._client, resource)
            self._tasks.create_task(informer.run(), name=f"informer {resource.plural}")
        return self._informers[resource]

    async def synced(self) -> None:
        """Wait until each informer has listed once."""
        for informer in list(self._informers.values()):
            await informer.synced.wait()


def controller_of(body: Object) -> Object | None:
    """Return the owner reference of the controller, None if there is none."""
    references: list[Object] = body["metadata"].get("ownerReferences") or []
    return next((reference for reference in references if reference.get("controller")), None)


def controller_uid(body: Object) -> str | None:
    """Return the UID of the controlling owner."""
    reference = controller_of(body)
    return reference["uid"] if reference else None


def _version(body: Object) -> int:
    return int(body["metadata"]["resourceVersion"])

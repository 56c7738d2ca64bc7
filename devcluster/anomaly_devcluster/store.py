"""The objects, their history and who follows it.

One revision counts over all resources, as etcd's does. An entry is never changed once it is stored: every write makes a
new one, so readers, watchers and list snapshots may keep what they have. All methods are synchronous and belong to one
event loop, which makes each of them atomic.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

Object = dict[str, Any]
Key = tuple[str, str]
"""Namespace (empty for cluster-scoped) and name."""
Change = Literal["ADDED", "MODIFIED", "DELETED"]


class ConflictError(Exception):
    """The object is not in the state that the write was based on."""


class CompactedError(Exception):
    """The history no longer reaches back to the revision asked for."""


@dataclass(slots=True, eq=False)
class Entry:
    """An object as it was at one revision. Neither `body` nor what it holds may be changed."""

    key: Key
    revision: int
    body: Object
    raw: bytes
    """`body` as JSON, beginning with `{`."""

    def copy(self) -> Object:
        """Return the body to change at will."""
        body: Object = orjson.loads(self.raw)
        return body


@dataclass(slots=True, eq=False)
class Event:
    """One write."""

    revision: int
    change: Change
    entry: Entry
    """What is there now; for a deletion what was there last, at the revision of its deletion."""
    before: Entry | None
    lines: dict[Any, bytes] = field(default_factory=dict)
    """What was sent of it already, so that watchers share the serialisation."""


class Log:
    """The writes to one resource, as far back as they are kept."""

    def __init__(self, limit: int) -> None:
        self._events: deque[Event] = deque()
        self._limit = limit
        self._waiting: set[asyncio.Future[None]] = set()
        self.compacted = 0
        """Revisions up to this one are gone from the history."""

    def append(self, event: Event) -> None:
        """Add a write and wake who waits for one."""
        self._events.append(event)
        while len(self._events) > self._limit:
            self.compacted = self._events.popleft().revision
        self.wake()

    def wake(self) -> None:
        """Let everyone who waits look again."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    def compact(self, revision: int) -> None:
        """Forget what happened up to `revision`."""
        while self._events and self._events[0].revision <= revision:
            self._events.popleft()
        self.compacted = max(self.compacted, revision)
        self.wake()

    def since(self, revision: int) -> list[Event]:
        """Return the writes after `revision`, oldest first; raises CompactedError when some are forgotten."""
        if revision < self.compacted:
            raise CompactedError(f"too old resource version: {revision} ({self.compacted})")
        found: list[Event] = []
        for event in reversed(self._events):
            if event.revision <= revision:
                break
            found.append(event)
        found.reverse()
        return found

    async def wait(self, seconds: float) -> None:
        """Wait for the next write, a compaction, or for `seconds`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await asyncio.wait_for(future, seconds)
        except TimeoutError:
            pass
        finally:
            self._waiting.discard(future)


class Store:
    """All objects of a cluster, by resource (`configmaps`, `deployments.apps`)."""

    def __init__(self, history: int = 10_000) -> None:
        self.revision = 1
        self._history = history
        self._objects: dict[str, dict[Key, Entry]] = {}
        self._logs: dict[str, Log] = {}
        self.listeners: list[Callable[[str, Event], None]] = []
        """Called synchronously after each write with the resource and the event."""

    def log(self, resource: str) -> Log:
        """Return the history of one resource."""
        if resource not in self._logs:
            self._logs[resource] = Log(self._history)
        return self._logs[resource]

    def get(self, resource: str, key: Key) -> Entry | None:
        """Return one object, or None."""
        return self._objects.get(resource, {}).get(key)

    def entries(self, resource: str, namespace: str = "") -> list[Entry]:
        """Return the objects of a resource, of one namespace if it is given, in the order of their keys."""
        found = self._objects.get(resource, {})
        if namespace:
            return [found[key] for key in sorted(key for key in found if key[0] == namespace)]
        return [found[key] for key in sorted(found)]

    def put(self, resource: str, key: Key, body: Object, expected: Entry | None) -> Entry:
        """Create (`expected` is None) or replace an object; `body` belongs to the store from now on.

        Raises ConflictError unless `expected` is what is there.
        """
        objects = self._objects.setdefault(resource, {})
        before = objects.get(key)
        if before is not expected:
            raise ConflictError(resource, key)
        self.revision += 1
        body["metadata"]["resourceVersion"] = str(self.revision)
        entry = objects[key] = Entry(key, self.revision, body, orjson.dumps(body))
        self._record(resource, Event(self.revision, "MODIFIED" if before else "ADDED", entry, before))
        return entry

    def delete(self, resource: str, expected: Entry) -> Entry:
        """Remove an object and return its last state; raises ConflictError unless `expected` is what is there."""
        objects = self._objects.get(resource, {})
        if objects.get(expected.key) is not expected:
            raise ConflictError(resource, expected.key)
        del objects[expected.key]
        self.revision += 1
        body = expected.copy()
        body["metadata"]["resourceVersion"] = str(self.revision)
        last = Entry(expected.key, self.revision, body, orjson.dumps(body))
        self._record(resource, Event(self.revision, "DELETED", last, expected))
        return last

    def compact(self) -> None:
        """Forget the whole history: every watch from an earlier revision ends with 410."""
        for log in self._logs.values():
            log.compact(self.revision)

    def _record(self, resource: str, event: Event) -> None:
        self.log(resource).append(event)
        for listener in self.listeners:
            listener(resource, event)

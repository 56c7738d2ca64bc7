"""Watches: what is there, then every write in order, until the time is over or the history has run away."""

import random
import time
from collections.abc import AsyncIterator

import orjson

from anomaly_devcluster.api import tables, wire
from anomaly_devcluster.api.call import Call
from anomaly_devcluster.api.errors import StatusError, expired
from anomaly_devcluster.api.reading import Selection, check_revision
from anomaly_devcluster.store import CompactedError, Entry, Event, Store

BOOKMARK_SECONDS = 60.0
INITIAL_EVENTS_END = {"k8s.io/initial-events-end": "true"}


class Watch:
    """One watch; it remembers the last revision that it has passed on, so no write is missed or told twice."""

    def __init__(self, store: Store, call: Call) -> None:
        self._store = store
        self._call = call
        self._selection = Selection.of(call)
        self._log = store.log(call.resource.stored_as)
        self._table = wire.as_table(call.accept)
        self._columns_sent = False
        wanted = call.query.get("resourceVersion", "")
        self._initial = call.flag("sendInitialEvents") or wanted in ("", "0")
        if call.flag("sendInitialEvents") and call.query.get("resourceVersionMatch") != "NotOlderThan":
            message = "sendInitialEvents is set: resourceVersionMatch must be NotOlderThan"
            raise StatusError(422, "Invalid", f"ListOptions.meta.k8s.io is invalid: {message}")
        check_revision(store, call)
        self._revision = store.revision if self._initial else int(wanted)
        seconds = call.integer("timeoutSeconds") or random.uniform(1800, 3600)
        self._until = time.monotonic() + seconds
        self._frozen = False
        self._failure: Exception | None = None

    @property
    def resource(self) -> str:
        """What is watched, by its plural."""
        return self._call.resource.plural

    def freeze(self) -> None:
        """Stay open and say nothing more, as a connection does whose other end is gone."""
        self._frozen = True

    def thaw(self) -> None:
        """Go on after freeze()."""
        self._frozen = False
        self._log.wake()

    def end(self, failure: Exception) -> None:
        """Raise `failure` from lines() now."""
        self._failure = failure
        self._log.wake()

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield chunks of one or more lines."""
        bookmarks = self._call.flag("allowWatchBookmarks")
        if self._initial:
            chunk = b"".join(self._line("ADDED", entry) for entry in self._selection.found(self._store))
            if self._call.flag("sendInitialEvents") and bookmarks:
                chunk += self._bookmark(INITIAL_EVENTS_END)
            if chunk:
                yield chunk
        bookmark_at = time.monotonic() + BOOKMARK_SECONDS
        while (now := time.monotonic()) < self._until:
            if self._failure:
                raise self._failure
            if self._frozen:
                await self._log.wait(self._until - now)
                continue
            try:
                events = self._log.since(self._revision)
            except CompactedError as error:
                yield wire.line_of("ERROR", orjson.dumps(expired(str(error)).as_object()))
                return
            if events:
                if chunk := b"".join(filter(None, map(self._told, events))):
                    yield chunk
                self._revision = events[-1].revision
            elif bookmarks and now >= bookmark_at:
                # Nothing is missing up to here: no write can happen between `since` and this line.
                self._revision = max(self._revision, self._store.revision)
                yield self._bookmark()
                bookmark_at = now + BOOKMARK_SECONDS
            else:
                await self._log.wait(min(self._until, bookmark_at if bookmarks else self._until) - now)

    def _told(self, event: Event) -> bytes:
        """Return the line of a write as this watch sees it: entering and leaving the selection too."""
        was = event.before in self._selection
        if event.change == "DELETED":
            return self._event("DELETED", event, event.entry) if was else b""
        if event.entry in self._selection:
            return self._event("MODIFIED" if was else "ADDED", event, event.entry)
        return self._event("DELETED", event, event.before) if was and event.before else b""

    def _event(self, change: str, event: Event, entry: Entry) -> bytes:
        if self._table:
            return self._line(change, entry)
        return wire.event_line(self._call.resource, event, change, entry)

    def _line(self, change: str, entry: Entry) -> bytes:
        resource = self._call.resource
        if not self._table:
            return wire.line_of(change, wire.full(resource, entry))
        shown = tables.table(resource, [entry.body], str(entry.revision), columns=not self._columns_sent)
        self._columns_sent = True
        return wire.line_of(change, orjson.dumps(shown))

    def _bookmark(self, annotations: dict[str, str] | None = None) -> bytes:
        metadata: dict[str, object] = {"resourceVersion": str(self._revision), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        resource = self._call.resource
        shown = {"kind": resource.kind, "apiVersion": resource.group_version, "metadata": metadata}
        return wire.line_of("BOOKMARK", orjson.dumps(shown))

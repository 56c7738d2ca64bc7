"""Get and list: selectors, pages, and the resourceVersion that a client asks for."""

import base64
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import orjson

from anomaly_devcluster.api import wire
from anomaly_devcluster.api.call import Answer, Call
from anomaly_devcluster.api.errors import StatusError, bad_request, expired, not_found
from anomaly_devcluster.api.selectors import Predicate, parse_fields, parse_labels
from anomaly_devcluster.store import Entry, Store

PAGE_LIFETIME = 300.0
MAX_SNAPSHOTS = 100


@dataclass(frozen=True, slots=True)
class Selection:
    """What a list or a watch is about."""

    namespace: str
    labels: Predicate | None
    fields: Predicate | None
    call: Call

    @classmethod
    def of(cls, call: Call) -> "Selection":
        """Read the selectors of a request; raises StatusError(400)."""
        resource = call.resource
        fields = call.query.get("fieldSelector", "")
        if call.name:  # a watch of one object
            fields = ",".join(filter(None, (fields, f"metadata.name={call.name}")))
        return cls(
            call.namespace if resource.namespaced else "",
            parse_labels(call.query.get("labelSelector", "")),
            parse_fields(fields, resource.group_version, resource.selectable),
            call,
        )

    def found(self, store: Store) -> list[Entry]:
        """Return what is selected of what is there."""
        entries = store.entries(self.call.resource.stored_as, self.namespace)
        return [entry for entry in entries if entry in self] if self.labels or self.fields else entries

    def __contains__(self, entry: Entry | None) -> bool:
        """Say whether the object is selected."""
        if entry is None or (self.namespace and entry.key[0] != self.namespace):
            return False
        if self.labels and not self.labels(entry.body["metadata"].get("labels") or {}):
            return False
        return not self.fields or self.fields(wire.served_form(self.call.resource, entry.body))


class Reader:
    """Answer reads from the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._snapshots: OrderedDict[int, tuple[float, int, list[Entry]]] = OrderedDict()
        self._pages = 0

    def get(self, call: Call) -> Answer:
        """Answer with one object."""
        check_revision(self._store, call)
        return Answer(200, wire.one(call.resource, named(self._store, call), call.accept))

    def list_selected(self, call: Call) -> Answer:
        """Answer with the selected objects, in pages if the client wants them."""
        check_revision(self._store, call)
        limit = call.integer("limit") or 0
        wanted = call.query.get("resourceVersion", "")
        if call.query.get("resourceVersionMatch") == "Exact" and wanted != str(self._store.revision):
            raise expired(f"The resourceVersion for the provided list is too old: {wanted}")
        if token := call.query.get("continue"):
            revision, start, selected = self._resume(token)
        else:
            revision, start, selected = self._store.revision, 0, Selection.of(call).found(self._store)
        metadata: dict[str, Any] = {"resourceVersion": str(revision)}
        page = selected[start : start + limit] if limit else selected[start:]
        if left := len(selected) - start - len(page):
            metadata["continue"] = self._remember(revision, start + len(page), selected)
            metadata["remainingItemCount"] = left
        return Answer(200, wire.many(call.resource, page, metadata, call.accept))

    def _remember(self, revision: int, start: int, selected: list[Entry]) -> str:
        """Keep the list as it is for the pages to come; entries are never changed, so this costs references only."""
        self._pages += 1
        self._snapshots[self._pages] = (time.monotonic() + PAGE_LIFETIME, revision, selected)
        while len(self._snapshots) > MAX_SNAPSHOTS:
            self._snapshots.popitem(last=False)
        return base64.urlsafe_b64encode(orjson.dumps([self._pages, start])).decode().rstrip("=")

    def _resume(self, token: str) -> tuple[int, int, list[Entry]]:
        try:
            page, start = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        except ValueError:
            raise bad_request("continue key is not valid") from None
        until, revision, selected = self._snapshots.get(page, (0.0, 0, []))
        if time.monotonic() > until:
            raise expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new "
                "list without the continue parameter."
            )
        return revision, start, selected

    def forget_pages(self) -> None:
        """Let every open continue token expire."""
        self._snapshots.clear()


def named(store: Store, call: Call) -> Entry:
    """Return the object that a request names; raises StatusError(404)."""
    entry = store.get(call.resource.stored_as, call.key)
    if entry is None:
        raise not_found(call.resource.group, call.resource.plural, call.name)
    return entry


def check_revision(store: Store, call: Call) -> None:
    """Refuse to answer from the future; raises StatusError(504)."""
    text = call.query.get("resourceVersion", "")
    if not text.isdigit():
        if text:
            raise bad_request(f"Invalid value: {text!r}: resourceVersion must be a number")
        return
    if int(text) > store.revision:
        message = f"Timeout: Too large resource version: {text}, current: {store.revision}"
        cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
        raise StatusError(504, "Timeout", message, {"causes": [cause], "retryAfterSeconds": 1})

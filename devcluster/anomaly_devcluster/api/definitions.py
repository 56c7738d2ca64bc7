"""From CustomResourceDefinitions to served resources, and their removal."""

from typing import Any

from anomaly_devcluster import clock
from anomaly_devcluster.api import custom
from anomaly_devcluster.api.call import Call
from anomaly_devcluster.api.deleting import CRD_CLEANUP
from anomaly_devcluster.api.resources import Catalog
from anomaly_devcluster.store import Event, Store

Object = dict[str, Any]
DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"


class Definitions:
    """Follow the definitions in the store."""

    def __init__(self, store: Store, catalog: Catalog) -> None:
        self._store = store
        self._catalog = catalog
        store.listeners.append(self._changed)

    def admit(self, call: Call, operation: str, _: Object | None, new: Object | None) -> None:
        """Complete a definition's names, and hold it until its objects are gone."""
        if new is None or call.resource.qualified != DEFINITIONS:
            return
        custom.complete_definition(new)
        if operation == "CREATE":
            new["metadata"]["finalizers"] = [*new["metadata"].get("finalizers", ()), CRD_CLEANUP]

    def _changed(self, resource: str, event: Event) -> None:
        if resource == DEFINITIONS:
            self._definition_changed(event)
        elif event.change == "DELETED":
            entry = self._store.get(DEFINITIONS, ("", resource))
            if entry and entry.body["metadata"].get("deletionTimestamp"):
                self._finish(resource)

    def _definition_changed(self, event: Event) -> None:
        body, name = event.entry.body, event.entry.key[1]
        if event.change == "DELETED":
            self._catalog.define(name, [])
            return
        if body["metadata"].get("deletionTimestamp"):
            if event.before and not event.before.body["metadata"].get("deletionTimestamp"):
                self._empty(name)
            return
        if event.before is None or event.before.body["spec"] != body["spec"]:
            self._catalog.define(name, custom.served(body))
        if "conditions" not in body.get("status", {}):
            established = event.entry.copy()
            custom.establish(established)
            self._store.put(DEFINITIONS, event.entry.key, established, event.entry)

    def _empty(self, name: str) -> None:
        """Delete the objects of a definition that goes; those with finalizers are marked and waited for."""
        for entry in self._store.entries(name):
            body = entry.copy()
            if body["metadata"].get("finalizers"):
                body["metadata"] |= {"deletionTimestamp": clock.now(0), "deletionGracePeriodSeconds": 0}
                self._store.put(name, entry.key, body, entry)
            else:
                self._store.delete(name, entry)
        self._finish(name)

    def _finish(self, name: str) -> None:
        entry = self._store.get(DEFINITIONS, ("", name))
        if entry is None or self._store.entries(name):
            return
        body = entry.copy()
        body["metadata"]["finalizers"] = [f for f in body["metadata"].get("finalizers", ()) if f != CRD_CLEANUP]
        updated = self._store.put(DEFINITIONS, entry.key, body, entry)
        if not body["metadata"]["finalizers"]:
            self._store.delete(DEFINITIONS, updated)

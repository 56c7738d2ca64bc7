"""Deletion: preconditions, grace, finalizers and the marks that the garbage collector reads."""

from dataclasses import dataclass
from typing import Any

from anomaly_devcluster import clock
from anomaly_devcluster.api import wire
from anomaly_devcluster.api.call import Answer, Call
from anomaly_devcluster.api.objects import read_typed
from anomaly_devcluster.api.reading import Selection, named
from anomaly_devcluster.api.writing import Admission, check_unchanged, finished
from anomaly_devcluster.store import Entry, Store

Object = dict[str, Any]

_DEFAULT_POLICY = {"jobs.batch": "Orphan"}  # kept from the time of batch/v1's first clients


@dataclass(frozen=True, slots=True)
class Options:
    """DeleteOptions."""

    grace: int | None
    policy: str
    preconditions: Object

    @classmethod
    def of(cls, call: Call, body: Object | None = None) -> "Options":
        """Read them from the body, or what stands for it, and the parameters; raises StatusError(400)."""
        body = read_typed(call.read() if call.body.strip() else {}, "DeleteOptions") if body is None else body
        grace = body.get("gracePeriodSeconds", call.integer("gracePeriodSeconds"))
        if body.get("dryRun"):
            call.query = {**call.query, "dryRun": "All"}
        orphan = body.get("orphanDependents")
        policy = body.get("propagationPolicy") or call.query.get("propagationPolicy") or ""
        if orphan is not None:
            policy = "Orphan" if orphan else "Background"
        return cls(grace, policy, body.get("preconditions") or {})


class Deleter:
    """Answer deletions."""

    def __init__(self, store: Store, admission: list[Admission]) -> None:
        self._store = store
        self._admission = admission

    def delete(self, call: Call) -> Answer:
        """Delete one object, or mark it when something must happen first."""
        entry, options = named(self._store, call), Options.of(call)
        left, gone = self.remove(call, entry, options)
        if gone and "returned-when-deleted" not in call.resource.traits:
            about = {"group": call.resource.group} if call.resource.group else {}
            about |= {"name": call.name, "kind": call.resource.plural, "uid": entry.body["metadata"]["uid"]}
            return success(details=about)
        return Answer(200, wire.one(call.resource, left, call.accept))

    def delete_collection(self, call: Call) -> Answer:
        """Delete what is selected and answer with it."""
        options, selected = Options.of(call), Selection.of(call).found(self._store)
        removed = [self.remove(call, entry, options)[0] for entry in selected]
        metadata = {"resourceVersion": str(self._store.revision)}
        return Answer(200, wire.many(call.resource, removed, metadata, ""))

    def remove(self, call: Call, entry: Entry, options: Options) -> tuple[Entry, bool]:
        """Delete or mark one object; return its last state and whether it is gone."""
        check_unchanged(call, entry, options.preconditions)
        for admit in self._admission:
            admit(call, "DELETE", entry.body, None)
        body = entry.copy()
        metadata = body["metadata"]
        marked = bool(metadata.get("deletionTimestamp"))
        finalizers = [*metadata.get("finalizers", ())]
        policy = options.policy or _DEFAULT_POLICY.get(call.resource.qualified, "")
        wanted = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(policy)
        if wanted and wanted not in finalizers and not (marked and not finalizers):
            finalizers = [f for f in finalizers if f not in ("foregroundDeletion", "orphan")] + [wanted]
        if finalizers:
            metadata["finalizers"] = finalizers
        grace = _grace(call, body, options)
        if not marked or grace < metadata.get("deletionGracePeriodSeconds", 0):
            metadata["deletionTimestamp"] = clock.now(grace)
            metadata["deletionGracePeriodSeconds"] = grace
            if not marked and "generation" in metadata:
                metadata["generation"] += 1
        if call.resource.qualified == "namespaces":
            body["status"] = {**body.get("status", {}), "phase": "Terminating"}
        if call.dry_run:
            return entry, finished(call.resource, body)
        resource = call.resource.stored_as
        if finished(call.resource, body):
            return self._store.delete(resource, entry), True
        if body == entry.body:
            return entry, False
        return self._store.put(resource, entry.key, body, entry), False


def _grace(call: Call, body: Object, options: Options) -> int:
    """Return how long the object may take to end: pods that run on a node, and only they."""
    if call.resource.qualified != "pods" or not body["spec"].get("nodeName"):
        return 0
    if body.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    grace: int = body["spec"].get("terminationGracePeriodSeconds", 30)
    return grace if options.grace is None else max(options.grace, 0)


def success(code: int = 200, **more: Any) -> Answer:
    """Answer with a Status that says that all went well."""
    return Answer.of({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", **more}, code)

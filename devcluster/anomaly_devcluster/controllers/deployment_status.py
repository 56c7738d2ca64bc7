"""What a Deployment says of itself: counts, and the conditions that `kubectl rollout status` waits for."""

from anomaly_devcluster import clock
from anomaly_devcluster.client import Object
from anomaly_devcluster.controllers import base
from anomaly_devcluster.controllers.rolling import Limits
from anomaly_devcluster.pods import condition


def status_of(body: Object, new: Object | None, sets: list[Object], now: float) -> tuple[Object, float | None]:
    """Return the status, and in how many seconds the progress deadline must be looked at (None: not at all)."""
    status = _counts(body, new, sets)
    conditions = body.get("status", {}).get("conditions") or []
    conditions = _set(conditions, _available(body, status), now)
    failure = next((c for s in sets if (c := condition(s, "ReplicaFailure"))), None)
    if failure:
        conditions = _set(conditions, {key: failure[key] for key in ("type", "status", "reason", "message")}, now)
    else:
        conditions = [c for c in conditions if c["type"] != "ReplicaFailure"]
    progressing, again = _progressing(body, new, status, now)
    if progressing:
        conditions = _set(conditions, progressing, now)
    return {**status, "conditions": conditions}, again


def _counts(body: Object, new: Object | None, sets: list[Object]) -> Object:
    def total(field: str) -> int:
        return sum(s.get("status", {}).get(field, 0) for s in sets)

    available, wanted = total("availableReplicas"), sum(s["spec"].get("replicas", 1) for s in sets)
    return {
        "observedGeneration": body["metadata"].get("generation", 0),
        "replicas": total("replicas"),
        "updatedReplicas": new.get("status", {}).get("replicas", 0) if new else 0,
        "readyReplicas": total("readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, wanted - available),
    }


def _available(body: Object, status: Object) -> Object:
    replicas = body["spec"].get("replicas", 1)
    if status["availableReplicas"] >= replicas - min(Limits.of(body).unavailable, replicas):
        return base.condition("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    message = "Deployment does not have minimum availability."
    return base.condition("Available", "False", "MinimumReplicasUnavailable", message)


def _progressing(body: Object, new: Object | None, status: Object, now: float) -> tuple[Object | None, float | None]:
    """Return the new Progressing condition (None: as it is), and when the deadline passes."""
    known = condition(body, "Progressing")
    if new is None:
        return None, None
    name = new["metadata"]["name"]
    if _complete(body, status):
        return _progress("True", "NewReplicaSetAvailable", f'ReplicaSet "{name}" has successfully progressed.'), None
    if known is None:
        return _progress("True", "NewReplicaSetCreated", f'Created new replica set "{name}"'), None
    if _moved(body.get("status", {}), status):
        updated = _progress("True", "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.')
        return {**updated, "lastUpdateTime": clock.render(now)}, body["spec"].get("progressDeadlineSeconds", 600)
    return _overdue(body, known, name, now)


def _complete(body: Object, status: Object) -> bool:
    counts = [status[name] for name in ("updatedReplicas", "replicas", "availableReplicas")]
    return all(count == body["spec"].get("replicas", 1) for count in counts)


def _moved(before: Object, status: Object) -> bool:
    """Tell whether anything went on since the last status."""
    grown = ("updatedReplicas", "readyReplicas", "availableReplicas", "observedGeneration")
    old = before.get("replicas", 0) - before.get("updatedReplicas", 0)
    shrunk = status["replicas"] - status["updatedReplicas"] < old
    return shrunk or any(status[name] > before.get(name, 0) for name in grown)


def _overdue(body: Object, known: Object, name: str, now: float) -> tuple[Object | None, float | None]:
    """Return the condition of a rollout that stands still: as it is until the deadline, then False."""
    if known["reason"] in ("ProgressDeadlineExceeded", "NewReplicaSetAvailable"):
        return None, None
    deadline = body["spec"].get("progressDeadlineSeconds", 600)
    left = clock.parse(known.get("lastUpdateTime", clock.render(now))) + deadline - now
    if left > 0:
        return None, max(left, 0.5)
    return _progress("False", "ProgressDeadlineExceeded", f'ReplicaSet "{name}" has timed out progressing.'), None


def _progress(status: str, reason: str, message: str) -> Object:
    return base.condition("Progressing", status, reason, message)


def _set(conditions: list[Object], new: Object, now: float) -> list[Object]:
    """Set a condition; lastUpdateTime moves when anything in it does."""
    known = next((c for c in conditions if c["type"] == new["type"]), None)
    if known and all(known.get(key) == value for key, value in new.items()):
        return conditions
    return base.set_condition(conditions, {"lastUpdateTime": clock.render(now), **new})

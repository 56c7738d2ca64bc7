"""What a pod's status says, as controllers and the proxy read it."""

from anomaly_devcluster import clock
from anomaly_devcluster.client import Object


def condition(body: Object, kind: str) -> Object | None:
    """Return one condition of an object's status."""
    return next((c for c in body.get("status", {}).get("conditions") or [] if c["type"] == kind), None)


def is_ready(pod: Object) -> bool:
    """Tell whether the pod says that it is ready."""
    return (condition(pod, "Ready") or {}).get("status") == "True"


def is_finished(pod: Object) -> bool:
    """Tell whether no container of the pod will run again."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    """Tell whether the pod counts for its owner: neither finished nor being deleted."""
    return not is_finished(pod) and "deletionTimestamp" not in pod["metadata"]


def available_in(pod: Object, min_ready_seconds: int, now: float) -> float | None:
    """Return 0 if the pod has been ready for long enough, else the seconds until then, None if it is not ready."""
    ready = condition(pod, "Ready")
    if ready is None or ready["status"] != "True":
        return None
    if not min_ready_seconds:
        return 0.0
    return max(0.0, clock.parse(ready["lastTransitionTime"]) + min_ready_seconds - now)


def target_port(pod: Object, port: Object) -> int | None:
    """Return the number that a Service port's targetPort means in this pod, None if it names none."""
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int) or str(target).isdigit():
        return int(target)
    for container in pod["spec"]["containers"]:
        for declared in container.get("ports") or []:
            if declared.get("name") == target:
                return int(declared["containerPort"])
    return None

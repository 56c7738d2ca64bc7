"""A pod's status as a kubelet writes it. Pure functions of what the containers are doing."""

from collections.abc import Sequence
from typing import Literal

from anomaly_devcluster.client import Object

Initialization = Literal["waiting", "failed", "complete"]


def phase(policy: str, initialization: Initialization, containers: Sequence[Object]) -> str:
    """Return Pending, Running, Succeeded or Failed from the container statuses."""
    if initialization != "complete":
        return "Failed" if initialization == "failed" else "Pending"
    states = [c["state"] for c in containers]
    if all("terminated" in state for state in states):
        failed = any(state["terminated"]["exitCode"] for state in states)
        ends = policy == "Never" or (policy == "OnFailure" and not failed)
        return ("Failed" if failed else "Succeeded") if ends else "Running"
    begun = all("waiting" not in state or c.get("lastState") for state, c in zip(states, containers, strict=True))
    return "Running" if begun or any("running" in state for state in states) else "Pending"


def conditions(
    pod: Object, initialization: Initialization, containers: Sequence[Object], now: str, finished: str = ""
) -> list[Object]:
    """Return the pod's conditions; the times of those that keep their status are kept, and others' conditions too."""
    unready = [c["name"] for c in containers if not c["ready"]]
    why: Object = {}
    if finished == "Succeeded":
        why = {"reason": "PodCompleted"}
    elif finished == "Failed":
        why = {"reason": "PodFailed"}
    elif unready:
        message = f"containers with unready status: [{' '.join(unready)}]"
        why = {"reason": "ContainersNotReady", "message": message}
    ready = not unready and not finished
    initialized = initialization == "complete"
    init = {} if initialized else {"reason": "ContainersNotInitialized", "message": "init containers are not complete"}
    known = {c["type"]: c for c in pod.get("status", {}).get("conditions") or []}
    wanted: list[tuple[str, bool, Object]] = [
        ("PodReadyToStartContainers", True, {}),
        ("Initialized", initialized, {"reason": "PodCompleted"} if finished == "Succeeded" else init),
        ("Ready", ready and _gates_open(pod, known), why if not ready else {}),
        ("ContainersReady", ready, why if not ready else {}),
        ("PodScheduled", True, {}),
    ]
    result = []
    for kind, holds, reason in wanted:
        status = "True" if holds else "False"
        old = known.pop(kind, {})
        since = old.get("lastTransitionTime") if old.get("status") == status else None
        times = {"lastProbeTime": None, "lastTransitionTime": since or now}
        result.append({"type": kind, "status": status, **reason, **times})
    return [*known.values(), *result]


def _gates_open(pod: Object, known: dict[str, Object]) -> bool:
    gates = pod["spec"].get("readinessGates") or []
    return all(known.get(gate["conditionType"], {}).get("status") == "True" for gate in gates)

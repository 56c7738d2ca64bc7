"""Tables, as `kubectl get` prints them: the columns are data, the cells that take more than paths are functions."""

import re
import time
from collections.abc import Callable
from typing import Any

from anomaly_devcluster import clock
from anomaly_devcluster.api.jsonpath import find, first
from anomaly_devcluster.api.resources import Column, Resource
from anomaly_devcluster.api.selectors import selector_text

Object = dict[str, Any]
_PARTIAL = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
_BRACES = re.compile(r"\{([^}]*)\}")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "y": 31_536_000}
_SCALES = (
    (120, "s", ""), (600, "m", "s"), (10_800, "m", ""), (28_800, "h", "m"), (172_800, "h", ""), (691_200, "d", "h"),
    (63_072_000, "d", ""), (float("inf"), "y", ""),
)  # fmt: skip
"""Of kubectl's HumanDuration: durations below so many seconds are written in these units."""


def table(resource: Resource, bodies: list[Object], revision: str, *, columns: bool = True) -> Object:
    """Return a Table of objects."""
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": revision},
        "columnDefinitions": [_definition(resource, c) for c in resource.columns] if columns else [],
        "rows": [
            {"cells": [cell(c, body) for c in resource.columns], "object": {**_PARTIAL, "metadata": body["metadata"]}}
            for body in bodies
        ],
    }


def _definition(resource: Resource, column: Column) -> Object:
    kind = column.type if column.type != "date" or resource.custom else "string"
    form = "name" if column.name == "Name" else ""
    return {"name": column.name, "type": kind, "format": form, "description": "", "priority": column.priority}


def cell(column: Column, body: Object) -> Any:
    """Return one cell; kinds.yaml says how they are written."""
    if column.cell.startswith("."):
        value = first(body, column.cell)
    else:
        value = _BRACES.sub(lambda part: _filled(part[1], body), column.cell)
        value = int(value) if column.type == "integer" else value
    if column.type == "date":
        return _since(value) if value else "<unknown>"
    if column.type in ("integer", "number", "boolean"):
        return value
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _filled(choices: str, body: Object) -> str:
    for choice in choices.split("|"):
        if not choice.startswith("."):
            return str(CELLS[choice](body)) if choice in CELLS else choice
        if found := ",".join(map(str, find(body, choice))):
            return found
    return ""


def duration(seconds: float) -> str:
    """Write a duration as kubectl does: `42s`, `3m5s`, `2h`, `5d3h`."""
    total = max(int(seconds), 0)
    unit, below = next((unit, below) for limit, unit, below in _SCALES if total < limit)
    whole, rest = divmod(total, _SECONDS[unit])
    part = rest // _SECONDS[below] if below else 0
    return f"{whole}{unit}" + (f"{part}{below}" if part else "")


def _since(at: str) -> str:
    return duration(time.time() - clock.parse(at))


def _data_count(body: Object) -> int:
    return len(body.get("data") or ()) + len(body.get("binaryData") or ())


def _pod_ready(body: Object) -> str:
    statuses = body.get("status", {}).get("containerStatuses") or ()
    return f"{sum(bool(s.get('ready')) for s in statuses)}/{len(body['spec'].get('containers', ()))}"


def _state_reason(status: Object) -> str:
    """Return why a container is not simply running, empty when it is."""
    state = status.get("state") or {}
    if waiting := state.get("waiting"):
        return waiting.get("reason") or ""
    if ended := state.get("terminated"):
        by = f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode')}"
        return ended.get("reason") or by
    return ""


def _pod_status(body: Object) -> str:
    status = body.get("status", {})
    if body["metadata"].get("deletionTimestamp"):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    inits = status.get("initContainerStatuses") or []
    for index, container in enumerate(inits):
        if first(container, ".state.terminated.exitCode") != 0:
            reason = _state_reason(container).replace("PodInitializing", "")
            return f"Init:{reason}" if reason else f"Init:{index}/{len(body['spec'].get('initContainers', ()))}"
    shown: str = status.get("reason") or status.get("phase") or "Unknown"
    containers = status.get("containerStatuses") or ()
    for container in reversed(containers):
        shown = _state_reason(container) or shown
    return "Running" if shown == "Completed" and any(c.get("ready") for c in containers) else shown


def _pod_restarts(body: Object) -> str:
    status = body.get("status", {})
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    count = sum(s.get("restartCount", 0) for s in statuses)
    ends = [(s.get("lastState") or {}).get("terminated", {}).get("finishedAt") for s in statuses]
    last = max((end for end in ends if end), default=None)
    return f"{count} ({_since(last)} ago)" if count and last else str(count)


def _service_ports(body: Object) -> str:
    ports = body["spec"].get("ports") or ()
    shown = (f"{p['port']}" + (f":{p['nodePort']}" if p.get("nodePort") else "") + f"/{p['protocol']}" for p in ports)
    return ",".join(shown) or "<none>"


def _job_completions(body: Object) -> str:
    done, wanted = body.get("status", {}).get("succeeded", 0), body["spec"].get("completions")
    return f"{done}/{wanted}" if wanted is not None else f"{done}/1 of {body['spec'].get('parallelism', 1)}"


def _job_status(body: Object) -> str:
    if body["metadata"].get("deletionTimestamp"):
        return "Terminating"
    held = {c["type"] for c in body.get("status", {}).get("conditions") or () if c.get("status") == "True"}
    return next((kind for kind in ("Complete", "Failed", "Suspended", "FailureTarget") if kind in held), "Running")


def _job_duration(body: Object) -> str:
    status = body.get("status", {})
    if not status.get("startTime"):
        return ""
    end = clock.parse(status["completionTime"]) if status.get("completionTime") else time.time()
    return duration(end - clock.parse(status["startTime"]))


def _autoscaler_targets(body: Object) -> str:
    now = first(body, ".status.currentMetrics[0].resource.current.averageUtilization")
    target = first(body, ".spec.metrics[0].resource.target.averageUtilization")
    return f"cpu: {'<unknown>' if now is None else f'{now}%'}/{target}%"


def _node_status(body: Object) -> str:
    ready = first(body, '.status.conditions[?(@.type=="Ready")].status')
    return {"True": "Ready", None: "Unknown"}.get(ready, "NotReady")


def _event_object(body: Object) -> str:
    about = body.get("involvedObject") or {}
    return f"{about.get('kind', '').lower()}/{about.get('name', '')}"


def _access_modes(body: Object) -> str:
    short = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
    return ",".join(short.get(mode, mode) for mode in body.get("status", {}).get("accessModes") or ())


def _controller(body: Object) -> str:
    owner = next((o for o in body["metadata"].get("ownerReferences") or () if o.get("controller")), None)
    return f"{owner['kind'].lower()}.{owner['apiVersion'].partition('/')[0]}/{owner['name']}" if owner else "<none>"


_FUNCTIONS: tuple[Callable[[Object], Any], ...] = (
    _access_modes, _autoscaler_targets, _controller, _data_count, _event_object, _job_completions, _job_duration,
    _job_status, _node_status, _pod_ready, _pod_restarts, _pod_status, _service_ports,
)  # fmt: skip
CELLS: dict[str, Callable[[Object], Any]] = {function.__name__[1:]: function for function in _FUNCTIONS} | {
    "secret_count": lambda body: len(body.get("secrets") or ()),
    "validation_count": lambda body: len(body["spec"].get("validations") or ()),
    "selector": lambda body: selector_text(body["spec"].get("selector") or {}) or "<none>",
    "pod_selector": lambda body: selector_text(body["spec"].get("podSelector") or {}) or "<none>",
    "service_selector": lambda body: selector_text({"matchLabels": body["spec"].get("selector")}) or "<none>",
}

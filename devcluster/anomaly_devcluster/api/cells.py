"""Cells of the built-in kinds' tables that are more than one field."""

import datetime as dt
from collections.abc import Callable
from typing import Any

from anomaly_devcluster.api.selectors import selector_text

Object = dict[str, Any]


def _containers(body: Object) -> list[Object]:
    found: list[Object] = body.get("spec", {}).get("template", {}).get("spec", {}).get("containers") or []
    return found


def duration(seconds: float) -> str:  # noqa: PLR0911 - one line a range
    """Write a duration as kubectl does: `42s`, `3m5s`, `2h`, `5d3h`."""
    total = max(int(seconds), 0)
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if total < 120:  # noqa: PLR2004 - the thresholds are those of kubectl's HumanDuration
        return f"{total}s"
    if minutes < 10:  # noqa: PLR2004
        return f"{minutes}m{total % 60}s" if total % 60 else f"{minutes}m"
    if minutes < 180:  # noqa: PLR2004
        return f"{minutes}m"
    if hours < 8:  # noqa: PLR2004
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:  # noqa: PLR2004
        return f"{hours}h"
    if days < 8:  # noqa: PLR2004
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    return f"{days}d" if days < 730 else f"{days // 365}y"  # noqa: PLR2004


def parse_time(text: str) -> dt.datetime:
    """Parse an RFC 3339 time."""
    return dt.datetime.fromisoformat(text)


def _since(text: str | None) -> str:
    if not text:
        return "<unknown>"
    return duration((dt.datetime.now(dt.UTC) - parse_time(text)).total_seconds())


def _status(body: Object, name: str) -> Any:
    return body.get("status", {}).get(name) or 0


def _joined(items: Any) -> str:
    return ",".join(str(item) for item in items) or "<none>"


def _pod_statuses(body: Object) -> list[Object]:
    found: list[Object] = body.get("status", {}).get("containerStatuses") or []
    return found


def _pod_ready(body: Object) -> str:
    return f"{sum(bool(s.get('ready')) for s in _pod_statuses(body))}/{len(body['spec'].get('containers', ()))}"


def _state_reason(status: Object, *, init: bool) -> str:
    """Return why a container is not simply running; empty when it is, or when an init container is done."""
    state = status.get("state") or {}
    if waiting := state.get("waiting"):
        reason = waiting.get("reason") or ""
        return "" if init and reason == "PodInitializing" else reason
    if ended := state.get("terminated"):
        if init and ended.get("exitCode") == 0:
            return ""
        by = f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode')}"
        return ended.get("reason") or by
    return ""


def _pod_status(body: Object) -> str:
    status = body.get("status", {})
    shown: str = status.get("reason") or status.get("phase") or "Unknown"
    initializing = False
    inits = status.get("initContainerStatuses") or []
    for index, container in enumerate(inits):
        ended = (container.get("state") or {}).get("terminated")
        if ended and ended.get("exitCode") == 0:
            continue
        reason = _state_reason(container, init=True)
        shown = f"Init:{reason}" if reason else f"Init:{index}/{len(body['spec'].get('initContainers', ()))}"
        initializing = True
        break
    if not initializing:
        running = False
        for container in reversed(_pod_statuses(body)):
            shown = _state_reason(container, init=False) or shown
            running = running or bool(container.get("ready"))
        if shown == "Completed" and running:
            shown = "Running"
    if body["metadata"].get("deletionTimestamp"):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return shown


def _pod_restarts(body: Object) -> str:
    statuses = [*(body.get("status", {}).get("initContainerStatuses") or []), *_pod_statuses(body)]
    count = sum(s.get("restartCount", 0) for s in statuses)
    ends = [(s.get("lastState") or {}).get("terminated", {}).get("finishedAt") for s in statuses]
    last = max((end for end in ends if end), default=None)
    return f"{count} ({_since(last)} ago)" if count and last else str(count)


def _service_ports(body: Object) -> str:
    ports = body["spec"].get("ports") or ()
    return _joined(
        f"{p['port']}:{p['nodePort']}/{p['protocol']}" if p.get("nodePort") else f"{p['port']}/{p['protocol']}"
        for p in ports
    )


def _job_completions(body: Object) -> str:
    done = _status(body, "succeeded")
    wanted = body["spec"].get("completions")
    return f"{done}/{wanted}" if wanted is not None else f"{done}/1 of {body['spec'].get('parallelism', 1)}"


def _job_status(body: Object) -> str:
    conditions = body.get("status", {}).get("conditions") or ()
    held = {c["type"] for c in conditions if c.get("status") == "True"}
    if body["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for kind, shown in (("Complete", "Complete"), ("Failed", "Failed"), ("Suspended", "Suspended")):
        if kind in held:
            return shown
    return "FailureTarget" if "FailureTarget" in held else "Running"


def _job_duration(body: Object) -> str:
    status = body.get("status", {})
    if not status.get("startTime"):
        return ""
    end = parse_time(status["completionTime"]) if status.get("completionTime") else dt.datetime.now(dt.UTC)
    return duration((end - parse_time(status["startTime"])).total_seconds())


def _autoscaler_targets(body: Object) -> str:
    current = {m.get("resource", {}).get("name"): m for m in body.get("status", {}).get("currentMetrics") or ()}
    shown = []
    for metric in body["spec"].get("metrics") or ():
        resource = metric.get("resource", {})
        target = resource.get("target", {})
        measured = current.get(resource.get("name"), {}).get("resource", {}).get("current", {})
        if "averageUtilization" in target:
            now = measured.get("averageUtilization")
            share = f"{now}%" if now is not None else "<unknown>"
            shown.append(f"{resource.get('name')}: {share}/{target['averageUtilization']}%")
        else:
            shown.append(f"{measured.get('averageValue', '<unknown>')}/{target.get('averageValue', '<auto>')}")
    return ", ".join(shown) or "<none>"


def _node_status(body: Object) -> str:
    conditions = body.get("status", {}).get("conditions") or ()
    ready = next((c["status"] for c in conditions if c["type"] == "Ready"), None)
    shown = {"True": "Ready", "False": "NotReady"}.get(ready or "", "Unknown" if ready is None else "NotReady")
    return shown + (",SchedulingDisabled" if body.get("spec", {}).get("unschedulable") else "")


def _node_roles(body: Object) -> str:
    prefix = "node-role.kubernetes.io/"
    labels = body["metadata"].get("labels") or {}
    return _joined(sorted(label.removeprefix(prefix) for label in labels if label.startswith(prefix)))


def _node_address(body: Object) -> str:
    addresses = body.get("status", {}).get("addresses") or ()
    return _joined(a["address"] for a in addresses if a["type"] == "InternalIP")


def _param_kind(body: Object) -> str:
    kind = body["spec"].get("paramKind")
    return f"{kind['apiVersion']}/{kind['kind']}" if kind else "<unset>"


def _event_object(body: Object) -> str:
    about = body.get("involvedObject") or body.get("regarding") or {}
    return f"{about.get('kind', '').lower()}/{about.get('name', '')}"


def _event_last_seen(body: Object) -> str:
    series = body.get("series") or {}
    return _since(series.get("lastObservedTime") or body.get("lastTimestamp") or body.get("eventTime"))


def _access_modes(body: Object) -> str:
    short = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
    return ",".join(short.get(mode, mode) for mode in body.get("status", {}).get("accessModes") or ())


def _controller(body: Object) -> str:
    owner = next((o for o in body["metadata"].get("ownerReferences") or () if o.get("controller")), None)
    return f"{owner['kind'].lower()}.{owner['apiVersion'].partition('/')[0]}/{owner['name']}" if owner else "<none>"


def _slice_ports(body: Object) -> str:
    return _joined(p.get("port", "*") for p in body.get("ports") or ()) if body.get("ports") else "<unset>"


def _or_none(body: Object, field: str, absent: str) -> str:
    value = body.get("spec", {}).get(field)
    return absent if value is None else str(value)


CELLS: dict[str, Callable[[Object], Any]] = {
    "age": lambda body: _since(body["at"]),
    "none": lambda _: "<none>",
    "data_count": lambda body: len(body.get("data") or ()) + len(body.get("binaryData") or ()),
    "secret_count": lambda body: len(body.get("secrets") or ()),
    "pod_address": lambda body: body.get("status", {}).get("podIP") or "<none>",
    "pod_node": lambda body: body["spec"].get("nodeName") or "<none>",
    "nominated_node": lambda body: body.get("status", {}).get("nominatedNodeName") or "<none>",
    "pod_ready": _pod_ready,
    "pod_status": _pod_status,
    "pod_restarts": _pod_restarts,
    "service_ports": _service_ports,
    "service_selector": lambda body: selector_text({"matchLabels": body["spec"].get("selector")}) or "<none>",
    "deployment_ready": lambda body: f"{_status(body, 'readyReplicas')}/{body['spec'].get('replicas', 1)}",
    "updated_replicas": lambda body: _status(body, "updatedReplicas"),
    "available_replicas": lambda body: _status(body, "availableReplicas"),
    "current_replicas": lambda body: _status(body, "replicas"),
    "ready_replicas": lambda body: _status(body, "readyReplicas"),
    "containers": lambda body: _joined(c["name"] for c in _containers(body)),
    "images": lambda body: _joined(c.get("image", "") for c in _containers(body)),
    "selector": lambda body: selector_text(body["spec"].get("selector") or {}) or "<none>",
    "pod_selector": lambda body: selector_text(body["spec"].get("podSelector") or {}) or "<none>",
    "controller": _controller,
    "job_status": _job_status,
    "job_completions": _job_completions,
    "job_duration": _job_duration,
    "autoscaler_reference": lambda body: "{kind}/{name}".format_map(body["spec"]["scaleTargetRef"]),
    "autoscaler_targets": _autoscaler_targets,
    "autoscaler_replicas": lambda body: _status(body, "currentReplicas"),
    "budget_minimum": lambda body: _or_none(body, "minAvailable", "N/A"),
    "budget_maximum": lambda body: _or_none(body, "maxUnavailable", "N/A"),
    "budget_allowed": lambda body: _status(body, "disruptionsAllowed"),
    "slice_ports": _slice_ports,
    "slice_endpoints": lambda body: _joined(a for e in body.get("endpoints") or () for a in e.get("addresses") or ()),
    "role": lambda body: "{kind}/{name}".format_map(body["roleRef"]),
    "validation_count": lambda body: len(body["spec"].get("validations") or ()),
    "param_kind": _param_kind,
    "node_status": _node_status,
    "node_roles": _node_roles,
    "node_address": _node_address,
    "event_object": _event_object,
    "event_last_seen": _event_last_seen,
    "event_first_seen": lambda body: _since(body.get("firstTimestamp") or body.get("eventTime")),
    "event_source": lambda body: (body.get("source") or {}).get("component") or body.get("reportingComponent") or "",
    "event_count": lambda body: body.get("count") or (body.get("series") or {}).get("count") or 1,
    "access_modes": _access_modes,
}  # fmt: skip

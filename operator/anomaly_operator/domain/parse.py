"""Objects of the API, as plain dicts, become the types of `model`. Total: what cannot be read is said, never raised."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from anomaly_detector import report as contract
from anomaly_operator.domain import names
from anomaly_operator.domain.codec import from_json
from anomaly_operator.domain.model import (
    Child,
    Command,
    Deployment,
    Malformed,
    Pod,
    Revision,
    RoleOrder,
    Scalar,
    UsersService,
)
from anomaly_operator.domain.records import COLORS, Decision, Json
from anomaly_operator.domain.times import parse_time

REFUSED = 65
"""Exit code of a container whose artifact is not what was resolved, or may not be loaded."""
CONTAINER = "detector"
_CRASHES = "CrashLoopBackOff"


def pod(body: Json, *, report_received: float | None = None, acknowledged: RoleOrder | None = None) -> Pod | None:
    """Read a Pod; None unless its labels name a color of a model."""
    metadata, status = body.get("metadata") or {}, body.get("status") or {}
    color = (metadata.get("labels") or {}).get(names.COLOR_LABEL)
    if color not in COLORS:
        return None
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or ())
    seen = Pod(
        name=metadata.get("name", ""),
        uid=metadata.get("uid", ""),
        color=color,
        revision=(metadata.get("labels") or {}).get(names.REVISION_LABEL, ""),
        ip=status.get("podIP") or "",
        ready=ready,
        terminating=metadata.get("deletionTimestamp") is not None or status.get("phase") in ("Succeeded", "Failed"),
        started_at=_started_at(status),
        refusal=_refusal(status),
        trouble=_trouble(status),
        fetched_digest=_fetched_digest(status),
        report_received=report_received,
        acknowledged=acknowledged,
    )
    return _with_annotations(seen, metadata)


def written_at(body: Json) -> float | None:
    """Return when the detector last applied its annotations, by the API server's clock; None if it never did."""
    times = [
        parse_time(entry.get("time"))
        for entry in (body.get("metadata") or {}).get("managedFields") or ()
        if entry.get("manager") == contract.FIELD_MANAGER
    ]
    return max((at for at in times if at is not None), default=None)


def deployment(body: Json) -> Deployment:
    """Read a color's Deployment."""
    metadata, spec, status = body.get("metadata") or {}, body.get("spec") or {}, body.get("status") or {}
    return Deployment(
        revision=(metadata.get("annotations") or {}).get(names.REVISION_LABEL, ""),
        replicas=spec.get("replicas", 1),
        settled=status.get("observedGeneration", 0) >= metadata.get("generation", 0),
        pods=status.get("replicas", 0),
    )


def revision(body: Json) -> Revision | None:
    """Read a ControllerRevision; None if its data are not a revision's."""
    data = body.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("template"), dict) or not data.get("name"):
        return None
    return Revision(
        name=data["name"],
        sequence=body.get("revision", 0),
        version=data.get("version", ""),
        digest=data.get("digest", ""),
        run_id=data.get("runId", ""),
        source=data.get("source", ""),
        contamination=data.get("contamination"),
        template=data["template"],
        retrained=bool(data.get("retrained")),
        features=tuple(str(feature) for feature in data.get("features") or ()),
    )


def users_service(body: Json) -> UsersService:
    """Read the users' Service with its decision."""
    metadata = body.get("metadata") or {}
    text = (metadata.get("annotations") or {}).get(names.DECISION)
    try:
        decision = from_json(Decision, json.loads(text), names.DECISION) if text else None
    except ValueError:  # UnreadableError is one
        decision = None
    return UsersService(
        selector=(body.get("spec") or {}).get("selector") or {},
        decision=decision,
        resource_version=metadata.get("resourceVersion", ""),
    )


def child(body: Json) -> Child:
    """Read any object for repair."""
    metadata = body.get("metadata") or {}
    owner = next((o.get("uid") for o in metadata.get("ownerReferences") or () if o.get("controller")), None)
    return Child(
        kind=body.get("kind", ""),
        name=metadata.get("name", ""),
        owner_uid=owner,
        spec_hash=(metadata.get("annotations") or {}).get(names.SPEC_HASH, ""),
        fingerprint=fingerprint(body),
        owned=_owned(metadata),
    )


def fingerprint(body: Json) -> str:
    """Return a hash that changes when somebody changes the spec, or a field that the operator applied."""
    metadata = body.get("metadata") or {}
    text = json.dumps([metadata.get("uid"), metadata.get("generation"), _owned(metadata)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _owned(metadata: Json) -> tuple[str, ...]:
    """Return the sets of fields that the operator applied, as JSON text."""
    fields = (
        entry.get("fieldsV1")
        for entry in metadata.get("managedFields") or ()
        if entry.get("manager") == names.FIELD_MANAGER and entry.get("operation") == "Apply"
    )
    return tuple(
        held if isinstance(held, str) else json.dumps(held, sort_keys=True, separators=(",", ":")) for held in fields
    )


def command(annotations: Mapping[str, str] | None) -> tuple[Command | None, tuple[Malformed, ...]]:
    """Read the AnomalyModel's `command` annotation."""
    text = (annotations or {}).get(names.COMMAND)
    if not text:
        return None, ()
    try:
        return from_json(Command, json.loads(text), names.COMMAND), ()
    except ValueError as error:
        return None, (Malformed(key=names.COMMAND, problem=str(error)),)


def _with_annotations(seen: Pod, metadata: Json) -> Pod:
    annotations = metadata.get("annotations") or {}
    read: dict[str, Any] = {}
    malformed = []
    for key, name in ((contract.DRIFT_CONFIDENCE, "drift_confidence"), (contract.ERROR_RATE, "error_rate")):
        if key in annotations:
            value = _share(annotations[key])
            if value is None:
                problem = f"expected a number from 0 to 1, got {annotations[key][:80]!r}"
                malformed.append(Malformed(key=key, problem=problem))
            else:
                read[name] = Scalar(value=value, foreign=_foreign(metadata, key))
    if contract.REPORT in annotations:
        try:
            read["report"] = contract.Report.from_json(annotations[contract.REPORT])
            read["report_foreign"] = _foreign(metadata, contract.REPORT)
        except contract.MalformedReportError as error:
            malformed.append(Malformed(key=contract.REPORT, problem=str(error)))
    return dataclasses.replace(seen, malformed=tuple(malformed), **read)


def _share(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and 0.0 <= value <= 1.0 else None


def _foreign(metadata: Json, key: str) -> bool:
    """Return whether anyone but the detector holds the annotation; without managed fields, somebody must have."""
    holders = {
        entry.get("manager")
        for entry in metadata.get("managedFields") or ()
        if f"f:{key}" in ((((entry.get("fieldsV1") or {}).get("f:metadata") or {}).get("f:annotations")) or {})
    }
    return holders != {contract.FIELD_MANAGER}


def _states(status: Json) -> list[tuple[str, Json]]:
    """Return (container, state) of each container's present and previous state."""
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return [(s.get("name", ""), state) for s in statuses for state in (s.get("state") or {}, s.get("lastState") or {})]


def _started_at(status: Json) -> float | None:
    for container in status.get("containerStatuses") or ():
        if container.get("name") == CONTAINER:
            return parse_time(((container.get("state") or {}).get("running") or {}).get("startedAt"))
    return None


def _refusal(status: Json) -> str | None:
    for _, state in _states(status):
        ended = state.get("terminated") or {}
        if ended.get("exitCode") == REFUSED:
            return (ended.get("message") or "the model was refused without a reason").strip()
    return None


def _trouble(status: Json) -> str | None:
    """Return what keeps a pod from being ready: of one that crashes again and again its last words, not the pause."""
    waiting = [
        (container, state["waiting"])
        for container, state in _states(status)
        if (state.get("waiting") or {}).get("reason") not in (None, "PodInitializing", "ContainerCreating")
    ]
    for container, why in waiting:
        if why["reason"] != _CRASHES:
            return f"{container}: {why['reason']}: {why.get('message', '')}".rstrip(": ")
    for container, state in _states(status):
        ended = state.get("terminated") or {}
        if ended.get("exitCode"):
            return f"{container}: exit code {ended['exitCode']}: {ended.get('message', '')}".strip().rstrip(":")
    for container, why in waiting:
        return f"{container}: {_CRASHES}: {why.get('message', '')}".rstrip(": ")
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"{condition.get('reason', 'Unschedulable')}: {condition.get('message', '')}"
    return None


def _fetched_digest(status: Json) -> str | None:
    for container, state in _states(status):
        ended = state.get("terminated") or {}
        if container == "fetch" and ended.get("exitCode") == 0:
            try:
                digest = json.loads(ended.get("message") or "null")
            except ValueError:
                continue
            if isinstance(digest, dict) and isinstance(digest.get("digest"), str):
                return str(digest["digest"])
    return None

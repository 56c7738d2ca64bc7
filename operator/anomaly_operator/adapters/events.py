"""Kubernetes Events (events.k8s.io/v1) with names made from what happened, so that each is written once."""

import hashlib
from datetime import UTC, datetime
from typing import Any

from anomaly_operator.adapters.kube import ConflictError, Kube
from anomaly_operator.domain.actions import EmitEvent
from anomaly_operator.domain.names import API_VERSION, GROUP, KIND

CONTROLLER = f"{GROUP}/operator"
_LONGEST_NOTE = 1024


async def emit(kube: Kube, model: dict[str, Any], event: EmitEvent, *, instance: str, pod_uid: str | None) -> None:
    """Write an Event about a model (or its pod); one with this key that is there already is enough."""
    metadata = model["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    own = {"apiVersion": API_VERSION, "kind": KIND, "namespace": namespace, "name": name, "uid": metadata["uid"]}
    regarding = own
    if event.pod is not None:
        regarding = {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": event.pod}
        regarding |= {"uid": pod_uid} if pod_uid else {}
    digest = hashlib.sha256(f"{metadata['uid']}/{event.key}".encode()).hexdigest()[:16]
    body = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{name}.{digest}", "namespace": namespace},
        "eventTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "reportingController": CONTROLLER,
        "reportingInstance": instance[:128],
        "type": event.type,
        "reason": event.reason[:128],
        "action": event.action[:128],
        "note": event.message.encode()[:_LONGEST_NOTE].decode(errors="ignore"),
        "regarding": regarding,
    } | ({"related": own} if event.pod is not None else {})
    try:
        await kube.create("Event", namespace, body)
    except ConflictError:
        return

"""What of an object is worth its memory: a thousand models have twenty thousand objects around them.

A pod as the API server tells it takes some 60 kB here, most of it for what nobody asks: its spec, and who set which
field of it.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

from anomaly_detector import report as contract
from anomaly_operator.domain import names

Body = dict[str, Any]

_METADATA_ALONE = frozenset(
    {"ServiceAccount", "ConfigMap", "RoleBinding", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"}
)
"""Kinds of which it matters only whether they are still as they were applied."""
_METADATA = (
    "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "labels",
    "annotations", "ownerReferences",
)  # fmt: skip
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_LONGEST_SHARED = 80


def trimmed(kind: str, body: Body) -> Body:
    """Return the parts of an object that the operator reads; what was trimmed before stays as it is."""
    kept: Body = {name: body[name] for name in ("apiVersion", "kind") if name in body}
    kept["metadata"] = _metadata(kind, body["metadata"])
    if kind == "Pod":
        kept["status"] = body.get("status") or {}
    elif kind == "Deployment":
        replicas = (body.get("spec") or {}).get("replicas")
        kept["spec"] = {} if replicas is None else {"replicas": replicas}
        kept["status"] = body.get("status") or {}
    elif kind not in _METADATA_ALONE:
        kept = body | kept
    shared: Body = _shared(kept)
    return shared


def _metadata(kind: str, metadata: Mapping[str, Any]) -> Body:
    kept = {name: metadata[name] for name in _METADATA if metadata.get(name) is not None}
    if _LAST_APPLIED in (kept.get("annotations") or {}):
        kept["annotations"] = {name: text for name, text in kept["annotations"].items() if name != _LAST_APPLIED}
    entries = metadata.get("managedFields") or ()
    if kind == "Pod":
        kept["managedFields"] = [found for entry in entries if (found := _annotations_of(entry)) is not None]
    elif kind not in (names.KIND, "ControllerRevision"):
        kept["managedFields"] = [
            {**_entry(entry), "fieldsV1": _text(entry.get("fieldsV1"))}
            for entry in entries
            if entry.get("manager") == names.FIELD_MANAGER and entry.get("operation") == "Apply"
        ]
    return kept


def _text(fields: Any) -> str:
    """Return a set of fields as text, which takes a tenth of the room; `domain.parse` reads both."""
    return fields if isinstance(fields, str) else json.dumps(fields, sort_keys=True, separators=(",", ":"))


def _annotations_of(entry: Mapping[str, Any]) -> Body | None:
    """Return which of our annotations somebody holds, and when a detector wrote; None if neither is said."""
    held = (((entry.get("fieldsV1") or {}).get("f:metadata") or {}).get("f:annotations")) or {}
    ours: Body = {name: {} for name in held if name.startswith(f"f:{contract.PREFIX}")}
    if not ours and entry.get("manager") != contract.FIELD_MANAGER:
        return None
    return {**_entry(entry), "fieldsV1": {"f:metadata": {"f:annotations": ours}}}


def _entry(entry: Mapping[str, Any]) -> Body:
    return {name: entry[name] for name in ("manager", "operation", "time") if name in entry}


def _shared(value: Any) -> Any:
    """Return a copy in which equal short texts are one object: keys, names and times come again and again."""
    if isinstance(value, dict):
        return {sys.intern(name): _shared(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_shared(item) for item in value]
    return sys.intern(value) if type(value) is str and len(value) <= _LONGEST_SHARED else value

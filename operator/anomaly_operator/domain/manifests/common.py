"""What all children have in common: owner, labels, spec hash."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from anomaly_operator.domain import names
from anomaly_operator.domain.model import Observed
from anomaly_operator.domain.records import Json


def canonical_hash(value: Any) -> str:
    """Return 16 hex digits that are the same for equal JSON values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def child(
    observed: Observed,
    api_version: str,
    kind: str,
    name: str,
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    **content: Any,
) -> Json:
    """Return a manifest owned by the AnomalyModel, with the hash of what is desired in `spec-hash`."""
    manifest: Json = {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": observed.namespace,
            "labels": {**names.labels(observed.name), **(labels or {})},
            "annotations": dict(annotations or {}),
            "ownerReferences": [
                {
                    "apiVersion": names.API_VERSION,
                    "kind": names.KIND,
                    "name": observed.name,
                    "uid": observed.uid,
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        **content,
    }
    manifest["metadata"]["annotations"][names.SPEC_HASH] = canonical_hash(manifest)
    return manifest


def spec_hash(manifest: Mapping[str, Any]) -> str:
    """Return the hash that `child` put into a manifest."""
    return str(manifest["metadata"]["annotations"][names.SPEC_HASH])


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, frozenset | set):
        return sorted(value)
    return list(value)

"""OpenAPI schema of `status`, from the types in which the operator keeps it; no defaults, as only it writes them."""

import ast
import dataclasses
import inspect
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from anomaly_operator.domain import records
from anomaly_operator.domain.fields import bare, json_name

_WORDS = {
    "active": "The revision that serves users; in history: which did afterwards.",
    "activeVersion": "Version that served users afterwards.",
    "anomalyRate": "Share of anomalous rows.",
    "by": "Who asked.",
    "candidate": "The revision on its way.",
    "cause": "Why, in one word.",
    "color": "blue or green.",
    "conditions": "Ready, Reconciling, Stalled, Servable, ModelResolved, Drifted, Retrained.",
    "control": "Revision that is the yardstick.",
    "controlSince": "Since when the control has been watched.",
    "digest": "Digest of the artifact.",
    "drift": "A drift breach of the active revision, and what was found out about it.",
    "driftConfidence": "Share of drift votes.",
    "driftVerdict": "drift, ok or inconclusive.",
    "endedAt": "When it was decided, or ended.",
    "errorRate": "Share of failed requests.",
    "evidence": "What was measured: metric, value, limit, samples.",
    "expiresAt": "When it will be scaled down.",
    "feature": "Name of the feature.",
    "hastened": "Whether somebody promoted it before its analysis had passed.",
    "history": "Decisions, newest first.",
    "historyAnchor": "Hash of the last entry that was dropped.",
    "id": "Id of the command.",
    "job": "Name of the Job.",
    "lastCommand": "Answer to the newest command.",
    "lastReport": "What the active color's pods last said, pooled.",
    "lastTransitionTime": "When the status changed last.",
    "latencyP95Milliseconds": "95th percentile of the latency.",
    "limit": "What the value was compared with.",
    "message": "Why, with the numbers.",
    "observedGeneration": "metadata.generation that this is about.",
    "outcome": "What came of it.",
    "paused": "Why no rollout is started and nothing is promoted.",
    "phase": "Progressing, Healthy, Paused or Degraded.",
    "pods": "Pods that it was made of.",
    "previousVersion": "Version that served users before.",
    "quarantine": "Revisions that failed and are not deployed again.",
    "readyReplicas": "Ready pods.",
    "reason": "Why, in one word.",
    "replicas": "Pods of the active color.",
    "requests": "Requests that it was made of.",
    "retrained": "Whether a retraining made the version.",
    "retrainings": "Retrainings, newest first.",
    "retreat": "A rollback that is decided and waits for its target's first ready pod.",
    "revision": "Name of the revision: version, digest and pod template.",
    "runId": "Run that logged the version.",
    "selector": "Label selector of the active color's pods.",
    "since": "Since when.",
    "analysisStartedAt": "When the analysis began.",
    "source": "Where it came from.",
    "standby": "The revision that served before and is still warm.",
    "startedAt": "When it began.",
    "status": "True, False or Unknown.",
    "step": "Step of the rollout.",
    "test": "ks, wasserstein, anderson, jensenShannon or welch.",
    "tests": "The five tests of the feature.",
    "time": "When.",
    "trial": "How far the candidate has come.",
    "trigger": "Drift, Schedule or Command.",
    "type": "Type of the condition.",
    "value": "What was measured.",
    "verb": "What was asked for.",
    "verdict": "What was found out.",
    "version": "Version in the registry.",
    "who": "Who caused it, as far as it can be known.",
}
_SCALARS: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer", "format": "int64"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
}


def status_schema() -> dict[str, Any]:
    """Return the schema of `status`; fields of a newer operator are kept."""
    schema = {"description": "What is.", **_object(records.Status), "x-kubernetes-preserve-unknown-fields": True}
    conditions = schema["properties"]["conditions"]
    conditions |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    conditions["items"]["required"] = ["type", "status", "lastTransitionTime", "reason"]
    return schema


def _object(kind: Any) -> dict[str, Any]:
    hints, said = get_type_hints(kind, include_extras=True), _docstrings(kind)
    properties = {}
    for item in dataclasses.fields(kind):
        key = item.metadata.get("json") or json_name(item)
        words = said.get(item.name) or _WORDS.get(key)
        properties[key] = ({"description": words} if words else {}) | _schema(hints[item.name])
    return {"type": "object", "properties": properties}


def _schema(hint: Any) -> dict[str, Any]:
    kind = bare(hint)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return {"type": "string", "format": "date-time"}
    if origin is Literal:
        return {"type": "string", "enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0])}
    if dataclasses.is_dataclass(kind):
        return _object(kind)
    return dict(_SCALARS[kind])


def _docstrings(kind: type) -> dict[str, str]:
    """Return what stands below each attribute."""
    body = ast.parse(inspect.getsource(kind)).body[0]
    found: dict[str, str] = {}
    name = ""
    for statement in body.body if isinstance(body, ast.ClassDef) else ():
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name = statement.target.id
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and name:
            found[name] = " ".join(str(statement.value.value).split())
    return found

"""OpenAPI schema of `status`. It is written by the operator only, so it has descriptions and no defaults."""

from typing import Any


def _object(words: str, **properties: dict[str, Any]) -> dict[str, Any]:
    return {"description": words, "type": "object", "properties": properties}


def _list(words: str, items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"description": words, "type": "array", "items": items, **more}


def _text(words: str) -> dict[str, Any]:
    return {"description": words, "type": "string"}


def _integer(words: str) -> dict[str, Any]:
    return {"description": words, "type": "integer", "format": "int64"}


def _time(words: str) -> dict[str, Any]:
    return {"description": words, "type": "string", "format": "date-time"}


def _free(words: str) -> dict[str, Any]:
    return {"description": words, "type": "object", "x-kubernetes-preserve-unknown-fields": True}


def _track(words: str, **more: dict[str, Any]) -> dict[str, Any]:
    return _object(
        words,
        color=_text("blue or green."),
        revision=_text("Name of the revision: version, digest and pod template."),
        version=_text("Version in the registry."),
        digest=_text("Digest of the artifact."),
        runId=_text("Run that logged the version."),
        readyReplicas=_integer("Ready pods."),
        since=_time("Since when it has had this part."),
        **more,
    )


_CONDITION = {
    "type": "object",
    "required": ["type", "status", "lastTransitionTime", "reason", "message"],
    "properties": {
        "type": {"type": "string", "maxLength": 316},
        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
        "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
        "lastTransitionTime": {"type": "string", "format": "date-time"},
        "reason": {"type": "string", "minLength": 1, "maxLength": 1024},
        "message": {"type": "string", "maxLength": 32768},
    },
}

_EVIDENCE = _list("What was measured: metric, value, limit, samples.", _free("One measurement."))
_WHO = _object("Who asked.", source=_text("alias, command, spec or automatic."), claimed=_text("As claimed."))

STATUS_SCHEMA: dict[str, Any] = {
    **_object(
        "What is.",
        observedGeneration=_integer("metadata.generation that this status is about."),
        phase={
            "description": "Progressing, Healthy, Paused or Degraded.",
            "type": "string",
            "enum": ["Progressing", "Healthy", "Paused", "Degraded"],
        },
        step=_text("Step of the rollout."),
        message=_text("Why, with the numbers."),
        conditions=_list(
            "Ready, Reconciling, Stalled, Servable, ModelResolved, Drifted.",
            _CONDITION,
            **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
        active=_track("The revision that serves users."),
        candidate=_track("The revision on its way.", expiresAt=_time("When it will be scaled down.")),
        standby=_track("The revision that served before and is still warm.", expiresAt=_time("Until when.")),
        replicas=_integer("Pods of the active color."),
        selector=_text("Label selector of the active color's pods."),
        lastReport=_free("What the active color's pods last said, pooled."),
        quarantine=_list("Revisions that failed and are not deployed again.", _free("One revision.")),
        retrainings=_list("Retrainings, newest first.", _free("One retraining.")),
        paused=_object("Why the rollout waits.", reason=_text("Reason."), since=_time("Since when.")),
        lastCommand=_free("Answer to the newest command."),
        history=_list(
            "Decisions, newest first.",
            {
                **_object(
                    "One decision.",
                    revision=_text("Name of the revision."),
                    version=_text("Version in the registry."),
                    digest=_text("Digest of the artifact."),
                    outcome=_text("What was decided."),
                    reason=_text("Why."),
                    evidence=_EVIDENCE,
                    who=_WHO,
                    startedAt=_time("When the rollout began."),
                    endedAt=_time("When it was decided."),
                    hash=_text("SHA-256 over this entry and the hash of the one before."),
                ),
                "x-kubernetes-preserve-unknown-fields": True,
            },
        ),
        historyAnchor=_text("Hash of the last entry that was dropped."),
    ),
    "x-kubernetes-preserve-unknown-fields": True,
}

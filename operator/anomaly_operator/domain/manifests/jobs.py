"""The retraining Job, as docs/pod-contract.md says under "A training Job"."""

import copy
import json
from collections.abc import Iterator
from typing import Any

from anomaly_operator.domain import drift_event, names
from anomaly_operator.domain.manifests import training_data
from anomaly_operator.domain.manifests.common import child
from anomaly_operator.domain.manifests.pods import CREDENTIALS_DIR, TERMINATION_LOG, pod_security
from anomaly_operator.domain.model import Observed, PodSettings
from anomaly_operator.domain.records import DriftEpisode, Json, Retraining
from anomaly_operator.domain.spec import PODS, Spec
from anomaly_operator.domain.spec import Retraining as RetrainingSpec

PODS_DIR = "/etc/anomaly-pods"
COMPONENT = "retraining"
_KEEP_SECONDS = 86_400
_RETRIES = 2
_FINAL_EXIT_CODES = (2, 3)
"""Of anomaly-train: unusable data or options; registered, but worse. Another try at once would end in the same way."""


def reads_pods(spec: RetrainingSpec) -> bool:
    """Return whether the Job trains on the rows that the pods keep: by default, with a template only if it says so."""
    return spec.data == PODS or (spec.data is None and spec.job_template is None)


def retraining_job(
    observed: Observed,
    spec: Spec,
    settings: PodSettings,
    line: Retraining,
    drift: DriftEpisode | None,
    active_version: str,
) -> Json:
    """Return the Job: the user's template if there is one, else the detector image's `anomaly-train`.

    What asked for it is in the environment of every container: `ANOMALY_EVENT`, `ANOMALY_TRIGGER`,
    `ANOMALY_TARGET_ALIAS`, `ANOMALY_ACTIVE_VERSION`, `MLFLOW_TRACKING_URI`; the Secrets that the spec names are mounted
    into every container. If it reads the pods' rows, a Secret of the Job's name is mounted that opens their windows,
    and the Job is suspended until that is there.
    """
    event = json.dumps(drift_event.event(line, drift, spec.drift.window), separators=(",", ":"))
    template = spec.retraining.job_template
    content: Json = (
        copy.deepcopy(template["spec"]) if template else _default(spec, settings, line, event, active_version)
    )
    content.setdefault("activeDeadlineSeconds", int(spec.retraining.deadline))
    content.setdefault("ttlSecondsAfterFinished", _KEEP_SECONDS)
    content.setdefault("backoffLimit", _RETRIES)
    pod = content["template"]
    labels = (pod.setdefault("metadata", {}) or {}).get("labels") or {}
    pod["metadata"]["labels"] = {**labels, **names.labels(observed.name, COMPONENT)}
    _tell(pod["spec"]["containers"], _environment(observed, spec, settings, line, event, active_version))
    for name, folder, secret in _secrets(spec, line):
        _mount(pod["spec"], name, folder, secret)
    if reads_pods(spec.retraining):
        content["suspend"] = True
    return child(
        observed,
        "batch/v1",
        "Job",
        line.job,
        labels={"app.kubernetes.io/component": COMPONENT},
        annotations={names.TRIGGER: line.trigger, names.REASON: line.reason},
        spec=content,
    )


def _tell(containers: list[Json], environment: list[dict[str, str]]) -> None:
    """Give every container what it may have to know, and a place for its last words."""
    for container in containers:
        container["env"] = [*(container.get("env") or []), *environment]
        container.setdefault("terminationMessagePath", TERMINATION_LOG)
        container.setdefault("terminationMessagePolicy", "FallbackToLogsOnError")


def _secrets(spec: Spec, line: Retraining) -> Iterator[tuple[str, str, Json]]:
    """Yield volume name, folder and source of each Secret that every container sees."""
    if spec.model.credentials_secret_ref:
        yield "anomaly-credentials", CREDENTIALS_DIR, {"secretName": spec.model.credentials_secret_ref.name}
    if reads_pods(spec.retraining):
        yield "anomaly-pods", PODS_DIR, {"secretName": line.job}
    yield from training_data.secrets(spec)


def _mount(pod: Json, name: str, folder: str, secret: Json) -> None:
    pod["volumes"] = [*(pod.get("volumes") or []), {"name": name, "secret": secret}]
    mount = {"name": name, "mountPath": folder, "readOnly": True}
    for container in pod["containers"]:
        container["volumeMounts"] = [*(container.get("volumeMounts") or []), mount]


def _environment(
    observed: Observed, spec: Spec, settings: PodSettings, line: Retraining, event: str, active_version: str
) -> list[Json]:
    values = {
        "ANOMALY_NAMESPACE": observed.namespace,
        "ANOMALY_MODEL": observed.name,
        "ANOMALY_REGISTERED_MODEL": spec.model.name,
        "ANOMALY_TARGET_ALIAS": _alias(spec) or "",
        "ANOMALY_ACTIVE_VERSION": active_version,
        "ANOMALY_TRIGGER": line.trigger.lower(),
        "ANOMALY_EVENT": event,
        "ANOMALY_TERMINATION_LOG": TERMINATION_LOG,
        "MLFLOW_TRACKING_URI": spec.model.tracking_uri or settings.tracking_uri,
    }
    if spec.model.credentials_secret_ref:
        values["ANOMALY_CREDENTIALS_DIR"] = CREDENTIALS_DIR
    if reads_pods(spec.retraining):
        values["ANOMALY_PODS_FILE"] = f"{PODS_DIR}/pods.json"
    values |= training_data.environment(spec)
    pod_name = {"name": "ANOMALY_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    return [*({"name": name, "value": value} for name, value in values.items()), pod_name]


def _default(spec: Spec, settings: PodSettings, line: Retraining, event: str, active_version: str) -> Json:
    pod_context, container_context = pod_security()
    container: Json = {
        "name": "train",
        "image": spec.detector.image or settings.detector_image,
        "command": ["anomaly-train"],
        "args": _arguments(spec, line, event, active_version),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - the pod's own
        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
        "securityContext": container_context,
    }
    pod: Json = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": pod_context,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    if spec.detector.image_pull_secrets:
        pod["imagePullSecrets"] = list(spec.detector.image_pull_secrets)
    unusable = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": list(_FINAL_EXIT_CODES)}}
    return {"template": {"spec": pod}, "podFailurePolicy": {"rules": [unusable]}}


def _arguments(spec: Spec, line: Retraining, event: str, active_version: str) -> list[Any]:
    """Return the command's arguments: the new version must not be worse than the one that serves users.

    Not than the alias's holder: that may be one that was rejected.
    """
    alias, target = _alias(spec), spec.gates.anomaly_rate.target
    return [
        *("--data", spec.retraining.data or PODS),
        *training_data.arguments(spec),
        *("--model", spec.model.name),
        *("--like", active_version),
        *(("--alias", alias, "--compare-with", active_version) if alias else ()),
        *("--keep-reference", f"{spec.retraining.keep_reference:g}"),
        *(("--contamination", f"{target:g}") if target else ()),
        *("--window", str(spec.drift.window)),
        *("--false-alarms-per-day", f"{spec.drift.false_alarms_per_day:g}"),
        *(("--allow-pickle",) if spec.model.allow_pickle else ()),
        *("--trigger", line.trigger.lower()),
        *("--event", event),
        "--no-plots",
        "--json",
    ]


def _alias(spec: Spec) -> str | None:
    return spec.retraining.target_alias or spec.model.alias

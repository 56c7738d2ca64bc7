"""The pod template of a revision, as docs/pod-contract.md says, and what a color adds to it.

A revision's template is rendered once, stored in its ControllerRevision, and never rendered again. It passes the
restricted Pod Security standard.
"""

from typing import Any

from anomaly_operator.domain import names
from anomaly_operator.domain.model import PodSettings, Resolved, Revision
from anomaly_operator.domain.records import Color, Json
from anomaly_operator.domain.spec import Spec
from anomaly_operator.domain.spec_detector import DetectorSpec
from anomaly_operator.domain.spec_influxdb import SecretKeyRef

CONFIG_DIR = "/etc/anomaly"
CACHE_DIR = "/var/cache/anomaly"
CREDENTIALS_DIR = "/etc/anomaly-credentials"
INFLUXDB_DIR = "/etc/anomaly-influxdb"
SOURCE_INFLUXDB_DIR = "/etc/anomaly-source-influxdb"
SERVICEACCOUNT_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"
TERMINATION_LOG = "/dev/termination-log"
GRACE_SECONDS = 30
_USER = 65532


def template(model: str, namespace: str, spec: Spec, resolved: Resolved, digest: str, settings: PodSettings) -> Json:
    """Render the pod template of a revision, without what differs by color (`on_color` adds it)."""
    detector = spec.detector
    image = detector.image or settings.detector_image
    volumes, mounts = _volumes(model, spec)
    env = [*_environment(model, namespace, spec, resolved, digest), *detector.env]
    pod: Json = {
        "serviceAccountName": names.detector(model),
        "automountServiceAccountToken": True,
        "enableServiceLinks": True,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {**_pod_security(), **(detector.pod_security_context or {})},
        "initContainers": [_fetch(spec, image, env, mounts, settings)],
        "containers": [_serve(spec, image, env, mounts, settings)],
        "volumes": volumes,
        **_placement(detector),
    }
    return {
        "metadata": {
            "labels": {**detector.pod_labels, **names.labels(model), names.VERSION_LABEL: resolved.version},
            "annotations": dict(detector.pod_annotations),
        },
        "spec": pod,
    }


def on_color(model: str, revision: Revision, color: Color) -> Json:
    """Return the stored template with what differs by color: labels, and two environment variables."""
    stored, own = revision.template, names.selector(model, color)
    env = [{"name": "ANOMALY_COLOR", "value": color}, {"name": "ANOMALY_REVISION", "value": revision.name}]
    pod = dict(stored["spec"])
    for kind in ("initContainers", "containers"):
        pod[kind] = [{**container, "env": [*env, *container["env"]]} for container in pod[kind]]
    if "topologySpreadConstraints" in pod:
        spread = {"labelSelector": {"matchLabels": own}}
        pod["topologySpreadConstraints"] = [{**spread, **item} for item in pod["topologySpreadConstraints"]]
    labels = {**stored["metadata"]["labels"], **own, names.REVISION_LABEL: revision.name}
    return {"metadata": {**stored["metadata"], "labels": labels}, "spec": pod}


def pod_security() -> tuple[Json, Json]:
    """Return (pod, container) security contexts that pass the restricted standard."""
    return _pod_security(), _container_security()


def _pod_security() -> Json:
    return {
        "runAsNonRoot": True,
        "runAsUser": _USER,
        "runAsGroup": _USER,
        "fsGroup": _USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _container_security() -> Json:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _volumes(model: str, spec: Spec) -> tuple[list[Json], list[Json]]:
    """Return the volumes, and the mounts that both containers have."""
    claim = spec.detector.cache.persistent_volume_claim
    cache: Json = (
        {"persistentVolumeClaim": {"claimName": claim.claim_name}}
        if claim
        else {"emptyDir": {"sizeLimit": spec.detector.cache.size_limit}}
    )
    volumes: list[Json] = [
        {"name": "cache", **cache},
        {"name": "config", "configMap": {"name": names.detector(model)}},
        {"name": "tmp", "emptyDir": {}},
    ]
    mounts: list[Json] = [
        {"name": "cache", "mountPath": CACHE_DIR},
        {"name": "config", "mountPath": CONFIG_DIR, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own
    ]
    if spec.model.credentials_secret_ref:
        volumes.append({"name": "credentials", "secret": {"secretName": spec.model.credentials_secret_ref.name}})
    for name, (secret, _, _) in _tokens(spec).items():
        items = [{"key": secret.key, "path": "token"}]
        volumes.append({"name": name, "secret": {"secretName": secret.name, "items": items, "optional": True}})
    return volumes, mounts


def _tokens(spec: Spec) -> dict[str, tuple[SecretKeyRef, str, str]]:
    """Return the Secrets with tokens of InfluxDB by volume: each with its folder and the variable that names it."""
    source = spec.source.influxdb if spec.source else None
    given = {
        "influxdb": (spec.influxdb and spec.influxdb.token_secret_ref, INFLUXDB_DIR, "ANOMALY_INFLUXDB_DIR"),
        "source-influxdb": (
            source and source.token_secret_ref,
            SOURCE_INFLUXDB_DIR,
            "ANOMALY_SOURCE_INFLUXDB_DIR",
        ),
    }
    return {name: (secret, folder, variable) for name, (secret, folder, variable) in given.items() if secret}


def _environment(model: str, namespace: str, spec: Spec, resolved: Resolved, digest: str) -> list[Json]:
    plain = {
        "ANOMALY_MODEL": model,
        "ANOMALY_NAMESPACE": namespace,
        "ANOMALY_REGISTERED_MODEL": spec.model.name,
        "ANOMALY_VERSION": resolved.version,
        "ANOMALY_RUN_ID": resolved.run_id,
        "ANOMALY_SOURCE": resolved.source,
        "ANOMALY_DIGEST": digest,
        "ANOMALY_ALLOW_PICKLE": "true" if spec.model.allow_pickle else "false",
        "ANOMALY_CONFIG_DIR": CONFIG_DIR,
        "ANOMALY_CACHE_DIR": CACHE_DIR,
        "ANOMALY_SERVICEACCOUNT_DIR": SERVICEACCOUNT_DIR,
    }
    from_fields = {
        "ANOMALY_POD_NAME": "metadata.name",
        "ANOMALY_POD_UID": "metadata.uid",
        "ANOMALY_POD_IP": "status.podIP",
    }
    return [
        *({"name": name, "value": value} for name, value in plain.items()),
        *({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in from_fields.items()),
    ]


def _container(spec: Spec, image: str, mounts: list[Json]) -> Json:
    detector = spec.detector
    result: Json = {
        "image": image,
        "resources": detector.resources,
        "volumeMounts": mounts,
        "securityContext": {**_container_security(), **(detector.security_context or {})},
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if detector.image_pull_policy:
        result["imagePullPolicy"] = detector.image_pull_policy
    if detector.env_from:
        result["envFrom"] = list(detector.env_from)
    return result


def _fetch(spec: Spec, image: str, env: list[Any], mounts: list[Json], settings: PodSettings) -> Json:
    credentials: list[Json] = []
    own = [
        {"name": "MLFLOW_TRACKING_URI", "value": spec.model.tracking_uri or settings.tracking_uri},
        {"name": "ANOMALY_TERMINATION_LOG", "value": TERMINATION_LOG},
    ]
    if spec.model.credentials_secret_ref:
        credentials = [{"name": "credentials", "mountPath": CREDENTIALS_DIR, "readOnly": True}]
        own.append({"name": "ANOMALY_CREDENTIALS_DIR", "value": CREDENTIALS_DIR})
    return {
        "name": "fetch",
        "args": ["fetch"],
        **_container(spec, image, [*mounts, *credentials]),
        "env": [*env, *own],
    }


def _serve(spec: Spec, image: str, env: list[Any], mounts: list[Json], settings: PodSettings) -> Json:
    tokens = _tokens(spec)
    secrets = [{"name": name, "mountPath": folder, "readOnly": True} for name, (_, folder, _) in tokens.items()]
    env = [*env, *({"name": variable, "value": folder} for _, folder, variable in tokens.values())]
    ports = (
        ("http", names.USER_PORT),
        ("admin", names.ADMIN_PORT),
        ("shadow", names.SHADOW_PORT),
        ("metrics", names.METRICS_PORT),
    )
    health = {"httpGet": {"path": "/health", "port": names.ADMIN_PORT}}
    return {
        "name": "detector",
        "args": ["serve"],
        **_container(spec, image, [*mounts, *secrets]),
        "env": env,
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports],
        "startupProbe": {**health, "periodSeconds": 1, "failureThreshold": 120},
        "livenessProbe": {**health, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3},
        "readinessProbe": {
            "httpGet": {"path": "/ready", "port": names.ADMIN_PORT},
            "periodSeconds": settings.readiness_period_seconds,
            "timeoutSeconds": max(1, settings.readiness_period_seconds),
            "failureThreshold": 2,
        },
    }


def _placement(detector: DetectorSpec) -> Json:
    """Return what the user said about where pods run; nothing that was not said."""
    said: Json = {
        "nodeSelector": detector.node_selector,
        "tolerations": list(detector.tolerations),
        "affinity": detector.affinity,
        "topologySpreadConstraints": list(detector.topology_spread_constraints),
        "imagePullSecrets": list(detector.image_pull_secrets),
        "priorityClassName": detector.priority_class_name,
    }
    return {key: value for key, value in said.items() if value}

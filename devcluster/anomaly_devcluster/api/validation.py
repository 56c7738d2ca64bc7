"""What the API server refuses, kind by kind."""

from collections.abc import Callable, Iterator
from typing import Any

from anomaly_devcluster.api import custom
from anomaly_devcluster.api.call import Call
from anomaly_devcluster.api.errors import Cause
from anomaly_devcluster.api.jsonpath import first
from anomaly_devcluster.api.pods import check_pod_spec
from anomaly_devcluster.api.policies import POLICIES, check_policy
from anomaly_devcluster.api.resources import Resource
from anomaly_devcluster.api.schema import Schema
from anomaly_devcluster.api.selectors import matches_selector

Object = dict[str, Any]
Check = Callable[[Object, Object | None], list[Cause]]

IMMUTABLE = "field is immutable"
_NO_NAME = Cause.required("metadata.name", "name or generateName is required")


def validate(call: Call, body: Object, old: Object | None) -> list[Cause]:
    """Return everything that is wrong with an object, or with its change from `old`."""
    resource = call.resource
    if resource.custom:
        return custom.validate(resource, body, old)
    check = CHECKS.get(resource.qualified)
    return check(body, old) if check else []


def missing(resource: Resource, body: Object) -> list[Cause]:
    """Return what a built-in object lacks; everything after this may rely on it."""
    if resource.custom or resource.plural == "events":
        return []
    given = {name: value for name, value in body.items() if name not in ("metadata", "status")}
    causes = list(_missing(given, resource.schema, ""))
    return causes if body["metadata"].get("name") else [_NO_NAME, *causes]


def _missing(value: Any, schema: Schema, at: str) -> Iterator[Cause]:
    if isinstance(value, dict):
        for name in schema.required:
            # What may be false is false when it is absent, as in the types of Kubernetes.
            if name not in value and schema.properties[name].type != "boolean":
                yield Cause.required(f"{at}{name}")
        for name, item in value.items():
            if isinstance(item, (dict, list)):
                yield from _missing(item, schema.child(name), f"{at}{name}.")
    elif isinstance(value, list) and schema.items:
        for index, item in enumerate(value):
            yield from _missing(item, schema.items, f"{at.removesuffix('.')}[{index}].")


def _immutable(body: Object, old: Object | None, path: str) -> list[Cause]:
    value = first(body, f".{path}")
    return [] if old is None or value == first(old, f".{path}") else [Cause.invalid(path, value, IMMUTABLE)]


def _at_least(body: Object, least: int, *paths: str) -> list[Cause]:
    found = {path: first(body, f".{path}") for path in paths}
    detail = "must be greater than 0" if least == 1 else "must be greater than or equal to 0"
    return [Cause.invalid(path, n, detail) for path, n in found.items() if n is not None and n < least]


def _one_of(body: Object, path: str, *choices: str | None) -> list[Cause]:
    value = first(body, f".{path}")
    return [] if value in choices else [Cause.unsupported(path, value, [c for c in choices if c])]


def _pod(body: Object, old: Object | None) -> list[Cause]:
    if old is None:
        return check_pod_spec(body["spec"], "spec")
    if _frozen_part(body["spec"]) == _frozen_part(old["spec"]):
        return []
    detail = (
        "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
        "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
        "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
    )
    return [Cause.forbidden("spec", detail)]


def _frozen_part(spec: Object) -> Object:
    kept = {k: v for k, v in spec.items() if k not in ("activeDeadlineSeconds", "tolerations")}
    for kind in ("containers", "initContainers"):
        if kind in kept:
            kept[kind] = [{k: v for k, v in c.items() if k != "image"} for c in kept[kind]]
    return kept


def _workload(body: Object, old: Object | None) -> list[Cause]:
    spec = body["spec"]
    template = spec.get("template") or {}
    causes = _immutable(body, old, "spec.selector")
    selector = spec.get("selector") or {}
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        causes.append(Cause.invalid("spec.selector", selector, "empty selector is invalid for deployment"))
    labels = (template.get("metadata") or {}).get("labels") or {}
    if not matches_selector(selector, labels):
        causes.append(
            Cause.invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
        )
    causes += _at_least(body, 0, "spec.replicas") + _one_of(body, "spec.template.spec.restartPolicy", None, "Always")
    return causes + check_pod_spec(template.get("spec") or {}, "spec.template.spec")


def _job(body: Object, old: Object | None) -> list[Cause]:
    pod = first(body, ".spec.template.spec") or {}
    if old is not None:
        kept = ("spec.template", "spec.selector", "spec.completions")
        return [cause for path in kept for cause in _immutable(body, old, path)]
    counts = ("spec.backoffLimit", "spec.parallelism", "spec.completions", "spec.ttlSecondsAfterFinished")
    causes = check_pod_spec(pod, "spec.template.spec") + _at_least(body, 0, *counts)
    return causes + _one_of(body, "spec.template.spec.restartPolicy", "OnFailure", "Never")


def _service(body: Object, old: Object | None) -> list[Cause]:
    spec = body.get("spec") or {}
    causes = _one_of(body, "spec.type", "ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
    ports = spec.get("ports") or []
    if not ports and spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None":
        causes.append(Cause.required("spec.ports"))
    names: set[str] = set()
    for index, port in enumerate(ports):
        at = f"spec.ports[{index}]"
        if not 0 < port["port"] < 65536:  # noqa: PLR2004 - the range of ports
            causes.append(Cause.invalid(f"{at}.port", port["port"], "must be between 1 and 65535, inclusive"))
        name = port.get("name", "")
        if not name and len(ports) > 1:
            causes.append(Cause.required(f"{at}.name"))
        elif name and name in names:
            causes.append(Cause(f"{at}.name", "FieldValueDuplicate", f'Duplicate value: "{name}"'))
        names.add(name)
    if old and old["spec"].get("clusterIP") and spec.get("type") != "ExternalName":
        before = old["spec"]["clusterIP"]
        if spec.get("clusterIPs") != [before]:
            causes.append(Cause.invalid("spec.clusterIPs[0]", spec.get("clusterIPs"), "may not change once set"))
    return causes


def _autoscaler(body: Object, _: Object | None) -> list[Cause]:
    spec = body["spec"]
    causes = _at_least(body, 1, "spec.maxReplicas", "spec.minReplicas")
    if spec["maxReplicas"] < spec.get("minReplicas", 1):
        detail = "must be greater than or equal to `minReplicas`"
        causes.append(Cause.invalid("spec.maxReplicas", spec["maxReplicas"], detail))
    return causes


def _budget(body: Object, _: Object | None) -> list[Cause]:
    spec = body.get("spec") or {}
    if "minAvailable" in spec and "maxUnavailable" in spec:
        return [Cause.invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set")]
    return []


def _role_binding(body: Object, old: Object | None) -> list[Cause]:
    if old is not None and body["roleRef"] != old["roleRef"]:
        return [Cause.invalid("roleRef", body["roleRef"], "cannot change roleRef")]
    causes = []
    for index, subject in enumerate(body.get("subjects") or ()):
        at = f"subjects[{index}]"
        if subject["kind"] not in ("ServiceAccount", "User", "Group"):
            causes.append(Cause.unsupported(f"{at}.kind", subject["kind"], ["ServiceAccount", "User", "Group"]))
        if subject["kind"] == "ServiceAccount" and not subject.get("namespace"):
            causes.append(Cause.required(f"{at}.namespace"))
    return causes


def _role(body: Object, _: Object | None) -> list[Cause]:
    causes = []
    for index, rule in enumerate(body.get("rules") or ()):
        if not rule.get("verbs"):
            causes.append(Cause.required(f"rules[{index}].verbs", "verbs must contain at least one value"))
        if not rule.get("resources") and not rule.get("nonResourceURLs"):
            causes.append(
                Cause.required(f"rules[{index}].resources", "resource rules must supply at least one resource")
            )
    return causes


def _keyed_data(body: Object, old: Object | None) -> list[Cause]:
    if old is not None and old.get("immutable"):
        same = all(body.get(k) == old.get(k) for k in ("data", "binaryData", "immutable"))
        if not same:
            return [Cause.forbidden("data", "field is immutable when `immutable` is set")]
    if old is not None and old.get("type") != body.get("type"):
        return [Cause.invalid("type", body.get("type"), IMMUTABLE)]
    size = sum(len(k) + len(v) for k, v in [*(body.get("data") or {}).items(), *(body.get("binaryData") or {}).items()])
    if size > 1024 * 1024:
        return [Cause("data", "FieldValueTooLong", "Too long: may not be more than 1048576 bytes")]
    return []


def _revision(body: Object, old: Object | None) -> list[Cause]:
    return _immutable(body, old, "data")


def _claim(body: Object, old: Object | None) -> list[Cause]:
    if old is not None:
        return []
    storage = first(body, ".spec.resources.requests.storage")
    wanted = {"spec.accessModes": body["spec"].get("accessModes"), "spec.resources[storage]": storage}
    return [Cause.required(field) for field, value in wanted.items() if not value]


CHECKS: dict[str, Check] = {
    "pods": _pod,
    "services": _service,
    "configmaps": _keyed_data,
    "secrets": _keyed_data,
    "persistentvolumeclaims": _claim,
    "deployments.apps": _workload,
    "replicasets.apps": _workload,
    "controllerrevisions.apps": _revision,
    "jobs.batch": _job,
    "horizontalpodautoscalers.autoscaling": _autoscaler,
    "poddisruptionbudgets.policy": _budget,
    "roles.rbac.authorization.k8s.io": _role,
    "clusterroles.rbac.authorization.k8s.io": _role,
    "rolebindings.rbac.authorization.k8s.io": _role_binding,
    "clusterrolebindings.rbac.authorization.k8s.io": _role_binding,
    "customresourcedefinitions.apiextensions.k8s.io": custom.check_definition,
    POLICIES: check_policy,
}

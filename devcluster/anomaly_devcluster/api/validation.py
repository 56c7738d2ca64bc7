"""What the API server refuses, kind by kind.

Most of it is data: the `constraints`, `rules` and `immutable` of kinds.yaml. Here is what takes more than these.
"""

from collections.abc import Callable
from typing import Any

from anomaly_devcluster.api import custom
from anomaly_devcluster.api.builtin import kinds
from anomaly_devcluster.api.call import Call
from anomaly_devcluster.api.errors import Cause, not_emulated, shown
from anomaly_devcluster.api.expressions import broken_rules
from anomaly_devcluster.api.jsonpath import find, first
from anomaly_devcluster.api.policies import POLICIES, check_policy
from anomaly_devcluster.api.resources import Resource
from anomaly_devcluster.api.schema import check
from anomaly_devcluster.api.selectors import matches_selector

Object = dict[str, Any]
Check = Callable[[Object, Object | None], list[Cause]]

_NO_NAME = Cause.required("metadata.name", "name or generateName is required")


def validate(call: Call, body: Object, old: Object | None) -> list[Cause]:
    """Return what is wrong with an object, or with its change from `old`, beyond its schema."""
    resource = call.resource
    if call.subresource == "status" and not resource.custom:
        return []
    causes = broken_rules(body, resource.schema, old)
    for path in kinds()["immutable"].get(resource.qualified, ()) if old is not None else ():
        if (value := first(body, f".{path}")) != first(old, f".{path}"):
            causes.append(Cause.invalid(path, value, "field is immutable"))
    checked = CHECKS.get(resource.qualified)
    return causes + (checked(body, old) if checked else [])


def check_schema(resource: Resource, body: Object) -> list[Cause]:
    """Return where an object is not as its schema says; everything after this may rely on it."""
    left_out = ("metadata",) if resource.custom else ("metadata", "status")
    content = {name: value for name, value in body.items() if name not in left_out}
    causes = check(content, resource.schema) if resource.plural != "events" else []
    return causes if body["metadata"].get("name") else [_NO_NAME, *causes]


def check_emulated(resource: Resource, body: Object) -> None:
    """Refuse what devcluster would not act upon; raises StatusError(501) naming it."""
    for path, values in kinds()["emulated"].get(resource.qualified, {}).items():
        if other := [value for value in find(body, path) if value not in values]:
            raise not_emulated(f"{path.lstrip('.')} {shown(other[0])} of {resource.plural}")


def _pod(body: Object, old: Object | None) -> list[Cause]:
    if old is None:
        return _pod_spec(body["spec"], "spec")
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


def _pod_spec(spec: Object, path: str) -> list[Cause]:
    causes = [] if spec.get("containers") else [Cause.required(f"{path}.containers")]
    names: set[str] = set()
    volumes = {volume["name"] for volume in spec.get("volumes") or ()}
    for kind in ("initContainers", "containers"):
        causes += _unique_names(spec.get(kind) or [], f"{path}.{kind}", names)
        for index, container in enumerate(spec.get(kind) or ()):
            for place, mount in enumerate(container.get("volumeMounts") or ()):
                if mount["name"] not in volumes:
                    at = f"{path}.{kind}[{index}].volumeMounts[{place}].name"
                    causes.append(Cause(at, "FieldValueNotFound", f"Not found: {shown(mount['name'])}"))
    return causes


def _unique_names(items: list[Object], at: str, seen: set[str]) -> list[Cause]:
    causes = []
    for index, item in enumerate(items):
        if (name := item.get("name", "")) in seen:
            causes.append(Cause(f"{at}[{index}].name", "FieldValueDuplicate", f"Duplicate value: {shown(name)}"))
        seen.add(name)
    return causes


def _template(body: Object, *policies: str) -> list[Cause]:
    template = body["spec"].get("template") or {}
    pod, at = template.get("spec") or {}, "spec.template.spec"
    causes = (
        []
        if pod.get("restartPolicy") in (None, *policies)
        else [Cause.unsupported(f"{at}.restartPolicy", pod["restartPolicy"], [*policies])]
    )
    return causes + _pod_spec(pod, at)


def _workload(body: Object, _: Object | None) -> list[Cause]:
    causes, selector = [], body["spec"].get("selector") or {}
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        causes.append(Cause.invalid("spec.selector", selector, "empty selector is invalid for deployment"))
    labels = first(body, ".spec.template.metadata.labels") or {}
    if not matches_selector(selector, labels):
        detail = "`selector` does not match template `labels`"
        causes.append(Cause.invalid("spec.template.metadata.labels", labels, detail))
    return causes + _template(body, "Always")


def _job(body: Object, old: Object | None) -> list[Cause]:
    return _template(body, "OnFailure", "Never") if old is None else []


def _service(body: Object, _: Object | None) -> list[Cause]:
    ports = body["spec"].get("ports") or []
    unnamed = [index for index, port in enumerate(ports) if not port.get("name") and len(ports) > 1]
    causes = [Cause.required(f"spec.ports[{index}].name") for index in unnamed]
    return causes + _unique_names([port for port in ports if port.get("name")], "spec.ports", set())


def _keyed_data(body: Object, old: Object | None) -> list[Cause]:
    held = ("data", "binaryData", "immutable")
    if old is not None and old.get("immutable") and any(body.get(k) != old.get(k) for k in held):
        return [Cause.forbidden("data", "field is immutable when `immutable` is set")]
    values = [*(body.get("data") or {}).items(), *(body.get("binaryData") or {}).items()]
    if sum(len(k) + len(v) for k, v in values) > 1024 * 1024:
        return [Cause("data", "FieldValueTooLong", "Too long: may not be more than 1048576 bytes")]
    return []


CHECKS: dict[str, Check] = {
    "pods": _pod,
    "services": _service,
    "configmaps": _keyed_data,
    "secrets": _keyed_data,
    "deployments.apps": _workload,
    "replicasets.apps": _workload,
    "jobs.batch": _job,
    custom.DEFINITIONS: custom.check_definition,
    POLICIES: check_policy,
}

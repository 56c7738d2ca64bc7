"""What the API server fills into pods and pod templates, and what it refuses in them."""

from typing import Any

from anomaly_devcluster.api.errors import Cause
from anomaly_devcluster.api.quantities import parse_quantity

Object = dict[str, Any]


def complete_pod_spec(spec: Object) -> None:
    """Fill in the pull policy by tag and the old name of serviceAccountName."""
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            if "imagePullPolicy" not in container:
                image = container.get("image", "")
                tag = image.rpartition("/")[2].partition(":")[2]
                latest = "@" not in image and tag in ("", "latest")
                container["imagePullPolicy"] = "Always" if latest else "IfNotPresent"
    if account := spec.get("serviceAccountName") or spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"] = account


def quality_of_service(spec: Object) -> str:
    """Return the pod's QoS class."""
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    resources = [container.get("resources") or {} for container in containers]
    if not any(r.get("requests") or r.get("limits") for r in resources):
        return "BestEffort"
    for r in resources:
        limits, requests = r.get("limits") or {}, r.get("requests") or {}
        for name in ("cpu", "memory"):
            if name not in limits or parse_quantity(requests.get(name, limits[name])) != parse_quantity(limits[name]):
                return "Burstable"
    return "Guaranteed"


def check_pod_spec(spec: Object, path: str, *, template: bool = False) -> list[Cause]:
    """Return what Kubernetes would refuse in a pod spec, as far as devcluster checks it."""
    causes: list[Cause] = []
    containers = spec.get("containers") or []
    if not containers:
        causes.append(Cause.required(f"{path}.containers"))
    seen: set[str] = set()
    volumes = {volume.get("name") for volume in spec.get("volumes") or ()}
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(kind) or ()):
            at = f"{path}.{kind}[{index}]"
            causes += _check_container(container, at, volumes, required_image=not template)
            name = container.get("name", "")
            if name in seen:
                causes.append(Cause(f"{at}.name", "FieldValueDuplicate", f'Duplicate value: "{name}"'))
            seen.add(name)
    if spec.get("restartPolicy") not in ("Always", "OnFailure", "Never"):
        choices = ["Always", "OnFailure", "Never"]
        causes.append(Cause.unsupported(f"{path}.restartPolicy", spec.get("restartPolicy"), choices))
    return causes


def _check_container(container: Object, at: str, volumes: set[Any], *, required_image: bool) -> list[Cause]:
    causes: list[Cause] = []
    if not container.get("name"):
        causes.append(Cause.required(f"{at}.name"))
    if not container.get("image") and required_image:
        causes.append(Cause.required(f"{at}.image"))
    resources = container.get("resources") or {}
    limits = resources.get("limits") or {}
    for name, request in (resources.get("requests") or {}).items():
        if name in limits and parse_quantity(request) > parse_quantity(limits[name]):
            detail = f"must be less than or equal to {name} limit of {limits[name]}"
            causes.append(Cause.invalid(f"{at}.resources.requests", request, detail))
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        if mount.get("name") not in volumes:
            name = mount.get("name", "")
            causes.append(Cause(f"{at}.volumeMounts[{index}].name", "FieldValueNotFound", f'Not found: "{name}"'))
    for index, port in enumerate(container.get("ports") or ()):
        if not 0 < port.get("containerPort", 0) < 65536:  # noqa: PLR2004 - the range of ports
            where = f"{at}.ports[{index}].containerPort"
            causes.append(Cause.invalid(where, port.get("containerPort"), "must be between 1 and 65535, inclusive"))
    return causes

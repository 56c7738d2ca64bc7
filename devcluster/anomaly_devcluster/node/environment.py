"""What a container's process finds in its environment, and how `$(NAME)` is filled in. Pure functions."""

import base64
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from anomaly_devcluster.api.quantities import parse_quantity
from anomaly_devcluster.client import Object

_REFERENCE = re.compile(r"\$(\$|\(([^)]*)\))")
_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


class ConfigurationError(Exception):
    """Say what a container refers to that is not there; becomes CreateContainerConfigError."""


Lookup = Callable[[str, str], Object | None]
"""Find a ConfigMap or Secret: kind and name."""


def expand(text: str, values: Mapping[str, str]) -> str:
    """Fill in `$(NAME)`; `$$` is a dollar sign, and a name that has no value is left as it stands, as in Kubernetes."""
    return _REFERENCE.sub(lambda m: "$" if m[1] == "$" else values.get(m[2], m[0]), text)


def service_variables(services: Sequence[tuple[Object, str]]) -> dict[str, str]:
    """Return the variables that point to Services, each given with the address it is reached at."""
    variables: dict[str, str] = {}
    for service, host in services:
        prefix = service["metadata"]["name"].upper().replace("-", "_")
        ports = service["spec"].get("ports") or []
        if not ports:
            continue
        variables[f"{prefix}_SERVICE_HOST"] = host
        variables[f"{prefix}_SERVICE_PORT"] = str(ports[0]["port"])
        first = f"{ports[0].get('protocol', 'TCP').lower()}://{host}:{ports[0]['port']}"
        variables[f"{prefix}_PORT"] = first
        for port in ports:
            protocol, number = port.get("protocol", "TCP"), port["port"]
            if port.get("name"):
                variables[f"{prefix}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(number)
            stem = f"{prefix}_PORT_{number}_{protocol}"
            variables[stem] = f"{protocol.lower()}://{host}:{number}"
            variables |= {f"{stem}_PROTO": protocol.lower(), f"{stem}_PORT": str(number), f"{stem}_ADDR": host}
    return variables


def field(pod: Object, path: str) -> str:
    """Return the value of a downward API field reference; raises ConfigurationError for a path that is none."""
    if match := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return str((pod["metadata"].get(match[1]) or {}).get(match[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        values = pod["metadata"].get(path.removeprefix("metadata.")) or {}
        return "\n".join(f'{key}="{_escaped(value)}"' for key, value in sorted(values.items()))
    if path in ("status.podIPs", "status.hostIPs"):
        path = path.removesuffix("s")
    if path not in (
        "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
        "status.podIP", "status.hostIP",
    ):  # fmt: skip
        raise ConfigurationError(f"fieldRef: {path} is not supported")
    section, name = path.split(".")
    return str(pod[section].get(name, "default" if name == "serviceAccountName" else ""))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def resource_field(containers: Sequence[Object], own: Object, reference: Object, capacity: Mapping[str, float]) -> str:
    """Return the value of a resourceFieldRef; an absent limit is the node's capacity, as in Kubernetes."""
    name = reference.get("containerName")
    container = next((c for c in containers if c["name"] == name), own)
    section, kind = reference["resource"].split(".", 1)
    resources = container.get("resources") or {}
    fallback = resources.get("limits") if section == "requests" else None
    value = (resources.get(section) or fallback or {}).get(kind)
    if value is None:
        amount = capacity.get(kind, 0.0) if section == "limits" else 0.0
    else:
        amount = float(parse_quantity(value))
    divisor = float(parse_quantity(reference.get("divisor") or "1")) or 1.0
    return str(math.ceil(amount / divisor))


def build(
    pod: Object,
    container: Object,
    base: Mapping[str, str],
    lookup: Lookup,
    capacity: Mapping[str, float],
) -> dict[str, str]:
    """Return the variables that a container's spec asks for; they may refer to those of `base`.

    Raises ConfigurationError when a ConfigMap, Secret or key that is not optional is missing.
    """
    values: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        prefix = source.get("prefix", "")
        for kind, reference in (("ConfigMap", source.get("configMapRef")), ("Secret", source.get("secretRef"))):
            if reference is not None:
                body = _find(kind, reference, lookup)
                values |= {f"{prefix}{k}": v for k, v in (body or {}).items() if _NAME.fullmatch(f"{prefix}{k}")}
    for variable in container.get("env") or []:
        value = _value(pod, container, variable, lookup, capacity)
        if value is not None:
            values[variable["name"]] = value if "valueFrom" in variable else expand(value, {**base, **values})
    return values


def _value(
    pod: Object, container: Object, variable: Object, lookup: Lookup, capacity: Mapping[str, float]
) -> str | None:
    source: Any = variable.get("valueFrom")
    if source is None:
        return str(variable.get("value", ""))
    if "fieldRef" in source:
        return field(pod, source["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in source:
        containers = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
        return resource_field(containers, container, source["resourceFieldRef"], capacity)
    for kind, name in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
        if name in source:
            reference = source[name]
            body = _find(kind, reference, lookup)
            if body is not None and reference["key"] in body:
                return body[reference["key"]]
            if reference.get("optional"):
                return None
            raise ConfigurationError(f"couldn't find key {reference['key']} in {kind} {reference['name']}")
    raise ConfigurationError(f"env {variable['name']}: valueFrom {', '.join(source)} is not supported")


def _find(kind: str, reference: Object, lookup: Lookup) -> dict[str, str] | None:
    body = lookup(kind, reference.get("name", ""))
    if body is None:
        if reference.get("optional"):
            return None
        raise ConfigurationError(f'{kind.lower()} "{reference.get("name")}" not found')
    return {key: value.decode(errors="replace") for key, value in contents(body).items()}


def contents(body: Object) -> dict[str, bytes]:
    """Return the files of a ConfigMap or Secret."""
    decoded = {key: base64.b64decode(value) for key, value in (body.get("binaryData") or {}).items()}
    if body["kind"] == "Secret":
        return {key: base64.b64decode(value) for key, value in (body.get("data") or {}).items()}
    return decoded | {key: value.encode() for key, value in (body.get("data") or {}).items()}

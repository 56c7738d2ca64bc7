"""Which resource, object and verb a request's path and method mean."""

from dataclasses import dataclass
from typing import Any

from anomaly_devcluster.api.errors import StatusError

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


@dataclass(frozen=True, slots=True)
class Route:
    """A path below `/api/v1` or `/apis/{group}/{version}`."""

    group: str
    version: str
    plural: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def parse(path: str) -> Route | None:
    """Read a resource's path; None when it is none."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) >= 3:  # noqa: PLR2004 - api, version, resource
        group, (version, *rest) = "", parts[1:]
    elif parts[0] == "apis" and len(parts) >= 4:  # noqa: PLR2004 - apis, group, version, resource
        group, version, *rest = parts[1:]
    else:
        return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):  # noqa: PLR2004
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource = (*rest, "", "")[:3]
    if plural == "namespaces":
        namespace = name
    return Route(group, version, plural, namespace, name, subresource)


def verb_of(route: Route, method: str, query: Any) -> str:
    """Return the API verb; raises StatusError(405)."""
    if method in ("GET", "HEAD"):
        if query.get("watch", "").lower() in ("1", "true"):
            return "watch" if not route.subresource else "get"
        return "get" if route.name else "list"
    if method == "DELETE":
        return "delete" if route.name else "deletecollection"
    verb = _VERBS.get(method)
    if (
        verb is None
        or (verb != "create" and not route.name)
        or (verb == "create" and route.name and not route.subresource)
    ):
        raise StatusError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    return verb

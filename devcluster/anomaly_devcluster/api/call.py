"""A request: where it goes, what it asks for, and the answer to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import yaml

from anomaly_devcluster.api.errors import bad_request, not_allowed
from anomaly_devcluster.api.resources import Resource

Object = dict[str, Any]
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


@dataclass(frozen=True, slots=True)
class User:
    """Who asks."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def as_object(self) -> Object:
        """Return the userInfo object."""
        info: Object = {"username": self.name}
        if self.uid:
            info["uid"] = self.uid
        info["groups"] = list(self.groups)
        if self.extra:
            info["extra"] = {key: list(values) for key, values in self.extra.items()}
        return info


@dataclass(frozen=True, slots=True)
class Route:
    """A path below `/api/v1` or `/apis/{group}/{version}`."""

    group: str
    version: str
    plural: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def resource(self) -> str:
        """As rules name it: `pods`, `pods/log`."""
        return f"{self.plural}/{self.subresource}" if self.subresource else self.plural


def route_of(path: str) -> Route | None:
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
    verb, below = _VERBS.get(method, ""), bool(route.subresource)
    if not verb or (bool(route.name) != below if verb == "create" else not route.name):
        raise not_allowed()
    return verb


@dataclass(slots=True, kw_only=True)
class Call:
    """One request for a resource."""

    user: User
    verb: str
    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    accept: str = ""
    body: bytes = b""
    user_agent: str = ""
    warnings: list[str] = field(default_factory=list)

    @property
    def dry_run(self) -> bool:
        """Whether nothing may be stored."""
        return self.query.get("dryRun") == "All"

    @property
    def manager(self) -> str:
        """Under which name the written fields are managed."""
        return self.query.get("fieldManager") or self.user_agent.partition("/")[0] or "unknown"

    @property
    def key(self) -> tuple[str, str]:
        """The object's key in the store."""
        return (self.namespace if self.resource.namespaced else "", self.name)

    def flag(self, name: str) -> bool:
        """Read a boolean parameter."""
        return self.query.get(name, "").lower() in ("1", "true", "t")

    def integer(self, name: str) -> int | None:
        """Read an integer parameter; raises StatusError(400)."""
        text = self.query.get(name)
        try:
            return int(text) if text else None
        except ValueError:
            raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax in parameter {name}') from None

    def read(self) -> Any:
        """Parse the body; raises StatusError(400)."""
        return parse(self.body, self.content_type)


def parse(body: bytes, content_type: str) -> Any:
    """Parse JSON or YAML; raises StatusError(400)."""
    try:
        if "yaml" in content_type and not body.lstrip().startswith((b"{", b"[")):
            return yaml.safe_load(body)
        return orjson.loads(body)
    except (ValueError, yaml.YAMLError) as error:
        raise bad_request(f"the object provided is unrecognized (not valid {content_type}): {error}") from None


@dataclass(slots=True)
class Answer:
    """What goes back."""

    code: int
    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, body: Any, code: int = 200) -> "Answer":
        """Answer with an object."""
        return cls(code, orjson.dumps(body))

"""A request that has been routed, and the answer to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import yaml

from anomaly_devcluster.api.errors import bad_request
from anomaly_devcluster.api.resources import Resource

Object = dict[str, Any]


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

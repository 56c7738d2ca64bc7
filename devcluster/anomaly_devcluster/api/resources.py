"""What is served: every resource with its schema, subresources and columns, and where the requests for it go."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from anomaly_devcluster.api.builtin import kinds, schema_of
from anomaly_devcluster.api.errors import qualified
from anomaly_devcluster.api.schema import Schema

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


class Column(NamedTuple):
    """One of a resource's table."""

    name: str
    cell: str
    priority: int = 0
    type: str = "string"


@dataclass(frozen=True, slots=True)
class Subresource:
    """A path below an object."""

    group: str
    version: str
    kind: str
    verbs: list[str]

    @classmethod
    def of(cls, name: str, group: str, version: str, kind: str) -> "Subresource":
        """Return one of a kind; most are of the same kind."""
        return cls(**{"group": group, "version": version, "kind": kind, **kinds()["subresources"][name]})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resource:
    """One kind in one version."""

    group: str
    version: str
    plural: str
    kind: str
    list_kind: str
    singular: str
    namespaced: bool
    schema: Schema
    type_name: str = ""
    """Of a built-in kind; empty for a custom one."""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    traits: tuple[str, ...] = ()
    """What is particular to a built-in kind, see kinds.yaml."""
    subresources: dict[str, Subresource] = field(default_factory=dict)
    selectable: tuple[str, ...] = ()
    scale: dict[str, str] = field(default_factory=dict)
    """Paths of a custom resource's scale: specReplicasPath, statusReplicasPath, labelSelectorPath."""

    @property
    def group_version(self) -> str:
        """`apps/v1`, or `v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """`deployments.apps`, or `pods`."""
        return qualified(self.group, self.plural)

    @property
    def stored_as(self) -> str:
        """The store's name for it; both groups' Events are the same objects."""
        return "events" if self.plural == "events" and self.group == "events.k8s.io" else self.qualified

    @property
    def custom(self) -> bool:
        """Whether a CustomResourceDefinition made it."""
        return not self.type_name

    @property
    def has_status(self) -> bool:
        """Whether status is written through its own path only."""
        return "status" in self.subresources


def _builtin(row: dict[str, Any]) -> Resource:
    group, version, kind = row.get("group", ""), row["version"], row["kind"]
    return Resource(
        group=group,
        version=version,
        plural=row["plural"],
        kind=kind,
        list_kind=f"{kind}List",
        singular=kind.lower(),
        namespaced=row.get("namespaced", True),
        schema=schema_of(row.get("type", kind)),
        type_name=row.get("type", kind),
        short_names=tuple(row.get("shortNames", ())),
        categories=tuple(row.get("categories", ())),
        columns=tuple(Column(*column) for column in row["columns"]),
        subresources={name: Subresource.of(name, group, version, kind) for name in row.get("subresources", ())},
        selectable=tuple(row.get("selectable", ())),
        traits=tuple(row.get("traits", ())),
    )


class Catalog:
    """All served resources."""

    def __init__(self) -> None:
        self._by_path: dict[tuple[str, str, str], Resource] = {}
        self._custom: dict[str, list[Resource]] = {}
        self.revision = 0
        """Grows with every change, so that what is derived can be kept until then."""
        for resource in map(_builtin, kinds()["kinds"]):
            self._by_path[resource.group, resource.version, resource.plural] = resource

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """Return the resource served under a path."""
        return self._by_path.get((group, version, plural))

    def __iter__(self) -> Iterator[Resource]:
        return iter(list(self._by_path.values()))

    def groups(self) -> dict[str, list[str]]:
        """Return the versions of every group, in the order in which they are preferred."""
        found: dict[str, list[str]] = {}
        served = [(r.group, r.version) for r in self] + [(review["group"], "v1") for review in kinds()["reviews"]]
        for group, version in served:
            if version not in found.setdefault(group, []):
                found[group].append(version)
        return found

    def define(self, name: str, resources: list[Resource]) -> None:
        """Serve the versions of a custom resource in place of those that its definition had before."""
        for old in self._custom.pop(name, []):
            del self._by_path[old.group, old.version, old.plural]
        for resource in resources:
            self._by_path[resource.group, resource.version, resource.plural] = resource
        if resources:
            self._custom[name] = resources
        self.revision += 1

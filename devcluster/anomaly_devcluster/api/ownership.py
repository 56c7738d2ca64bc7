"""`metadata.managedFields`: kept on every write, and server-side apply, which is decided by it."""

from dataclasses import dataclass, field
from typing import Any

from anomaly_devcluster import clock
from anomaly_devcluster.api import fields
from anomaly_devcluster.api.call import Call
from anomaly_devcluster.api.errors import StatusError, bad_request
from anomaly_devcluster.api.fields import Path
from anomaly_devcluster.api.schema import Schema

Object = dict[str, Any]
_Key = tuple[str, str, str, str]


@dataclass(slots=True)
class Managers:
    """The owners of an object's fields."""

    sets: dict[_Key, set[Path]] = field(default_factory=dict)
    """By manager, operation, apiVersion and subresource."""
    times: dict[_Key, str] = field(default_factory=dict)

    @classmethod
    def of(cls, body: Object | None) -> "Managers":
        """Read the managed fields of an object."""
        managers = cls()
        for entry in (body or {}).get("metadata", {}).get("managedFields") or ():
            if not entry.get("operation"):
                continue
            version = entry.get("apiVersion", "")
            key: _Key = (entry.get("manager", ""), entry["operation"], version, entry.get("subresource", ""))
            managers.sets[key] = fields.from_fields(entry.get("fieldsV1") or {})
            managers.times[key] = entry.get("time", "")
        return managers

    def write(self, body: Object) -> None:
        """Write them into an object."""
        entries = []
        for key in sorted(self.sets, key=lambda k: (k[1], self.times.get(k, ""), k)):
            if not self.sets[key]:
                continue
            manager, operation, version, subresource = key
            entry: Object = {"manager": manager, "operation": operation, "apiVersion": version}
            entry |= {"time": self.times.get(key) or clock.now(), "fieldsType": "FieldsV1"}
            entry["fieldsV1"] = fields.to_fields(self.sets[key])
            entries.append(entry | ({"subresource": subresource} if subresource else {}))
        if entries:
            body["metadata"]["managedFields"] = entries
        else:
            body["metadata"].pop("managedFields", None)

    def own(self, key: _Key, paths: set[Path]) -> None:
        """Set what a manager owns; the time moves only if that is something else."""
        if self.sets.get(key) != paths:
            self.sets[key] = paths
            self.times[key] = clock.now()

    def lose(self, paths: set[Path], besides: _Key) -> None:
        """Take paths from everyone but one manager."""
        for key, owned in self.sets.items():
            if key != besides and not owned.isdisjoint(paths):
                self.own(key, owned - paths)


def _key(call: Call, operation: str) -> _Key:
    return (call.manager, operation, call.resource.group_version, call.subresource)


def track_update(call: Call, before: Object | None, after: Object) -> None:
    """Record in `after` that the caller set what differs from `before`."""
    managers, key = Managers.of(after), _key(call, "Update")
    old, new = (fields.leaves(body or {}, call.resource.schema) for body in (before, after))
    changed, gone = fields.changed(old, new), old.keys() - new.keys()
    if changed or gone:
        managers.lose(changed | gone, besides=key)
        managers.own(key, (managers.sets.get(key, set()) | changed) - gone)
    managers.write(after)


def apply(call: Call, live: Object | None, config: Object) -> tuple[Object, Managers]:
    """Return the object as server-side apply makes it of `live`, not yet defaulted, and its owners.

    Raises StatusError: 409 when somebody else owns a field that would change, unless the caller forces it. Follows
    structured-merge-diff: what the manager applied before and no longer does is removed unless others own it.
    """
    schema = call.resource.schema
    if config.get("metadata", {}).get("managedFields") is not None:
        raise bad_request("metadata.managedFields must be nil")
    managers, key = Managers.of(live), _key(call, "Apply")
    live, wanted = live or {}, set(fields.leaves(config, schema))
    merged = fields.merge(live, config, schema)
    changing = fields.changed(fields.leaves(live, schema), fields.leaves(merged, schema)) & wanted
    contested = {k: owned & changing for k, owned in managers.sets.items() if k != key and owned & changing}
    if contested and not call.flag("force"):
        raise _conflict(contested, managers)
    managers.lose(changing, besides=key)
    previous = managers.sets.get(key, set())
    others = set().union(*(owned for k, owned in managers.sets.items() if k != key))
    dropped = fields.prefixes(previous) - fields.prefixes(wanted | others)
    managers.own(key, wanted)
    return fields.remove(merged, schema, dropped), managers


def settle(managers: Managers, body: Object, schema: Schema) -> None:
    """Write the owners into the finished object, less what is no longer in it."""
    present = fields.leaves(body, schema)
    for key, owned in managers.sets.items():
        if key[1] == "Update" and (gone := owned - present.keys()):
            managers.own(key, owned - gone)
    managers.write(body)


def _conflict(contested: dict[_Key, set[Path]], managers: Managers) -> StatusError:
    causes, told = [], []
    for key, paths in contested.items():
        manager, operation, version, subresource = key
        who = f'conflict with "{manager}"' + (f' with subresource "{subresource}"' if subresource else "")
        if operation == "Update":
            at = managers.times.get(key)
            who += f" using {version}" + (f" at {at}" if at else "")
        shown = sorted(fields.shown(path) for path in paths)
        causes += [{"reason": "FieldManagerConflict", "message": who, "field": path} for path in shown]
        told.append(f"{who}: {shown[0]}" if len(shown) == 1 else f"{who}:\n" + "\n".join(f"- {p}" for p in shown))
    count = f"{len(causes)} conflict" + ("s" if len(causes) > 1 else "")
    message = f"Apply failed with {count}: " + "\n".join(told)
    return StatusError(409, "Conflict", message, {"causes": causes})

"""RBAC: roles, bindings, and that nobody gives away more than they have."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from multidict import CIMultiDictProxy

from anomaly_devcluster.api.call import Call, User
from anomaly_devcluster.api.errors import forbidden
from anomaly_devcluster.api.routing import Route
from anomaly_devcluster.api.selectors import matches_selector
from anomaly_devcluster.store import Event, Store

Object = dict[str, Any]
RBAC = "rbac.authorization.k8s.io"
ROLES, CLUSTER_ROLES = f"roles.{RBAC}", f"clusterroles.{RBAC}"
BINDINGS, CLUSTER_BINDINGS = f"rolebindings.{RBAC}", f"clusterrolebindings.{RBAC}"
EVERYONE = ("selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews")


@dataclass(frozen=True, slots=True)
class Attributes:
    """What somebody wants to do."""

    verb: str
    group: str
    resource: str
    """With `/subresource` for one."""
    namespace: str = ""
    name: str = ""


def _has(listed: Any, wanted: str) -> bool:
    return "*" in (listed or ()) or wanted in (listed or ())


def _has_resource(listed: Any, wanted: str) -> bool:
    _, _, subresource = wanted.partition("/")
    return _has(listed, wanted) or bool(subresource and f"*/{subresource}" in (listed or ()))


def allows(rule: Mapping[str, Any], wanted: Attributes) -> bool:
    """Say whether one PolicyRule allows it."""
    names = rule.get("resourceNames")
    return (
        _has(rule.get("verbs"), wanted.verb)
        and _has(rule.get("apiGroups"), wanted.group)
        and _has_resource(rule.get("resources"), wanted.resource)
        and (not names or wanted.name in names)
    )


def _subject_is(subject: Mapping[str, Any], user: User, namespace: str) -> bool:
    match subject.get("kind"):
        case "User":
            return bool(subject["name"] == user.name)
        case "Group":
            return subject["name"] in user.groups
        case _:
            home = subject.get("namespace") or namespace
            return f"system:serviceaccount:{home}:{subject['name']}" == user.name


class Authorizer:
    """Decide by the roles and bindings in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[tuple[str, tuple[str, ...], str], list[Object]] = {}
        store.listeners.append(self._changed)

    def _changed(self, resource: str, _: Event) -> None:
        if resource in (ROLES, CLUSTER_ROLES, BINDINGS, CLUSTER_BINDINGS):
            self._known.clear()

    def rules(self, user: User, namespace: str) -> list[Object]:
        """Return every rule that holds for a user in a namespace, cluster-wide ones included."""
        key = (user.name, user.groups, namespace)
        if key not in self._known:
            self._known[key] = list(self._collect(user, namespace))
        return self._known[key]

    def _collect(self, user: User, namespace: str) -> Iterator[Object]:
        for entry in self._store.entries(CLUSTER_BINDINGS):
            if any(_subject_is(s, user, "") for s in entry.body.get("subjects") or ()):
                yield from self.role_rules(entry.body["roleRef"], "")
        if namespace:
            for entry in self._store.entries(BINDINGS, namespace):
                if any(_subject_is(s, user, namespace) for s in entry.body.get("subjects") or ()):
                    yield from self.role_rules(entry.body["roleRef"], namespace)

    def role_rules(self, reference: Mapping[str, Any], namespace: str) -> list[Object]:
        """Return the rules of a referenced role; none if it does not exist."""
        if reference["kind"] == "ClusterRole":
            entry = self._store.get(CLUSTER_ROLES, ("", reference["name"]))
        else:
            entry = self._store.get(ROLES, (namespace, reference["name"]))
        if entry is None:
            return []
        selectors = (entry.body.get("aggregationRule") or {}).get("clusterRoleSelectors")
        if not selectors:
            return entry.body.get("rules") or []
        return [rule for role in self._aggregated(selectors) for rule in role.get("rules") or ()]

    def _aggregated(self, selectors: list[Object]) -> Iterator[Object]:
        for entry in self._store.entries(CLUSTER_ROLES):
            labels = entry.body["metadata"].get("labels") or {}
            if any(matches_selector(selector, labels) for selector in selectors):
                yield entry.body

    def allowed(self, user: User, wanted: Attributes) -> bool:
        """Say whether a user may do something."""
        if "system:masters" in user.groups:
            return True
        return any(allows(rule, wanted) for rule in self.rules(user, wanted.namespace))

    def allowed_path(self, user: User, verb: str, path: str) -> bool:
        """Say whether a user may ask for a path that is no resource."""
        if "system:masters" in user.groups:
            return True
        for rule in self.rules(user, ""):
            paths = rule.get("nonResourceURLs") or ()
            if _has(rule.get("verbs"), verb) and any(
                p == path or (p.endswith("*") and path.startswith(p[:-1])) for p in paths
            ):
                return True
        return False

    def impersonated(self, user: User, headers: CIMultiDictProxy[str]) -> User:
        """Return as whom a request is to be seen; raises StatusError(403)."""
        name = headers.get("Impersonate-User", "")
        if not name:
            return user
        groups = tuple(headers.getall("Impersonate-Group", ()))
        home, _, account = name.removeprefix("system:serviceaccount:").partition(":")
        is_account = name.startswith("system:serviceaccount:")
        wanted = [("serviceaccounts", home, account) if is_account else ("users", "", name)]
        wanted += [("groups", "", group) for group in groups]
        for resource, namespace, who in wanted:
            if not self.allowed(user, Attributes("impersonate", "", resource, namespace, who)):
                why = f'User "{user.name}" cannot impersonate resource "{resource}" in API group ""'
                raise forbidden("", resource, who, why)
        if is_account and not groups:
            groups = ("system:serviceaccounts", f"system:serviceaccounts:{home}")
        return User(name, (*groups, "system:authenticated"))

    def require(self, user: User, verb: str, route: Route) -> None:
        """Raise StatusError(403) unless the user may do what the request asks for."""
        if "system:masters" in user.groups:
            return
        if route.plural in EVERYONE and "system:authenticated" in user.groups:
            return
        resource = f"{route.plural}/{route.subresource}" if route.subresource else route.plural
        namespace = route.namespace
        if self.allowed(user, Attributes(verb, route.group, resource, namespace, route.name)):
            return
        where = (
            f' in the namespace "{namespace}"'
            if namespace and route.plural != "namespaces"
            else " at the cluster scope"
        )
        why = f'User "{user.name}" cannot {verb} resource "{resource}" in API group "{route.group}"{where}'
        raise forbidden(route.group, route.plural, route.name, why)

    def check_apply(self, call: Call, operation: str, *_: Object | None) -> None:
        """Refuse an apply that makes a new object without the verb create besides patch; raises StatusError(403)."""
        if operation == "CREATE" and call.verb == "patch":
            self.require(call.user, "create", Route(call.resource.group, "", call.resource.plural, *call.key))

    def check_grant(self, call: Call, _: str, old: Object | None, new: Object | None) -> None:
        """Refuse to make a role, or bind one, that says more than its author may do; raises StatusError(403)."""
        resource, user = call.resource, call.user
        if new is None or resource.group != RBAC or "system:masters" in user.groups:
            return
        namespace = new["metadata"].get("namespace", "")
        if "roleRef" in new:
            role = new["roleRef"]
            plural, verb, name = f"{role['kind'].lower()}s", "bind", role["name"]
            rules = self.role_rules(role, namespace)
        else:
            if old is not None and old.get("rules") == new.get("rules"):
                return
            plural, verb, name = resource.plural, "escalate", new["metadata"]["name"]
            rules = new.get("rules") or []
        if self.allowed(user, Attributes(verb, RBAC, plural, namespace, name)):
            return
        held = self.rules(user, namespace)
        if missing := [rule for rule in rules if not covered(rule, held)]:
            shown = ", ".join(_shown(rule) for rule in missing)
            why = f'user "{user.name}" (groups={list(user.groups)}) is attempting to grant RBAC permissions '
            raise forbidden(RBAC, resource.plural, new["metadata"]["name"], f"{why}not currently held: {shown}")


def covered(rule: Object, held: list[Object]) -> bool:
    """Say whether the held rules together allow everything that a rule allows."""
    if paths := rule.get("nonResourceURLs"):
        return all(
            any(_has(h.get("verbs"), v) and _has(h.get("nonResourceURLs"), p) for h in held)
            for p in paths
            for v in rule["verbs"]
        )
    return all(
        any(allows(h, Attributes(verb, group, resource, name=name)) for h in held)
        for verb in rule.get("verbs") or ()
        for group in rule.get("apiGroups") or ()
        for resource in rule.get("resources") or ()
        for name in rule.get("resourceNames") or ("",)
    )


def _shown(rule: Object) -> str:
    names = ("apiGroups", "resources", "resourceNames", "verbs", "nonResourceURLs")
    given = (f"{name[0].upper()}{name[1:]}:{rule[name]}" for name in names if rule.get(name))
    return "{" + ", ".join(given) + "}"

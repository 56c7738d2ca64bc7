"""RBAC: roles, bindings, that nobody gives away more than they have, and answers to who somebody is and may do."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from anomaly_devcluster import clock
from anomaly_devcluster.api.builtin import kinds
from anomaly_devcluster.api.call import Answer, Call, Route, User
from anomaly_devcluster.api.errors import forbidden
from anomaly_devcluster.api.objects import read_typed
from anomaly_devcluster.api.selectors import matches_selector
from anomaly_devcluster.store import Event, Store

Object = dict[str, Any]
RBAC = "rbac.authorization.k8s.io"
ROLES, CLUSTER_ROLES = f"roles.{RBAC}", f"clusterroles.{RBAC}"
BINDINGS, CLUSTER_BINDINGS = f"rolebindings.{RBAC}", f"clusterrolebindings.{RBAC}"
_REVIEWS = {(review["group"], review["plural"]): review["kind"] for review in kinds()["reviews"]}
"""Questions that are answered and not stored."""


def is_review(route: Route) -> bool:
    """Say whether a request is such a question."""
    return (route.group, route.plural) in _REVIEWS and route.version == "v1" and not route.name


@dataclass(frozen=True, slots=True)
class Attributes:
    """What somebody wants to do."""

    verb: str
    group: str = ""
    resource: str = ""
    """With `/subresource` for one."""
    namespace: str = ""
    name: str = ""
    path: str = ""
    """Instead of all these, for what is no resource."""


def allows(rule: Mapping[str, Any], wanted: Attributes) -> bool:
    """Say whether one PolicyRule allows it."""
    accepted = {"verbs": {wanted.verb}, "apiGroups": {wanted.group}, "resources": {wanted.resource}}
    if "/" in wanted.resource:
        accepted["resources"].add(f"*/{wanted.resource.partition('/')[2]}")
    if wanted.path:
        above = {f"{wanted.path[:length]}*" for length in range(len(wanted.path))}
        accepted = {"verbs": {wanted.verb}, "nonResourceURLs": {wanted.path, *above}}
    elif rule.get("resourceNames") and wanted.name not in rule["resourceNames"]:
        return False
    return all(not (values | {"*"}).isdisjoint(rule.get(field) or ()) for field, values in accepted.items())


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
        bindings = self._store.entries(CLUSTER_BINDINGS)
        for entry in [*bindings, *(self._store.entries(BINDINGS, namespace) if namespace else ())]:
            inside = entry.key[0]
            if any(_subject_is(subject, user, inside) for subject in entry.body.get("subjects") or ()):
                yield from self.role_rules(entry.body["roleRef"], inside)

    def role_rules(self, reference: Mapping[str, Any], namespace: str) -> list[Object]:
        """Return the rules of a referenced role; none if it does not exist."""
        if reference["kind"] == "ClusterRole":
            entry = self._store.get(CLUSTER_ROLES, ("", reference["name"]))
        else:
            entry = self._store.get(ROLES, (namespace, reference["name"]))
        found = [entry] if entry else []
        if entry and (selectors := (entry.body.get("aggregationRule") or {}).get("clusterRoleSelectors")):
            roles = self._store.entries(CLUSTER_ROLES)
            found = [r for r in roles if any(matches_selector(s, r.body["metadata"].get("labels")) for s in selectors)]
        return [rule for role in found for rule in role.body.get("rules") or ()]

    def allowed(self, user: User, wanted: Attributes) -> bool:
        """Say whether a user may do something."""
        if "system:masters" in user.groups:
            return True
        return any(allows(rule, wanted) for rule in self.rules(user, wanted.namespace))

    def require(self, user: User, verb: str, route: Route) -> None:
        """Raise StatusError(403) unless the user may do what the request asks for."""
        if "system:masters" in user.groups:
            return
        if is_review(route) and "system:authenticated" in user.groups:
            return
        if self.allowed(user, Attributes(verb, route.group, route.resource, route.namespace, route.name)):
            return
        inside = route.namespace and route.plural != "namespaces"
        where = f'in the namespace "{route.namespace}"' if inside else "at the cluster scope"
        why = f'User "{user.name}" cannot {verb} resource "{route.resource}" in API group "{route.group}" {where}'
        raise forbidden(route.group, route.plural, route.name, why)

    def review(self, user: User, route: Route, body: Any) -> Answer:
        """Answer who the user is (SelfSubjectReview), or whether they may do something (SelfSubjectAccessReview)."""
        kind = _REVIEWS[route.group, route.plural]
        spec = read_typed(body, kind).get("spec", {})
        if kind == "SelfSubjectReview":
            status: Object = {"userInfo": user.as_object()}
        elif paths := spec.get("nonResourceAttributes"):
            status = {"allowed": self.allowed(user, Attributes(paths.get("verb", ""), path=paths.get("path", "")))}
        else:
            asked = spec.get("resourceAttributes") or {}
            verb, group, resource, below, namespace, name = (
                asked.get(part, "") for part in ("verb", "group", "resource", "subresource", "namespace", "name")
            )
            wanted = Attributes(verb, group, f"{resource}/{below}" if below else resource, namespace, name)
            status = {"allowed": self.allowed(user, wanted)}
        head = {"kind": kind, "apiVersion": f"{route.group}/v1", "metadata": {"creationTimestamp": clock.now()}}
        return Answer.of({**head, "spec": spec, "status": status}, 201)

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
    verbs, paths = rule.get("verbs") or (), rule.get("nonResourceURLs") or ()
    wanted = [Attributes(verb, path=path) for verb in verbs for path in paths]
    wanted += [
        Attributes(verb, group, resource, name=name)
        for verb in verbs
        for group in rule.get("apiGroups") or ()
        for resource in rule.get("resources") or ()
        for name in rule.get("resourceNames") or ("",)
    ]
    return all(any(allows(each, attributes) for each in held) for attributes in wanted)


def _shown(rule: Object) -> str:
    names = ("apiGroups", "resources", "resourceNames", "verbs", "nonResourceURLs")
    given = (f"{name[0].upper()}{name[1:]}:{rule[name]}" for name in names if rule.get(name))
    return "{" + ", ".join(given) + "}"

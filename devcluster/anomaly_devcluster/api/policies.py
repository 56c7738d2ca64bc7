"""ValidatingAdmissionPolicies and their bindings."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from anomaly_devcluster.api import wire
from anomaly_devcluster.api.call import Call
from anomaly_devcluster.api.errors import Cause, StatusError, qualified
from anomaly_devcluster.api.expressions import CelError, Expression, Scope, message
from anomaly_devcluster.api.resources import Catalog
from anomaly_devcluster.api.selectors import matches_selector
from anomaly_devcluster.store import Event, Store

Object = dict[str, Any]
GROUP = "admissionregistration.k8s.io"
POLICIES = f"validatingadmissionpolicies.{GROUP}"
BINDINGS = f"validatingadmissionpolicybindings.{GROUP}"
_CODES = {"Unauthorized": 401, "Forbidden": 403, "Invalid": 422, "RequestEntityTooLarge": 413}


@dataclass(frozen=True, slots=True)
class _Denied:
    """A validation that failed."""

    message: str
    reason: str


class Policies:
    """Evaluate every policy that is bound, before a write is stored."""

    def __init__(self, store: Store, catalog: Catalog) -> None:
        self._store = store
        self._catalog = catalog
        self._bound: list[tuple[Object, Object]] | None = None
        store.listeners.append(self._changed)

    def _changed(self, resource: str, _: Event) -> None:
        if resource in (POLICIES, BINDINGS):
            self._bound = None

    def _pairs(self) -> list[tuple[Object, Object]]:
        if self._bound is None:
            policies = {entry.key[1]: entry.body for entry in self._store.entries(POLICIES)}
            bindings = [entry.body for entry in self._store.entries(BINDINGS)]
            self._bound = [
                (policies[b["spec"]["policyName"]], b) for b in bindings if b["spec"]["policyName"] in policies
            ]
        return self._bound

    def __call__(self, call: Call, operation: str, old: Object | None, new: Object | None) -> None:
        """Refuse what a policy denies; warn of what it warns of."""
        if call.resource.group == GROUP:
            return
        for policy, binding in self._pairs():
            subject = new if new is not None else old
            if not self._matches(policy, binding, call, operation, subject or {}):
                continue
            for parameters in self._parameters(policy, binding):
                self._evaluate(policy, binding, _variables(self._store, call, operation, old, new, parameters), call)

    def _matches(self, policy: Object, binding: Object, call: Call, operation: str, subject: Object) -> bool:
        constraints = policy["spec"].get("matchConstraints") or {}
        if not any(_rule_matches(rule, call, operation, subject) for rule in constraints.get("resourceRules") or ()):
            return False
        if any(_rule_matches(rule, call, operation, subject) for rule in constraints.get("excludeResourceRules") or ()):
            return False
        return all(
            self._selected(m, call, operation, subject)
            for m in (constraints, binding["spec"].get("matchResources"))
            if m
        )

    def _selected(self, match: Mapping[str, Any], call: Call, operation: str, subject: Object) -> bool:
        rules = match.get("resourceRules")
        if rules and not any(_rule_matches(rule, call, operation, subject) for rule in rules):
            return False
        namespace = self._store.get("namespaces", ("", subject["metadata"].get("namespace", "")))
        labels = namespace.body["metadata"].get("labels") or {} if namespace else {}
        selector = match.get("namespaceSelector")
        if selector and namespace and not matches_selector(selector, labels):
            return False
        own = subject["metadata"].get("labels") or {}
        return not match.get("objectSelector") or matches_selector(match["objectSelector"], own)

    def _parameters(self, policy: Object, binding: Object) -> Iterator[Any]:
        kind, reference = policy["spec"].get("paramKind"), binding["spec"].get("paramRef")
        if not kind or not reference:
            yield None
            return
        resource = self._catalog.by_kind(kind["apiVersion"], kind["kind"])
        found = self._store.entries(resource.stored_as, reference.get("namespace", "")) if resource else []
        if name := reference.get("name"):
            found = [entry for entry in found if entry.key[1] == name]
        elif selector := reference.get("selector"):
            found = [e for e in found if matches_selector(selector, e.body["metadata"].get("labels") or {})]
        if not found and reference.get("parameterNotFoundAction") != "Allow":
            yield {}
        for entry in found:
            yield wire.as_object(resource, entry.body) if resource else entry.body

    def _evaluate(self, policy: Object, binding: Object, variables: dict[str, Any], call: Call) -> None:
        spec = policy["spec"]
        denied: _Denied | None
        try:
            denied = _verdict(spec, Scope({name: variables[name] for name in _names(spec) & variables.keys()}))
        except CelError as error:
            if spec.get("failurePolicy") == "Ignore":
                return
            denied = _Denied(f"expression resulted in error: {error}", "Invalid")
        if denied is None:
            return
        actions = binding["spec"].get("validationActions") or ["Deny"]
        who = f"ValidatingAdmissionPolicy '{policy['metadata']['name']}' with binding '{binding['metadata']['name']}'"
        if "Warn" in actions:
            call.warnings.append(f"Validation failed for {who}: {denied.message}")
        if "Deny" in actions:
            raise _denial(call, variables, f"{who} denied request: {denied.message}", denied.reason)


def _expressions(spec: Object) -> Iterator[tuple[str, str]]:
    """Return every expression of a policy with its field."""
    for kind in ("matchConditions", "variables", "validations"):
        for index, item in enumerate(spec.get(kind) or ()):
            for name in ("expression", "messageExpression"):
                if item.get(name):
                    yield f"spec.{kind}[{index}].{name}", item[name]


def _names(spec: Object) -> set[str]:
    """Return the variables that a policy refers to: only these need to be converted."""
    return set().union(*(Expression(text).names for _, text in _expressions(spec)))


def check_policy(body: Object, _: Object | None) -> list[Cause]:
    """Return the expressions of a policy that cannot be compiled, or that ask for what is not emulated."""
    causes = []
    for field, text in _expressions(body.get("spec") or {}):
        try:
            if "authorizer" in Expression(text).names:
                causes.append(Cause.invalid(field, text, "devcluster does not emulate the variable authorizer"))
        except CelError as error:
            causes.append(Cause.invalid(field, text, f"compilation failed: {error}"))
    return causes


def _verdict(spec: Object, scope: Scope) -> _Denied | None:
    """Return the first validation that fails, None when none does or the policy is not about this request."""
    if not all(Expression(m["expression"])(scope) is True for m in spec.get("matchConditions") or ()):
        return None
    computed: dict[str, Any] = {}
    scope.add("variables", computed)
    for variable in spec.get("variables") or ():
        with contextlib.suppress(CelError):  # one that fails matters only where it is used, as in Kubernetes
            computed[variable["name"]] = Expression(variable["expression"])(scope)
            scope.add("variables", computed)
    return next(filter(None, (_check(v, scope) for v in spec.get("validations") or ())), None)


def _check(validation: Mapping[str, Any], scope: Scope) -> _Denied | None:
    if Expression(validation["expression"])(scope) is True:
        return None
    said = message(validation, scope, f"failed expression: {validation['expression']}")
    return _Denied(said, validation.get("reason") or "Invalid")


def _denial(call: Call, variables: Mapping[str, Any], said: str, reason: str) -> StatusError:
    resource = call.resource
    name = variables["request"]["name"]
    details: Object = {"name": name} if name else {}
    details |= ({"group": resource.group} if resource.group else {}) | {"kind": resource.plural}
    details["causes"] = [{"message": said}]
    text = f'{qualified(resource.group, resource.plural)} "{name}" is forbidden: {said}'
    return StatusError(_CODES.get(reason, 422), reason, text, details)


def _rule_matches(rule: Mapping[str, Any], call: Call, operation: str, subject: Object) -> bool:
    resource = call.resource
    shown = f"{resource.plural}/{call.subresource}" if call.subresource else resource.plural
    listed = rule.get("resources") or ()
    wanted = {shown, "*/*"} | (
        {f"*/{call.subresource}", f"{resource.plural}/*"} if call.subresource else {"*", f"{resource.plural}/*"}
    )
    names = rule.get("resourceNames")
    return (
        any(value in (resource.group, "*") for value in rule.get("apiGroups") or ())
        and any(value in (resource.version, "*") for value in rule.get("apiVersions") or ())
        and any(value in (operation, "*") for value in rule.get("operations") or ())
        and any(value in wanted for value in listed)
        and (not names or subject["metadata"].get("name") in names)
    )


def _variables(
    store: Store, call: Call, operation: str, old: Object | None, new: Object | None, parameters: Any
) -> dict[str, Any]:
    resource = call.resource
    subject = new if new is not None else old or {}
    metadata = subject["metadata"]
    kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    path = {"group": resource.group, "version": resource.version, "resource": resource.plural}
    request = {
        "kind": kind,
        "resource": path,
        "subResource": call.subresource,
        "requestKind": kind,
        "requestResource": path,
        "requestSubResource": call.subresource,
        "name": metadata.get("name", ""),
        "namespace": metadata.get("namespace", ""),
        "operation": operation,
        "userInfo": call.user.as_object(),
        "dryRun": call.dry_run,
        "options": dict(call.query),
    }
    namespace = store.get("namespaces", ("", metadata.get("namespace", "")))
    return {
        "object": None if new is None else wire.as_object(resource, new),
        "oldObject": None if old is None else wire.as_object(resource, old),
        "request": request,
        "params": parameters,
        "namespaceObject": namespace.body if namespace else None,
    }

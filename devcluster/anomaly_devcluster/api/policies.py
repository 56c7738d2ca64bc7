"""ValidatingAdmissionPolicies and their bindings."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from anomaly_devcluster.api import wire
from anomaly_devcluster.api.call import Call
from anomaly_devcluster.api.errors import Cause, StatusError, forbidden
from anomaly_devcluster.api.expressions import CelError, Expression, Scope, message
from anomaly_devcluster.api.selectors import matches_selector
from anomaly_devcluster.store import Event, Store

Object = dict[str, Any]
GROUP = "admissionregistration.k8s.io"
POLICIES = f"validatingadmissionpolicies.{GROUP}"
BINDINGS = f"validatingadmissionpolicybindings.{GROUP}"
_CODES = {"Unauthorized": 401, "Forbidden": 403, "Invalid": 422, "RequestEntityTooLarge": 413}


class Policies:
    """Evaluate every policy that is bound, before a write is stored."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._bound: list[tuple[Object, Object]] | None = None
        store.listeners.append(self._changed)

    def _changed(self, resource: str, _: Event) -> None:
        if resource in (POLICIES, BINDINGS):
            self._bound = None

    def _pairs(self) -> list[tuple[Object, Object]]:
        if self._bound is None:
            policies = {entry.key[1]: entry.body for entry in self._store.entries(POLICIES)}
            bindings = [entry.body for entry in self._store.entries(BINDINGS)]
            bound = [(policies.get(binding["spec"]["policyName"]), binding) for binding in bindings]
            self._bound = [(policy, binding) for policy, binding in bound if policy]
        return self._bound

    def __call__(self, call: Call, operation: str, old: Object | None, new: Object | None) -> None:
        """Refuse what a policy denies; warn of what it warns of."""
        for policy, binding in self._pairs() if call.resource.group != GROUP else ():
            subject = (new if new is not None else old) or {}
            bounds = (policy["spec"].get("matchConstraints") or {}, binding["spec"].get("matchResources") or {})
            if all(self._selected(bound, call, operation, subject["metadata"]) for bound in bounds):
                _evaluate(policy, binding, _variables(self._store, call, operation, old, new), call)

    def _selected(self, bound: Mapping[str, Any], call: Call, operation: str, metadata: Object) -> bool:
        name = metadata.get("name", "")
        rules, without = bound.get("resourceRules"), bound.get("excludeResourceRules") or ()
        if rules and not any(_rule_matches(rule, call, operation, name) for rule in rules):
            return False
        if any(_rule_matches(rule, call, operation, name) for rule in without):
            return False
        namespace = self._store.get("namespaces", ("", metadata.get("namespace", "")))
        tests = [(bound.get("objectSelector"), metadata.get("labels"))]
        tests += [(bound.get("namespaceSelector"), namespace.body["metadata"].get("labels"))] if namespace else []
        return all(not selector or matches_selector(selector, labels) for selector, labels in tests)


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


def _evaluate(policy: Object, binding: Object, variables: dict[str, Any], call: Call) -> None:
    spec = policy["spec"]
    try:
        denied = _verdict(spec, Scope({name: variables[name] for name in _names(spec) & variables.keys()}))
    except CelError as error:
        denied = (f"expression resulted in error: {error}", "Invalid")
        denied = None if spec.get("failurePolicy") == "Ignore" else denied
    if denied is None:
        return
    said, reason = denied
    actions = binding["spec"].get("validationActions") or ["Deny"]
    who = f"ValidatingAdmissionPolicy '{policy['metadata']['name']}' with binding '{binding['metadata']['name']}'"
    if "Warn" in actions:
        call.warnings.append(f"Validation failed for {who}: {said}")
    if "Deny" in actions:
        resource, why = call.resource, f"{who} denied request: {said}"
        refused = forbidden(resource.group, resource.plural, variables["request"]["name"], why)
        details = {**(refused.details or {}), "causes": [{"message": why}]}
        raise StatusError(_CODES.get(reason, 422), reason, refused.message, details)


def _verdict(spec: Object, scope: Scope) -> tuple[str, str] | None:
    """Return message and reason of the first validation that fails, None if none does or this is not its business."""
    if not all(Expression(m["expression"])(scope) is True for m in spec.get("matchConditions") or ()):
        return None
    computed: dict[str, Any] = {}
    scope.add("variables", computed)
    for variable in spec.get("variables") or ():
        with contextlib.suppress(CelError):  # one that fails matters only where it is used, as in Kubernetes
            computed[variable["name"]] = Expression(variable["expression"])(scope)
            scope.add("variables", computed)
    for validation in spec.get("validations") or ():
        if Expression(validation["expression"])(scope) is not True:
            said = message(validation, scope, f"failed expression: {validation['expression']}")
            return said, validation.get("reason") or "Invalid"
    return None


def _rule_matches(rule: Mapping[str, Any], call: Call, operation: str, name: str) -> bool:
    resource, below = call.resource, call.subresource
    shown = {f"{resource.plural}/{below}", f"*/{below}"} if below else {resource.plural, "*"}
    wanted = (
        ("apiGroups", {resource.group, "*"}),
        ("apiVersions", {resource.version, "*"}),
        ("operations", {operation, "*"}),
        ("resources", shown | {f"{resource.plural}/*", "*/*"}),
    )
    named = not rule.get("resourceNames") or name in rule["resourceNames"]
    return named and all(not accepted.isdisjoint(rule.get(field) or ()) for field, accepted in wanted)


def _variables(store: Store, call: Call, operation: str, old: Object | None, new: Object | None) -> dict[str, Any]:
    resource = call.resource
    metadata = ((new if new is not None else old) or {})["metadata"]
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
        "namespaceObject": namespace.body if namespace else None,
    }

"""CEL expressions, with the functions that Kubernetes adds to the language, and the rules of custom resources."""

import contextlib
import re
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any

import cel
from cel import stdlib

from anomaly_devcluster.api.errors import Cause
from anomaly_devcluster.api.quantities import is_quantity, parse_quantity
from anomaly_devcluster.api.schema import Schema, walk

_PREFIXES = {"FieldValueInvalid": "Invalid value: ", "FieldValueForbidden": "Forbidden: "}
"""How messages of the reasons that a rule may give begin."""
_TOO_NEW = re.compile(r"\.\?|\[\?")


class CelError(ValueError):
    """An expression cannot be compiled or evaluated."""


@cache
def _compile(text: str) -> Any:
    try:
        return cel.compile(text)
    except ValueError as error:
        hint = " (devcluster does not emulate CEL's optional types)" if _TOO_NEW.search(text) else ""
        raise CelError(f"{error}{hint}") from None


class Scope:
    """What expressions see. Values are converted once, which for a pod takes longer than most expressions do."""

    def __init__(self, variables: dict[str, Any]) -> None:
        self.context = cel.Context(variables=variables, functions=_functions())

    def add(self, name: str, value: Any) -> None:
        """Set one variable."""
        self.context.add_variable(name, value)


class Expression:
    """A compiled expression; raises CelError when it cannot be compiled."""

    def __init__(self, text: str) -> None:
        self._program = _compile(text)

    @property
    def names(self) -> set[str]:
        """The variables that it refers to."""
        return set(self._program.variables())

    def __call__(self, scope: Scope) -> Any:
        """Evaluate; raises CelError."""
        try:
            return self._program.execute(scope.context)
        except (RuntimeError, TypeError, ValueError, LookupError, ArithmeticError) as error:
            raise CelError(str(error)) from None


def message(rule: Mapping[str, Any], scope: Scope, otherwise: str) -> str:
    """Return what a rule that failed has to say: its messageExpression, or else its message."""
    if text := rule.get("messageExpression"):
        with contextlib.suppress(CelError):  # as in Kubernetes: the plain message stands in
            if said := str(Expression(text)(scope)).strip():
                return said
    return rule.get("message") or otherwise


@cache
def _functions() -> dict[str, Any]:
    """Return the string and list functions of cel-go's libraries and Kubernetes' own, as far as they are here."""
    return dict(stdlib.STDLIB_FUNCTIONS) | {
        "find": lambda text, pattern: ((m := re.search(pattern, text)) and m.group(0)) or "",
        "findAll": lambda text, pattern: [m.group(0) for m in re.finditer(pattern, text)],
        "isSorted": lambda items: all(a <= b for a, b in pairwise(items)),
        "isQuantity": is_quantity,
        "quantity": lambda text: float(parse_quantity(text)),
        "isGreaterThan": lambda a, b: a > b,
        "isLessThan": lambda a, b: a < b,
        "compareTo": lambda a, b: (a > b) - (a < b),
        "asInteger": int,
        "asApproximateFloat": float,
        "isURL": lambda text: bool(re.match(r"^[a-z][a-z0-9+.-]*://[^/\s]+", text)),
    }


def check_rules(raw: Mapping[str, Any], at: str) -> list[Cause]:
    """Return the `x-kubernetes-validations` of one schema that cannot be compiled."""
    causes = []
    for index, rule in enumerate(raw.get("x-kubernetes-validations") or ()):
        for name, text in (("rule", rule["rule"]), ("messageExpression", rule.get("messageExpression") or "''")):
            try:
                Expression(text)
            except CelError as error:
                where = f"{at}.x-kubernetes-validations[{index}].{name}"
                causes.append(Cause.invalid(where, text, f"compilation failed: {error}"))
    return causes


def broken_rules(body: Any, schema: Schema, old: Any) -> list[Cause]:
    """Return the rules that an object breaks; `old` is what it replaces, None at creation."""
    causes, scope = [], _rule_scope()
    for value, holder, at, before in walk(body, schema, old, holding="rule"):
        rules = [rule for rule in holder.rules if before is not None or not _needs_old(rule)]
        if rules and value is not None:
            scope.add("self", value)
            scope.add("oldSelf", before)
            causes += [cause for rule in rules if (cause := _broken(rule, scope, value, at))]
    return causes


@cache
def _rule_scope() -> Scope:
    """Return what all rules share, because the functions take longer to set up than most rules to evaluate."""
    return Scope({})


def _needs_old(rule: Mapping[str, Any]) -> bool:
    return "oldSelf" in Expression(rule["rule"]).names and not rule.get("optionalOldSelf")


def _broken(rule: Mapping[str, Any], scope: Scope, value: Any, at: str) -> Cause | None:
    where, text = f"{at}{rule.get('fieldPath', '')}".lstrip(".") or "<nil>", rule["rule"]
    try:
        if Expression(text)(scope) is True:
            return None
    except CelError as error:
        return Cause.invalid(where, value, f"rule compile error or no such key: {text}: {error}")
    reason = rule.get("reason") or "FieldValueInvalid"
    return Cause(where, reason, f"{_PREFIXES.get(reason, '')}{message(rule, scope, f'failed rule: {text}')}")

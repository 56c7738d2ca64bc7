"""One CEL expression, with the functions that Kubernetes adds to the language."""

import contextlib
import re
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any

import cel
from cel import stdlib

from anomaly_devcluster.api.quantities import parse_quantity

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
        "isQuantity": _is_quantity,
        "quantity": lambda text: float(parse_quantity(text)),
        "isGreaterThan": lambda a, b: a > b,
        "isLessThan": lambda a, b: a < b,
        "compareTo": lambda a, b: (a > b) - (a < b),
        "asInteger": int,
        "asApproximateFloat": float,
        "isURL": lambda text: bool(re.match(r"^[a-z][a-z0-9+.-]*://[^/\s]+", text)),
    }


def _is_quantity(text: str) -> bool:
    try:
        parse_quantity(text)
    except ValueError:
        return False
    return True

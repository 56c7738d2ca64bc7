"""CEL rules of custom resources (`x-kubernetes-validations`), with the Common Expression Language library."""

from collections.abc import Iterator
from typing import Any

from anomaly_devcluster.api.errors import Cause
from anomaly_devcluster.api.expressions import CelError, Expression, Scope, message

Object = dict[str, Any]
_REASONS: dict[Any, str] = {
    "FieldValueInvalid": "Invalid value: ",
    "FieldValueForbidden": "Forbidden: ",
    "FieldValueRequired": "",
    "FieldValueDuplicate": "",
}
"""The reasons that a rule may give, and how their messages begin."""


class Rules:
    """All rules of a schema, compiled once."""

    def __init__(self, raw: Object) -> None:
        self._here: list[Object] = raw.get("x-kubernetes-validations") or []
        self._transitions = [rule for rule in self._here if _needs_old(rule)]
        self._fields = {name: Rules(child) for name, child in (raw.get("properties") or {}).items()}
        additional, items = raw.get("additionalProperties"), raw.get("items")
        self._values = Rules(additional) if isinstance(additional, dict) else None
        self._items = Rules(items) if isinstance(items, dict) else None
        self._keys = tuple(raw.get("x-kubernetes-list-map-keys") or ())
        self._fields = {name: rules for name, rules in self._fields.items() if rules}

    def __bool__(self) -> bool:
        """Say whether there is any rule."""
        return bool(self._here or self._fields or self._values or self._items)

    @classmethod
    def check(cls, raw: Object, at: str) -> list[Cause]:
        """Return the rules that cannot be compiled."""
        causes = []
        for path, rule in _declared(raw, at):
            for name, text in (("rule", rule["rule"]), ("messageExpression", rule.get("messageExpression") or "''")):
                try:
                    Expression(text)
                except CelError as error:
                    causes.append(Cause.invalid(f"{path}.{name}", text, f"compilation failed: {error}"))
        return causes

    def validate(self, value: Any, old: Any, at: str = "") -> list[Cause]:
        """Return the rules that a value breaks; `old` is what it replaces, None at creation."""
        causes: list[Cause] = []
        if self._here:
            scope = Scope({"self": value, "oldSelf": old})
            skipped = self._transitions if old is None else []
            causes = [c for rule in self._here if rule not in skipped and (c := _broken(rule, scope, value, at))]
        if isinstance(value, dict):
            before = old if isinstance(old, dict) else {}
            for name, item in value.items():
                rules = self._fields.get(name) or self._values
                if rules and item is not None:
                    causes += rules.validate(item, before.get(name), f"{at}.{name}" if at else name)
        elif isinstance(value, list) and self._items:
            for index, item in enumerate(value):
                causes += self._items.validate(item, self._counterpart(item, old), f"{at}[{index}]")
        return causes

    def _counterpart(self, item: Any, old: Any) -> Any:
        """Return what an element was before; only elements of lists of type map can be told."""
        if not self._keys or not isinstance(old, list):
            return None
        return next((o for o in old if all(o.get(k) == item.get(k) for k in self._keys)), None)


def _needs_old(rule: Object) -> bool:
    return "oldSelf" in Expression(rule["rule"]).names and not rule.get("optionalOldSelf")


def _declared(raw: Object, at: str) -> Iterator[tuple[str, Object]]:
    for index, rule in enumerate(raw.get("x-kubernetes-validations") or ()):
        yield f"{at}.x-kubernetes-validations[{index}]", rule
    for name, child in (raw.get("properties") or {}).items():
        yield from _declared(child, f"{at}.properties[{name}]")
    for name in ("items", "additionalProperties"):
        if isinstance(raw.get(name), dict):
            yield from _declared(raw[name], f"{at}.{name}")


def _broken(rule: Object, scope: Scope, value: Any, at: str) -> Cause | None:
    where, text = f"{at}{rule.get('fieldPath', '')}".lstrip(".") or "<nil>", rule["rule"]
    try:
        if Expression(text)(scope) is True:
            return None
    except CelError as error:
        return Cause.invalid(where, value, f"rule compile error or no such key: {text}: {error}")
    reason = rule.get("reason") if rule.get("reason") in _REASONS else "FieldValueInvalid"
    return Cause(where, str(reason), f"{_REASONS[reason]}{message(rule, scope, f'failed rule: {text}')}")

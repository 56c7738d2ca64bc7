"""Label and field selectors, from their text and from `LabelSelector` objects."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from anomaly_devcluster.api.errors import bad_request

Labels = Mapping[str, str]
Predicate = Callable[[Any], bool]

_KEY = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?(?:/[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_VALUE = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_SET = re.compile(rf"^({_KEY})\s+(in|notin)\s+\(([^()]*)\)$")
_EQUAL = re.compile(rf"^({_KEY})\s*(==|=|!=)\s*({_VALUE})$")
_EXISTS = re.compile(rf"^(!?)\s*({_KEY})$")
_SPLIT = re.compile(r",(?![^(]*\))")


def parse_labels(text: str) -> Predicate | None:
    """Return the predicate over labels that a `labelSelector` parameter asks for; None selects everything.

    Raises StatusError(400).
    """
    requirements = [_requirement(part.strip()) for part in _SPLIT.split(text) if part.strip()]
    return (lambda labels: all(_holds(requirement, labels) for requirement in requirements)) if requirements else None


def _requirement(text: str) -> Mapping[str, Any]:
    """Return the expression of a LabelSelector that a part of a `labelSelector` parameter stands for."""
    if match := _SET.match(text):
        values = [value.strip() for value in match[3].split(",")]
        return {"key": match[1], "operator": "In" if match[2] == "in" else "NotIn", "values": values}
    if match := _EQUAL.match(text):
        return {"key": match[1], "operator": "NotIn" if match[2] == "!=" else "In", "values": [match[3]]}
    if match := _EXISTS.match(text):
        return {"key": match[2], "operator": "DoesNotExist" if match[1] else "Exists"}
    raise bad_request(f"unable to parse requirement: found {text!r}, expected: key, !key, key=value or key in (values)")


def matches_selector(selector: Mapping[str, Any] | None, labels: Labels | None) -> bool:
    """Say whether a LabelSelector object selects labels; None selects nothing, an empty one everything."""
    if selector is None:
        return False
    labels = labels or {}
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(e, labels) for e in selector.get("matchExpressions") or ())


def _holds(expression: Mapping[str, Any], labels: Labels) -> bool:
    key, values = expression["key"], expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case _:
            return key not in labels


def selector_text(selector: Mapping[str, Any]) -> str:
    """Write a LabelSelector object as the text of a `labelSelector` parameter."""
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for expression in selector.get("matchExpressions") or ():
        key, values = expression["key"], ",".join(sorted(expression.get("values") or ()))
        forms = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}
        parts.append(forms.get(expression["operator"], f"!{key}"))
    return ",".join(parts)


def field_at(body: Mapping[str, Any], path: str) -> str:
    """Return a field as selectors compare it: text, empty when absent."""
    value: Any = body
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        return ""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def parse_fields(text: str, version: str, selectable: tuple[str, ...]) -> Predicate | None:
    """Return the predicate over objects that a `fieldSelector` parameter asks for; None selects everything.

    Raises StatusError(400), also for fields that cannot be selected by.
    """
    tests: list[tuple[str, str, bool]] = []
    for part in filter(None, text.split(",")):
        match = re.match(r"^([^=!]+)(==|=|!=)(.*)$", part)
        if not match:
            raise bad_request(f"invalid field selector: {text!r}; can't understand {part!r}")
        path, operator, value = match.groups()
        if path not in ("metadata.name", "metadata.namespace", *selectable):
            known = f'"{path}" is not a known field selector: only "metadata.name", "metadata.namespace"'
            raise bad_request(
                f"Unable to find {version!r} that match label selector and field selector {text!r}: {known}"
            )
        tests.append((path, value, operator != "!="))
    if not tests:
        return None
    return lambda body: all((field_at(body, path) == value) is equal for path, value, equal in tests)

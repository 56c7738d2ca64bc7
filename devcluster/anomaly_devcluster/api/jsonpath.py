"""The subset of JSONPath that printer columns and scale paths use: fields, indices, and `?(@.key=="value")`."""

import re
from functools import cache
from typing import Any

_PART = re.compile(
    r"""\.(?P<field>(?:[^.\[\\]|\\.)+) | \['(?P<quoted>[^']*)'\] | \[(?P<index>-?\d+|\*)\]
    | \[\?\(@\.(?P<key>[^=!]+?)\s*==\s*(?P<quote>["'])(?P<value>.*?)(?P=quote)\)\]""",
    re.VERBOSE,
)


@cache
def _parts(path: str) -> tuple[re.Match[str], ...]:
    found, position = [], 0
    while position < len(path):
        match = _PART.match(path, position)
        if not match:
            raise ValueError(f"cannot read the JSONPath {path!r} from {path[position:]!r} on")
        found.append(match)
        position = match.end()
    return tuple(found)


def find(body: Any, path: str) -> list[Any]:
    """Return everything that a path leads to; raises ValueError for a path beyond the subset."""
    values = [body]
    for part in _parts(path):
        field = part["field"] or part["quoted"]
        if field is not None:
            field = field.replace("\\.", ".")
            values = [v[field] for v in values if isinstance(v, dict) and field in v]
        elif part["key"] is not None:
            items = [i for v in values if isinstance(v, list) for i in v]
            values = [i for i in items if isinstance(i, dict) and str(i.get(part["key"].strip())) == part["value"]]
        elif part["index"] == "*":
            values = [i for v in values if isinstance(v, list) for i in v]
        else:
            at = int(part["index"])
            values = [v[at] for v in values if isinstance(v, list) and -len(v) <= at < len(v)]
    return values


def first(body: Any, path: str) -> Any:
    """Return the first thing that a path leads to, or None."""
    found = find(body, path)
    return found[0] if found else None

"""InfluxDB's line protocol. The client library would bring it, and 30 MiB with it."""

import math
from collections.abc import Mapping

Field = float | int | bool | str | None
_NAME = str.maketrans({",": r"\,", " ": r"\ ", "\n": r"\n", "\r": r"\r", "\t": r"\t"})
_KEY = _NAME | str.maketrans({"=": r"\="})
_STRING = str.maketrans({'"': r"\"", "\\": r"\\"})


def line(measurement: str, tags: Mapping[str, str], fields: Mapping[str, Field], nanoseconds: int) -> str | None:
    """Return one point; none if no field has a value (None, NaN and infinities have none)."""
    written = [
        f"{_escaped(name, _KEY)}={text}" for name, value in fields.items() if (text := _value(value)) is not None
    ]
    if not written:
        return None
    series = "".join(
        f",{_escaped(name, _KEY)}={_escaped(value, _KEY)}" for name, value in sorted(tags.items()) if name and value
    )
    return f"{_escaped(measurement, _NAME)}{series} {','.join(written)} {nanoseconds}"


def _value(value: Field) -> str | None:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value}i"
        case float():
            return repr(float(value)).removesuffix(".0") if math.isfinite(value) else None
        case str():
            return f'"{value.translate(_STRING)}"'
        case _:
            return None


def _escaped(name: str, characters: Mapping[int, str]) -> str:
    """Escape as the client library does; a backslash at the end, which would escape what follows, is left out."""
    return name.rstrip("\\").translate(characters) or "_"

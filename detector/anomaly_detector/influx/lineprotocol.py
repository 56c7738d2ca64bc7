"""InfluxDB's line protocol. The client library would bring it, and 30 MiB with it."""

import math
from collections.abc import Mapping

Field = float | int | bool | str | None


def line(measurement: str, tags: Mapping[str, str], fields: Mapping[str, Field], nanoseconds: int) -> str | None:
    """Return one point; none if no field has a value (None, NaN and infinities have none)."""
    written = [f"{_key(name)}={text}" for name, value in fields.items() if (text := _value(value)) is not None]
    if not written:
        return None
    series = "".join(f",{_key(name)}={_key(value)}" for name, value in sorted(tags.items()) if value)
    return f"{_name(measurement)}{series} {','.join(written)} {nanoseconds}"


def _value(value: Field) -> str | None:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value}i"
        case float():
            return repr(float(value)) if math.isfinite(value) else None
        case str():
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            return f'"{escaped}"'
        case _:
            return None


def _name(text: str) -> str:
    return _plain(text).replace(",", "\\,").replace(" ", "\\ ")


def _key(text: str) -> str:
    return _name(text).replace("=", "\\=")


def _plain(text: str) -> str:
    """Make a name fit on one line; a backslash at its end would escape what follows."""
    return text.replace("\n", " ").replace("\r", " ").rstrip("\\") or "_"

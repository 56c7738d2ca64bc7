"""Plain text for terminals and pipes: aligned columns, ages, numbers."""

from collections.abc import Iterable, Sequence

from anomaly_operator.domain.records import Evidence
from anomaly_operator.domain.times import Time

_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows under their header, columns aligned; None and empty text become `-`."""
    lines = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else str(value)


def age(since: Time | None, now: Time) -> str:
    """Return how long ago something was, as kubectl shows it: `42s`, `5m`, `3h`, `12d`."""
    if since is None:
        return ""
    seconds = max(0, int(now - since))
    for unit, size in _UNITS:
        if seconds >= 2 * size or size == 1:
            return f"{seconds // size}{unit}"
    raise AssertionError(seconds)  # the last unit always fits


def number(value: float | None) -> str:
    """Return a number with at most four significant digits."""
    return "" if value is None else f"{value:.4g}"


def percent(value: float | None) -> str:
    """Return a share as percent, at most three significant digits."""
    return "" if value is None else f"{value * 100:.3g}%"


def evidence(items: Iterable[Evidence]) -> str:
    """Return measurements in one line: `errorRate 0.12 (limit 0.01, 700 samples)`."""
    return "; ".join(_measurement(item) for item in items)


def _measurement(item: Evidence) -> str:
    if item.text:
        return item.text
    limits = [f"limit {number(item.limit)}" if item.limit is not None else "", item.kind or ""]
    samples = f"{item.samples} samples" if item.samples is not None else ""
    inside = ", ".join(part for part in (*limits, samples) if part)
    return " ".join(part for part in (item.metric, number(item.value), f"({inside})" if inside else "") if part)

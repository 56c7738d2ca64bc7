"""Points in time: epoch seconds inside the operator, RFC 3339 in every object."""

from datetime import UTC, datetime
from typing import Annotated

Time = Annotated[float, "RFC 3339 in JSON"]
"""Seconds since the epoch; the codec writes fields of this type as RFC 3339."""


def rfc3339(at: float) -> str:
    """Return `at` in UTC with milliseconds, e.g. `2026-03-01T12:00:00.250Z`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def whole_seconds(at: float) -> str:
    """Return `at` in UTC as metav1.Time writes it, e.g. `2026-03-01T12:00:00Z`."""
    return datetime.fromtimestamp(int(at), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def parse_time(text: object) -> float | None:
    """Return epoch seconds of an RFC 3339 time, None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at.timestamp() if at.tzinfo is not None else None

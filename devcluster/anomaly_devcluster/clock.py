"""Times as Kubernetes writes them."""

from datetime import UTC, datetime


def now() -> str:
    """Return this second, RFC 3339."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse(text: str) -> float:
    """Return the Unix time of an RFC 3339 time."""
    return datetime.fromisoformat(text).timestamp()


def render(at: float) -> str:
    """Return a Unix time as RFC 3339, whole seconds."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

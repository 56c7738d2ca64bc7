"""Times as Kubernetes writes them."""

import time
from datetime import UTC, datetime


def now(seconds: float = 0) -> str:
    """Return the time in so many seconds, RFC 3339."""
    return render(time.time() + seconds)


def parse(text: str) -> float:
    """Return the Unix time of an RFC 3339 time."""
    return datetime.fromisoformat(text).timestamp()


def render(at: float) -> str:
    """Return a Unix time as RFC 3339, whole seconds."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

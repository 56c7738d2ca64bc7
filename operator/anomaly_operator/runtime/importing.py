"""Importing a package without an optional one that it would import if it could."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(name: str) -> Iterator[None]:
    """Hide a package while the body imports others, unless it has been imported already."""
    hidden = name not in sys.modules
    if hidden:
        sys.modules[name] = None  # type: ignore[assignment] # so the import system is told that there is none
    try:
        yield
    finally:
        if hidden:
            del sys.modules[name]

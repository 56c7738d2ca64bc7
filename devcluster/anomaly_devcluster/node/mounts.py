"""Translate the paths that a container would see into the folders where they are on this machine. Pure functions."""

from collections.abc import Mapping
from pathlib import PurePosixPath

TERMINATION_LOG = "/dev/termination-log"


class Mounts:
    """The mount table of one container: path in the container to path on the host."""

    def __init__(self, table: Mapping[str, str]) -> None:
        cleaned = {str(PurePosixPath(inside)): outside for inside, outside in table.items()}
        self._table = sorted(cleaned.items(), key=lambda entry: -len(entry[0]))

    def path(self, path: str) -> str | None:
        """Return where a path lies on the host, None if it is not below a mount."""
        for inside, outside in self._table:
            if path == inside or path.startswith(inside.rstrip("/") + "/"):
                return outside + path[len(inside.rstrip("/")) :] if inside != "/" else outside + path
        return None

    def text(self, text: str) -> str:
        """Translate an environment value, command word or argument: a path as a whole, or after its first `=`."""
        if (whole := self.path(text)) is not None:
            return whole
        name, equals, value = text.partition("=")
        if equals and (translated := self.path(value)) is not None:
            return f"{name}={translated}"
        return text

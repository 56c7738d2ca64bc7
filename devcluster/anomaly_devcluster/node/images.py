"""The table of images: a name stands for a command line."""

import json
import os
import shlex
from pathlib import Path


class UnknownImageError(LookupError):
    """Say that an image is not in the table and how to put it there."""

    def __init__(self, image: str) -> None:
        super().__init__(
            f'image "{image}" is not in the image table of this cluster; '
            f"add it with: devcluster load-image {shlex.quote(image)}=COMMAND"
        )


class ImageTable:
    """A JSON file of names and command lines that the command line writes and the node reads at each start."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, list[str]]:
        """Return the whole table."""
        try:
            table: dict[str, list[str]] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        return table

    def load(self, name: str, command: list[str]) -> None:
        """Put one image into the table, replacing what its name stood for."""
        table = self.read() | {name: command}
        staged = self._path.with_suffix(f".{os.getpid()}")
        staged.write_text(json.dumps(table, indent=1))
        staged.replace(self._path)

    def command(self, image: str) -> list[str]:
        """Return the command of an image, by its full name or else by its name without tag and digest.

        Raises UnknownImageError.
        """
        table = self.read()
        bare = image.partition("@")[0]
        head, _, last = bare.rpartition("/")
        untagged = f"{head}/{last.partition(':')[0]}".lstrip("/")
        for name in (image, bare, untagged):
            if name in table:
                return table[name]
        raise UnknownImageError(image)


def parse(assignment: str) -> tuple[str, list[str]]:
    """Read `NAME=COMMAND`; raises ValueError saying what is missing."""
    name, equals, command = assignment.partition("=")
    words = shlex.split(command)
    if not name or not equals or not words:
        raise ValueError(f"{assignment!r}: expected NAME=COMMAND, such as web='python3 -m http.server'")
    return name, words

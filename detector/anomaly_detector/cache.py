"""The local cache of artifacts, by digest, on the pod's volume or a claim that several pods share.

    <dir>/<hex>/            the model folder, verified before it got this name
    <dir>/<hex>.flat-<key>/ what `scoring.flatten` made of it, for this version of the program and of scikit-learn
    <dir>/<hex>.tar         for peers, made when the first one asks
    <dir>/sources/<key>     the digest of a source that was fetched without knowing it
Everything appears by rename, so that a reader never sees half of it.
"""

import hashlib
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from anomaly_detector import bundle

KEEP = 10
"""Artifacts that stay; the least recently used go first."""
_HEX = re.compile(r"[0-9a-f]{64}")


class Cache:
    """Artifacts in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def model(self, digest: str) -> Path:
        """Return where an artifact lies, or will."""
        return self._folder / _hex(digest)

    def flat(self, digest: str) -> Path:
        """Return where the flattened model lies, or will."""
        key = hashlib.sha256(f"{version('anomaly-operator')} {version('scikit-learn')}".encode()).hexdigest()[:12]
        return self._folder / f"{_hex(digest)}.flat-{key}"

    def holds(self, digest: str) -> bool:
        """Say whether the artifact is there and intact; one that is not is removed."""
        folder = self.model(digest)
        if not folder.is_dir():
            return False
        try:
            intact = bundle.digest(folder) == digest
        except OSError:
            intact = False
        if not intact:
            shutil.rmtree(folder, ignore_errors=True)
            return False
        os.utime(folder)
        return True

    def digest_of(self, source: str) -> str | None:
        """Return the digest that was computed for a source."""
        try:
            return self._pointer(source).read_text().strip()
        except FileNotFoundError:
            return None

    def remember(self, source: str, digest: str) -> None:
        """Keep the digest computed for a source."""
        path = self._pointer(source)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.scratch() as folder:
            (folder / "digest").write_text(digest + "\n")
            (folder / "digest").replace(path)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give an empty folder on the cache's own volume, removed afterwards."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=self._folder, ignore_cleanup_errors=True) as name:
            yield Path(name)

    def adopt(self, folder: Path, place: Path) -> None:
        """Give a finished folder its name; if another pod was faster, its folder stays."""
        try:
            folder.rename(place)
        except OSError:
            if not place.is_dir():
                raise

    def tar(self, name: str) -> Path | None:
        """Return the tar file of an artifact for a peer; none if it is not here."""
        folder = self._folder / name
        if not _HEX.fullmatch(name) or not folder.is_dir():
            return None
        path = self._folder / f"{name}.tar"
        if not path.is_file():
            with self.scratch() as scratch:
                with tarfile.open(scratch / "tar", "w") as archive:
                    archive.add(folder, arcname=".", filter=_anonymous)
                (scratch / "tar").replace(path)
        return path

    def prune(self, digest: str) -> None:
        """Remove the artifacts used longest ago beyond KEEP, never that of `digest`."""
        folders = [p for p in self._folder.iterdir() if _HEX.fullmatch(p.name) and p.name != _hex(digest)]
        folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for folder in folders[KEEP - 1 :]:
            for path in self._folder.glob(f"{folder.name}*"):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def _pointer(self, source: str) -> Path:
        return self._folder / "sources" / hashlib.sha256(source.encode()).hexdigest()


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member

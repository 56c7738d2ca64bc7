"""The local cache of artifacts, by digest, on the pod's volume or a claim that several pods share.

    <dir>/<hex>/            the model folder, verified before it got this name
    <dir>/<hex>.flat-<key>/ what `scoring.flatten` made of it, for this version of the program and of scikit-learn
    <dir>/<hex>.tar         for peers, made when the first one asks
    <dir>/sources/<key>     the digest of a source that was fetched without knowing it
Everything appears by rename once it is on the disk, and goes by rename, so that a reader never sees half of it; what
is damaged all the same is made anew.
"""

import hashlib
import os
import re
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from anomaly_detector import bundle

KEEP = 10
"""Artifacts that stay; the least recently used go first."""
STALE_SECONDS = 2 * 3600.0
"""Age of a scratch folder that nobody works in any more: a download may take an hour."""
LAYOUT = 2
"""Of what `scoring.flatten` writes; another number when it writes otherwise."""
_HEX = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(rf"sha256:{_HEX.pattern}")
_SCRATCH = ".tmp-"


class Cache:
    """Artifacts in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def model(self, digest: str) -> Path:
        """Return where an artifact lies, or will."""
        return self._folder / _hex(digest)

    def flat(self, digest: str) -> Path:
        """Return where the flattened model lies, or will."""
        made_by = f"{version('anomaly-operator')} {version('scikit-learn')} {LAYOUT}"
        return self._folder / f"{_hex(digest)}.flat-{hashlib.sha256(made_by.encode()).hexdigest()[:12]}"

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
            self.remove(folder)
            return False
        os.utime(folder)
        return True

    def digest_of(self, source: str) -> str | None:
        """Return the digest that was computed for a source; none if nobody did, or its file is damaged."""
        try:
            digest = self._pointer(source).read_text(errors="replace").strip()
        except FileNotFoundError:
            return None
        return digest if _DIGEST.fullmatch(digest) else None

    def remember(self, source: str, digest: str) -> None:
        """Keep the digest computed for a source."""
        path = self._pointer(source)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.scratch() as folder:
            (folder / "digest").write_text(digest + "\n")
            _rename(folder / "digest", path)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give an empty folder on the cache's own volume, removed afterwards."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=self._folder, ignore_cleanup_errors=True) as name:
            yield Path(name)

    def adopt(self, folder: Path, place: Path) -> None:
        """Give a finished folder its name; if another pod was faster, its folder stays."""
        try:
            _rename(folder, place)
        except OSError:
            if not place.is_dir():
                raise

    def remove(self, place: Path) -> None:
        """Take a damaged folder away, if that can be done."""
        with suppress(OSError), self.scratch() as scratch:
            place.rename(scratch / "damaged")

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
                _rename(scratch / "tar", path)
        return path

    def prune(self, digest: str) -> None:
        """Remove the artifacts used longest ago beyond KEEP, never that of `digest`."""
        folders = [p for p in self._folder.iterdir() if _HEX.fullmatch(p.name) and p.name != _hex(digest)]
        folders.sort(key=_changed, reverse=True)
        for folder in folders[KEEP - 1 :]:
            for path in self._folder.glob(f"{folder.name}*"):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove the scratch folders that killed processes left behind."""
        for folder in self._folder.glob(f"{_SCRATCH}*"):
            if _changed(folder) < time.time() - STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)

    def _pointer(self, source: str) -> Path:
        return self._folder / "sources" / hashlib.sha256(source.encode()).hexdigest()


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _changed(path: Path) -> float:
    """Return when a folder was last changed, in seconds since the epoch; 0 if another pod has just removed it."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _rename(made: Path, place: Path) -> None:
    """Give a file or folder its name once it is on the disk: after a power cut it would else be there and empty."""
    for path in (made, *made.rglob("*")):
        if not path.is_file() and not path.is_dir():
            continue
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    made.replace(place)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member

"""Peers in environments of their own: their dependencies and ours do not agree, and need not.

Each is a virtual environment in the cache folder (`ANOMALY_BENCH_CACHE`, else `anomaly-operator/peers` under
`$XDG_CACHE_HOME`), made by the first run that needs it and kept. scikit-learn and NumPy are those that trained the
model, so that all serve the very same forest.

    .venv/bin/python benchmarks/rig/environments.py [NAME ...]

makes them beforehand.
"""

import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

REQUIREMENTS: Mapping[str, tuple[str, ...]] = {
    "mlserver": (
        "mlserver==1.7.1",
        "mlserver-sklearn==1.7.1",
        "uvloop<0.22",
    ),  # its workers need an older loop
    "kserve": ("kserve==0.21.0",),
    "mlflow": ("mlflow==3.17.2",),
    "evidently": ("evidently==0.7.23", "pandas<3"),  # it imports what newer pandas lacks
}
OURS = ("scikit-learn", "numpy", "scipy", "joblib", "cloudpickle", "skops")
"""What must be the same everywhere for a saved model to load."""
INSTALL_SECONDS = 900
_SAID = 300


class MissingPeerError(Exception):
    """Say why a peer cannot be measured."""


def folder() -> Path:
    """Return where the environments are."""
    if own := os.environ.get("ANOMALY_BENCH_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "anomaly-operator" / "peers"


def existing(peer: str) -> Path | None:
    """Return the Python of a peer's environment if there is one, complete and with these versions."""
    place = folder() / peer
    made = place / ".made"
    return place / "bin" / "python" if made.is_file() and made.read_text() == _mark(peer) else None


def python_of(peer: str) -> Path:
    """Return the Python of a peer's environment, making it if need be. Raises MissingPeerError."""
    if (found := existing(peer)) is not None:
        return found
    place = folder() / peer
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    print(f"  installing {peer} into {place} (once) ...", file=sys.stderr, flush=True)
    python = place / "bin" / "python"
    _run("venv", "--quiet", "--python", sys.executable, str(place))
    _run("pip", "install", "--quiet", "--python", str(python), *_requirements(peer))
    (place / ".made").write_text(_mark(peer))
    return python


def version(peer: str) -> str:
    """Return the version that is measured."""
    return REQUIREMENTS[peer][0].partition("==")[2]


def _requirements(peer: str) -> tuple[str, ...]:
    return (*REQUIREMENTS[peer], *(f"{name}=={importlib.metadata.version(name)}" for name in OURS))


def _mark(peer: str) -> str:
    return hashlib.sha256("\n".join((sys.version, *_requirements(peer))).encode()).hexdigest()


def _run(*words: str) -> None:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "uv", *words], capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise MissingPeerError(f"not installed within {INSTALL_SECONDS} s") from None
    if done.returncode:
        said = " ".join(done.stderr.split())
        raise MissingPeerError(f"cannot be installed: {said[-_SAID:]}")


if __name__ == "__main__":
    for name in sys.argv[1:] or REQUIREMENTS:
        try:
            print(f"{name} {version(name)}: {python_of(name)}")
        except MissingPeerError as error:
            print(f"{name}: {error}")

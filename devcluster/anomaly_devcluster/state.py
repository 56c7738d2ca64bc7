"""Where clusters keep what they know of themselves, how they are started, and how leftovers of dead ones are found."""

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Self

import psutil

RUN_MARK = "DEVCLUSTER_RUN"
"""Variable that every process of a cluster's run carries."""
ASSETS = "KUBEBUILDER_ASSETS"
"""Names the folder of a real control plane's programs."""
READY = "DEVCLUSTER_READY_FD"
"""Names the descriptor that the server's address is written to once everything runs."""
DEFAULT_NAME = "default"
_START_SECONDS = 90
Process = subprocess.Popen[bytes]


class UsageError(Exception):
    """Say what was asked for wrongly, and what to do instead."""


def folder(name: str) -> Path:
    """Return the folder of a cluster; raises UsageError for a name that cannot be one."""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", name):
        raise UsageError(f"--name {name!r}: use up to 40 lower-case letters, digits and dashes")
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "devcluster" / name


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a cluster, as `cluster.json` in its folder says."""

    name: str
    run: str
    pid: int
    started: float
    """When the supervising process began, Unix time; with the process id it tells the process from a later one."""
    slot: int
    control_plane: str
    server: str = ""

    def write(self, place: Path) -> None:
        """Write it to the cluster's folder."""
        staged = place / ".cluster.json"
        staged.write_text(json.dumps(asdict(self), indent=1))
        staged.replace(place / "cluster.json")

    @classmethod
    def read(cls, place: Path) -> Self | None:
        """Read what the folder says, None if it says nothing readable."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            return cls(**json.loads((place / "cluster.json").read_text()))
        return None

    @property
    def alive(self) -> bool:
        """Whether the supervising process is there."""
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.started) < 1 and process.status() != psutil.STATUS_ZOMBIE
        return False


def running(name: str) -> tuple[Path, Run]:
    """Return a running cluster's folder and run; raises UsageError if there is none."""
    place = folder(name)
    run = Run.read(place)
    if run is None or not run.alive:
        raise UsageError(f"no cluster {name!r} is running; start it with: devcluster up --name {name}")
    return place, run


def launch(options: list[str], env: Mapping[str, str], log: BinaryIO, *, session: bool) -> tuple[Process, str]:
    """Start a cluster as a process, in a session of its own if told so.

    Returns the process and the API server's address, which is empty if there is none in a minute and a half.
    """
    reader, writer = os.pipe()
    env = {**env, READY: str(writer)}
    if assets := env.get(ASSETS):  # it may be named from here, and the cluster runs elsewhere
        env[ASSETS] = str(Path(assets).absolute())
    process = subprocess.Popen(
        [sys.executable, "-m", "anomaly_devcluster", "up", "--foreground", *options],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=session,
        pass_fds=[writer],
        cwd="/",
    )
    os.close(writer)
    try:
        with os.fdopen(reader) as answer:
            readable, _, _ = select.select([answer], [], [], _START_SECONDS)
            return process, answer.readline().strip() if readable else ""
    except BaseException:  # nobody waits for it any more
        process.terminate()
        raise


def clean(place: Path) -> int:
    """End what is left of a dead run and remove its folder; return how many processes were ended."""
    known = Run.read(place)
    ended = end_marked(RUN_MARK, {known.run}) if known else 0
    shutil.rmtree(place, ignore_errors=True)
    return ended


def end_marked(variable: str, values: set[str]) -> int:
    """Kill every other process in whose environment a variable has one of these values; return how many there were."""
    marks = {f"{variable}={value}".encode() for value in values}
    ended = 0
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            if pid != os.getpid() and marks & set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")):
                os.kill(pid, signal.SIGKILL)
                ended += 1
    return ended


def wait_until_gone(pid: int, seconds: float) -> bool:
    """Wait until a process has ended; return whether it did in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.Error:
            return True
        time.sleep(0.02)
    return False

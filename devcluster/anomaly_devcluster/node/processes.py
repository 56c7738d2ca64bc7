"""Start processes that cannot outlive the node, and end them with everything they started."""

import asyncio
import contextlib
import ctypes
import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import psutil

CONTAINER_MARK = "DEVCLUSTER_CONTAINER"
"""Variable that says which container a process belongs to."""
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_started: set[int] = set()
"""Processes whose exit code somebody waits for."""
_launcher = shutil.which("setpriv")
"""Asks the kernel to kill a process with the node. A function between fork and exec could do that as well, but then the
whole node would have to be forked, ten milliseconds each time. Without setpriv the supervisor ends what is left."""
_libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    """Become the parent of descendants whose parent died, so that they can be found and ended."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Ask the kernel to send this process a signal when its parent ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


class Process:
    """One running process, the leader of a session of its own."""

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], folder: Path | str, output: BinaryIO | int
    ) -> None:
        """Start it; raises OSError when the program cannot be started."""
        program = shutil.which(command[0], path=env.get("PATH"))
        if program is None:
            raise FileNotFoundError(errno.ENOENT, "no such program, or not executable", command[0])
        launch = [_launcher, "--pdeathsig", "KILL", "--"] if _launcher else []
        self._process = subprocess.Popen(
            [*launch, program, *command[1:]],
            env=dict(env),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.pid = self._process.pid
        _started.add(self.pid)
        self._mark = env.get(CONTAINER_MARK)
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._descriptor = os.pidfd_open(self.pid)
        asyncio.get_running_loop().add_reader(self._descriptor, self._reap)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        code = self._process.wait()
        _started.discard(self.pid)
        self._kill_rest()
        if not self._ended.done():
            self._ended.set_result(code if code >= 0 else 128 - code)

    def _kill_rest(self) -> None:
        """End what the process left behind, as the end of a container does."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        if self._mark:
            end_strays(self._mark)

    async def wait(self) -> int:
        """Return the exit code once it has ended; 128 + n if signal n ended it."""
        return await asyncio.shield(self._ended)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return not self._ended.done()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process itself."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def end(self, seconds: float) -> None:
        """Ask it to end, and kill it if it has not in so many seconds."""
        self.send(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wait()
        self.kill()

    def kill(self) -> None:
        """End the whole process group at once."""
        if self.running:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


def end_strays(mark: str) -> None:
    """Kill and reap adopted descendants of one container."""
    try:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    except OSError:
        return
    wanted = f"{CONTAINER_MARK}={mark}".encode()
    for child in {int(child) for child in children} - _started:
        with contextlib.suppress(OSError):
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
            if state == "Z":
                reap(child)
            elif wanted in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
                os.kill(child, signal.SIGKILL)
                asyncio.get_running_loop().call_later(0.1, reap, child)


def end_descendants() -> None:
    """Kill everything that this process started, also what has been adopted meanwhile; for the node's own end."""
    while children := psutil.Process().children(recursive=True):
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()
        psutil.wait_procs(children, timeout=1)


def reap(pid: int) -> None:
    """Collect the exit of an adopted process, if there is one."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)

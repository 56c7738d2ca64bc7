"""End well: a benchmark that is told to end (SIGTERM) leaves no server behind."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NoReturn


def unwind_when_told() -> None:
    """Make SIGTERM leave by way of all `with` and `finally`, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _leave)


def _leave(number: int, frame: Any) -> NoReturn:
    del frame
    signal.signal(number, signal.SIG_IGN)  # once is enough: what is ending servers must not be broken off
    sys.exit(128 + number)


def run(command: Sequence[str]) -> str:
    """Run a benchmark in a process of its own and return what it printed; tell it to end if this one is told so.

    Raises CalledProcessError when it fails.
    """
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            said, _ = running.communicate()
        except BaseException:
            running.send_signal(signal.SIGTERM)  # kill, as subprocess.run does, would orphan its servers
            running.wait()
            raise
    if running.returncode:
        raise subprocess.CalledProcessError(running.returncode, command)
    return said

"""Memory of the container."""

from pathlib import Path

import psutil


def resident_bytes() -> int:
    """Return the resident set of this process and its children, bytes.

    The children are read from /proc/<pid>/task: psutil would look through every process of the machine.
    """
    total, waiting = 0, [psutil.Process().pid]
    while waiting:
        pid = waiting.pop()
        try:
            total += psutil.Process(pid).memory_info().rss
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                waiting += [int(child) for child in children.read_text().split()]
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
    return total

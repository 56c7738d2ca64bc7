"""The termination message of a training Job: what came of it, for whoever started it (docs/pod-contract.md)."""

import os
from contextlib import suppress
from pathlib import Path

TOLD = ("version", "runId", "aliasMoved", "verdict")
"""What of the result it holds."""
MOST_BYTES = 4096  # of a container; the runtime cuts what is longer


def leave_message(text: str) -> None:
    """Write the message to the file that ANOMALY_TERMINATION_LOG names, if it names one.

    A message that cannot be written is left out: exit code and output say the same.
    """
    path = os.environ.get("ANOMALY_TERMINATION_LOG")
    if path:
        with suppress(OSError):
            Path(path).write_bytes(text.encode()[:MOST_BYTES])

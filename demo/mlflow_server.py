"""Start a real MLflow server (SQLite, local artifacts) for the time of a `with` block."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 240.0
STOP_SECONDS = 5.0
POLL_SECONDS = 0.1


class ServerNotStartedError(RuntimeError):
    """Say why the server is not there, with the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowServer:
    """A running server."""

    uri: str
    """Tracking and registry URI."""
    folder: Path
    """Holds `mlflow.db`, `artifacts/` and `mlflow.log`."""
    process: subprocess.Popen[bytes]
    """Leader of the server's process group."""


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port that nothing listens on at `host`."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def launch(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    env: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
) -> MlflowServer:
    """Start the server on what lies in `folder` (made if need be) and return at once; see `wait_until_healthy`.

    `options` are further ones of `mlflow server`. One worker and no job runner: two processes and half a gigabyte
    instead of fifteen and three.
    """
    port = port or free_port(host)
    artifacts = folder / "artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    with (folder / "mlflow.log").open("ab") as log:
        process = subprocess.Popen(  # its own group: uvicorn's workers end with it, and Ctrl-C reaches us first
            [
                *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
                *("--host", host, "--port", str(port)),
                *("--allowed-hosts", f"{host}:{port},localhost:{port},127.0.0.1:{port}"),
                *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
                *("--artifacts-destination", str(artifacts)),
                *options,
            ],
            env=inherited
            | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
            | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return MlflowServer(uri=f"http://{host}:{port}", folder=folder, process=process)


def wait_until_healthy(server: MlflowServer, *, seconds: float = START_SECONDS) -> None:
    """Return when `/health` answers 200; raises ServerNotStartedError when the process ends or time is up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.process.poll() is None:
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{server.uri}/health", timeout=5):
            return
        time.sleep(POLL_SECONDS)
    state = "still starting" if server.process.poll() is None else f"exit code {server.process.returncode}"
    log = (server.folder / "mlflow.log").read_text(errors="replace")[-2000:]
    raise ServerNotStartedError(
        f"mlflow server at {server.uri}: {state} after {seconds:.0f} s at most; its log:\n{log}"
    )


def stop(server: MlflowServer) -> None:
    """End the whole process group, by force after a few seconds; a server that has ended is fine."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            server.process.wait(timeout=STOP_SECONDS)
            break
    with suppress(ProcessLookupError):  # workers that outlived their leader
        os.killpg(server.process.pid, signal.SIGKILL)


@contextmanager
def mlflow_server(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    env: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
) -> Iterator[MlflowServer]:
    """Run a server while the body runs; it is healthy when the body begins and gone when it ends, however it ends.

    Without a `port` it takes a free one, and another if it ends at once: somebody may have been quicker.
    """
    server = launch(folder, host=host, port=port, env=env, options=options)
    try:
        try:
            wait_until_healthy(server)
        except ServerNotStartedError:
            if port or server.process.poll() is None:
                raise
            stop(server)
            server = launch(folder, host=host, env=env, options=options)
            wait_until_healthy(server)
        yield server
    finally:
        stop(server)

"""The MLflow server of demo and tests: it comes up, says why if not, and leaves nothing behind."""

import os
import signal
import socket

import psutil
import pytest
import requests
from demo.mlflow_server import ServerNotStartedError, free_port, launch, mlflow_server, stop, wait_until_healthy
from tests.e2e.devcluster.conftest import eventually

pytestmark = pytest.mark.e2e


def group(pid):
    """Return the live processes of a process group."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def test_it_answers_while_the_block_runs_and_leaves_no_process_behind_even_if_the_block_fails(tmp_path):
    seen = []

    def use():
        with mlflow_server(tmp_path) as server:
            assert requests.get(f"{server.uri}/health", timeout=60).text == "OK"
            assert group(server.process.pid)
            seen.append(server)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use()
    eventually(lambda: group(seen[0].process.pid), [])


def test_a_server_that_ends_at_once_is_started_once_more_unless_its_port_is_given(tmp_path):
    # Python imports this first: it ends one process, as a port does that somebody else has just taken.
    folder = tmp_path / "python"
    folder.mkdir()
    once = folder / "once"
    (folder / "sitecustomize.py").write_text(
        f"import os, pathlib\nonce = pathlib.Path({str(once)!r})\nif not once.exists(): once.touch(); os._exit(9)\n"
    )
    env = {"PYTHONPATH": str(folder)}
    with pytest.raises(ServerNotStartedError, match="exit code 9"), mlflow_server(tmp_path, port=free_port(), env=env):
        pass
    once.unlink()
    with mlflow_server(tmp_path, env=env) as server:
        assert once.exists()
        assert requests.get(f"{server.uri}/health", timeout=60).text == "OK"


def test_a_server_that_cannot_start_says_why(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = launch(tmp_path, port=taken.getsockname()[1])
        try:
            # The port belongs to somebody who never answers: ended or not, the server is not there.
            with pytest.raises(ServerNotStartedError, match=f"mlflow server at {server.uri}: "):
                wait_until_healthy(server, seconds=30)
        finally:
            stop(server)
    eventually(lambda: group(server.process.pid), [])


def test_stopping_a_server_that_was_killed_is_fine(tmp_path):
    server = launch(tmp_path)
    os.killpg(server.process.pid, signal.SIGKILL)
    stop(server)
    eventually(lambda: group(server.process.pid), [])

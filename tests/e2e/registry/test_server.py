"""The MLflow server of demo and tests: it comes up, says why if not, and leaves nothing behind."""

import os
import signal
import socket

import psutil
import pytest
import requests
from demo.mlflow_server import ServerNotStartedError, launch, mlflow_server, stop, wait_until_healthy

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
            assert requests.get(f"{server.uri}/health", timeout=5).text == "OK"
            assert group(server.process.pid)
            seen.append(server)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use()
    assert group(seen[0].process.pid) == []


def test_a_server_that_cannot_start_says_why(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = launch(tmp_path, port=taken.getsockname()[1])
        try:
            # The port belongs to somebody who never answers: ended or not, the server is not there.
            with pytest.raises(ServerNotStartedError, match=f"mlflow server at {server.uri}: "):
                wait_until_healthy(server, seconds=30)
        finally:
            stop(server)
    assert group(server.process.pid) == []


def test_stopping_a_server_that_was_killed_is_fine(tmp_path):
    server = launch(tmp_path)
    os.killpg(server.process.pid, signal.SIGKILL)
    stop(server)
    assert group(server.process.pid) == []

"""Start the servers that are measured, each a process (group) of its own, and know how to ask each of them."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rig.environments import MissingPeerError, python_of
from rig.load import Request
from rig.model import Saved

RIG = Path(__file__).parent
LOOPBACK = "127.0.0.1"
READY_SECONDS = 240.0
END_SECONDS = 10.0
_POLL_SECONDS = 0.5
_SAID = 400
Rows = NDArray[np.float64]


def v2_body(rows: Rows) -> bytes:
    """Return an inference request of the Open Inference Protocol."""
    tensor = {"name": "rows", "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


def invocations_body(rows: Rows) -> bytes:
    """Return a request of MLflow's scoring protocol."""
    return json.dumps({"inputs": rows.tolist()}).encode()


def v2_labels(answer: Any) -> list[bool]:
    """Return which rows are anomalous: ours says 1 for them, scikit-learn's own label is -1."""
    output = answer["outputs"][0]
    odd = 1 if output["name"] == "label" else -1
    return [label == odd for label in np.ravel(output["data"]).tolist()]


def invocations_labels(answer: Any) -> list[bool]:
    """Return which rows are anomalous."""
    return [label == -1 for label in answer["predictions"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where and how to ask a server."""

    name: str
    port: int
    path: str
    address: str = LOOPBACK
    body: Callable[[Rows], bytes] = v2_body
    labels: Callable[[Any], list[bool]] = v2_labels

    def request(self, rows: Rows) -> Request:
        """Return the request for some rows."""
        return Request(address=self.address, port=self.port, path=self.path, body=self.body(rows))

    def ask(self, rows: Rows) -> list[bool]:
        """Ask once and return which rows the server calls anomalous. Raises OSError or ValueError."""
        url = f"http://{self.address}:{self.port}{self.path}"
        request = urllib.request.Request(url, self.body(rows), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return self.labels(json.load(answer))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(
    command: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command and its children; end them all on the way out."""
    with log.open("wb") as file:
        started = subprocess.Popen(
            [str(word) for word in command],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            cwd=folder,
            start_new_session=True,
        )
    try:
        yield started
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(started.pid, number)
            except ProcessLookupError:
                break
            try:
                started.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                continue


def until_right(target: Target, running: subprocess.Popen[bytes], log: Path, saved: Saved) -> None:
    """Wait until a server answers with scikit-learn's own labels. Raises MissingPeerError if it never does."""
    rows, expected = saved.rows[:256], saved.anomalous[:256].tolist()
    end = time.monotonic() + READY_SECONDS
    problem = "no answer"
    while time.monotonic() < end and running.poll() is None:
        try:
            said = target.ask(rows)
        except urllib.error.HTTPError as error:
            problem = f"{error.code} {error.read()[:200]!r}"
        except (OSError, ValueError, KeyError) as error:
            problem = repr(error)
        else:
            if said != expected:
                raise MissingPeerError("its labels are not scikit-learn's")
            return
        time.sleep(_POLL_SECONDS)
    said_last = " ".join(log.read_text(errors="replace").split())[-_SAID:]
    raise MissingPeerError(f"does not serve: {problem}; its log ends: {said_last}")


@contextmanager
def mlserver(saved: Saved, place: Path) -> Iterator[Target]:
    """Run MLServer with its scikit-learn runtime, all its settings at their defaults but the ports."""
    python = python_of("mlserver")
    place.mkdir()
    ports = dict(zip(("http_port", "grpc_port", "metrics_port"), (free_port() for _ in range(3)), strict=True))
    (place / "settings.json").write_text(json.dumps({"host": LOOPBACK, **ports}))
    model = {"name": "forest", "implementation": "mlserver_sklearn.SKLearnModel"}
    (place / "model-settings.json").write_text(json.dumps(model | {"parameters": {"uri": "./model.joblib"}}))
    shutil.copy(saved.joblib_file, place / "model.joblib")
    target = Target(name="MLServer", port=ports["http_port"], path="/v2/models/forest/infer")
    log = place / "log"
    with process([python.with_name("mlserver"), "start", place], log=log, folder=place) as running:
        until_right(target, running, log, saved)
        yield target


@contextmanager
def kserve(saved: Saved, place: Path) -> Iterator[Target]:
    """Run KServe's model server with a model that does what its scikit-learn server does."""
    python = python_of("kserve")
    place.mkdir()
    port = free_port()
    target = Target(name="KServe", port=port, path="/v2/models/forest/infer")
    log = place / "log"
    command = [python, RIG / "kserve_server.py", saved.joblib_file, str(port)]
    with process(command, log=log, folder=place) as running:
        until_right(target, running, log, saved)
        yield target


@contextmanager
def mlflow(saved: Saved, place: Path) -> Iterator[Target]:
    """Run `mlflow models serve`."""
    python = python_of("mlflow")
    place.mkdir()
    port = free_port()
    target = Target(
        name="mlflow models serve",
        port=port,
        path="/invocations",
        body=invocations_body,
        labels=invocations_labels,
    )
    command = [python.with_name("mlflow"), "models", "serve", "-m", saved.mlflow_folder, "--env-manager", "local"]
    # It looks its own uvicorn up on the PATH.
    environment = {"PATH": f"{python.parent}:{os.environ['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = place / "log"
    with process(
        [*command, "-h", LOOPBACK, "-p", str(port)], log=log, environment=environment, folder=place
    ) as running:
        until_right(target, running, log, saved)
        yield target


PEERS = {"mlserver": mlserver, "kserve": kserve, "mlflow": mlflow}


@contextmanager
def idle(place: Path) -> Iterator[Target]:
    """Run a server that does nothing."""
    target = Target(name="a server that does nothing", port=free_port(), path="/")
    with process(
        [sys.executable, RIG / "idle_server.py", LOOPBACK, str(target.port)], log=place / "idle.log"
    ) as running:
        listening(running, LOOPBACK, target.port)
        yield target


def listening(running: subprocess.Popen[bytes], address: str, port: int) -> None:
    """Wait until a process takes connections; raises TimeoutError if it does not."""
    end = time.monotonic() + READY_SECONDS
    while running.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection((address, port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"nobody listens on {address}:{port}")

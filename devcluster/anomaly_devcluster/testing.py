"""A cluster for tests: fresh, in a folder of its own, gone when the test is."""

import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_COMMAND_SECONDS = 300
"""Longer than `kubectl wait` is asked to wait: its own answer says more than a command that was cut off."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster."""

    name: str
    state_home: Path

    @property
    def folder(self) -> Path:
        """Where the cluster keeps its state."""
        return self.state_home / "devcluster" / self.name

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "kubeconfig"

    @property
    def server(self) -> str:
        """The API server's URL."""
        return str(yaml.safe_load(self.kubeconfig.read_text())["clusters"][0]["cluster"]["server"])

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `devcluster` with these arguments for this cluster.

        Raises RuntimeError with what it said when it fails and `check` is set.
        """
        done = _devcluster(self.state_home, [arguments[0], "--name", self.name, *arguments[1:]])
        if check and done.returncode:
            raise RuntimeError(f"devcluster {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done

    def address(self, namespace: str, service: str) -> tuple[str, int]:
        """Return host and port where a Service is reached on this machine; raises RuntimeError if it is nowhere."""
        for line in self.command("status").stdout.splitlines():
            if line.split()[:2] == ["service", f"{namespace}/{service}"]:
                host, _, port = line.split()[3].strip(",").partition(":")
                return host, int(port)
        raise RuntimeError(f"`devcluster status` does not list Service {namespace}/{service}")

    def load_image(self, name: str, command: Sequence[str]) -> None:
        """Let an image's name stand for a command."""
        from anomaly_devcluster.node.images import ImageTable  # noqa: PLC0415 - keeps the import of this module light

        ImageTable(self.folder / "images.json").load(name, list(command))

    def kubectl(self, *arguments: str, check: bool = True, stdin: Any = None) -> str:
        """Run kubectl against this cluster and return what it printed.

        `stdin` is text, or objects that are sent as YAML documents. Raises RuntimeError with what kubectl said when it
        fails and `check` is set; without `check` the answer holds both of its outputs.
        """
        if stdin is not None and not isinstance(stdin, str):
            stdin = yaml.safe_dump_all(stdin if isinstance(stdin, list) else [stdin])
        program = Path(sys.executable).with_name("kubectl")
        command = [str(program) if program.exists() else "kubectl", "--kubeconfig", str(self.kubeconfig), *arguments]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False
        )
        if check and done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        said: str = done.stdout if check else done.stdout + done.stderr
        return said


@contextmanager
def cluster(*options: str, name: str | None = None) -> Iterator[Cluster]:
    """Run a cluster for the duration of the context; `options` are those of `devcluster up`.

    If this process is killed the cluster ends by itself and removes the temporary folder.

    Raises RuntimeError with what `devcluster up` said if it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="devcluster-", ignore_cleanup_errors=True) as folder:
        made = Cluster(name or f"test-{uuid.uuid4().hex[:8]}", Path(folder))
        with _started(made, options):
            yield made


@contextmanager
def _started(made: Cluster, options: Sequence[str]) -> Iterator[None]:
    from anomaly_devcluster import state  # noqa: PLC0415 - keeps the import of this module light

    asked = ["--die-with-parent", "--name", made.name, *options]
    with tempfile.TemporaryFile() as log:  # without a name, so that nobody has to remove it
        process, server = state.launch(asked, _environment(made.state_home), log, session=True)
        try:
            if not server:
                log.seek(0)
                said = log.read().decode(errors="replace")
                raise RuntimeError(f"the cluster did not start:\n{said[-4000:]}")
            yield
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _environment(state_home: Path) -> dict[str, str]:
    hidden = ("DEVCLUSTER_RUN", "DEVCLUSTER_READY_FD", "KUBECONFIG")
    env = {key: value for key, value in os.environ.items() if key not in hidden}
    return env | {"XDG_STATE_HOME": str(state_home)}


def _devcluster(state_home: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "anomaly_devcluster", *arguments],
        env=_environment(state_home),
        capture_output=True,
        text=True,
        timeout=_COMMAND_SECONDS,
        check=False,
    )

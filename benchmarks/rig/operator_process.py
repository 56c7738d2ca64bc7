"""The operator as a process of its own, as the benchmarks start, ask and weigh it."""

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

BIN = Path(sys.executable).parent
POLL = 0.05
_SAMPLE = re.compile(r"^(\w+)(?:{(.*)})? (\S+)$", re.MULTILINE)


def admin_key(folder: Path) -> Path:
    """Return the file with the key that pods know the operator by; made once a folder."""
    key = folder / "key.pem"
    if not key.exists():
        private = Ed25519PrivateKey.generate()
        key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key


class OperatorProcess:
    """One replica. It is started by the constructor."""

    def __init__(self, folder: Path, kubeconfig: Path, *, port: int, **settings: str) -> None:
        values = {
            "NAMESPACE": "default",
            "IDENTITY": "benchmark",
            "ADMIN_KEY_FILE": str(admin_key(folder)),
            "BIND": "127.0.0.1",
            "PORT": str(port),
            "LOG_LEVEL": "warning",
        } | settings
        environment = {f"ANOMALY_OPERATOR_{name}": value for name, value in values.items()}
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "operator.log"
        self.started = time.perf_counter()
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(BIN / "anomaly-operator")],
                env=os.environ | environment | {"KUBECONFIG": str(kubeconfig)},
                stdout=output,
                stderr=output,
            )
        self._seen = psutil.Process(self._process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def resident(self) -> float:
        """Resident memory, megabytes."""
        return float(self._seen.memory_info().rss) / 1e6

    @property
    def cpu_seconds(self) -> float:
        times = self._seen.cpu_times()
        return float(times.user + times.system)

    def wait_ready(self, seconds: float = 120) -> float:
        """Wait for /readyz; return the seconds since the start."""
        while True:
            self.check(seconds)
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=5):
                    return time.perf_counter() - self.started
            except (urllib.error.URLError, OSError):
                time.sleep(POLL)

    def check(self, seconds: float) -> None:
        """Raise RuntimeError with the log if the process has ended, or lives longer than it was given."""
        if self._process.poll() is not None or time.perf_counter() - self.started > seconds:
            raise RuntimeError(f"the operator did not get there:\n{self.log.read_text()[-4000:]}")

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=60) as answer:
            text = answer.read().decode()
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        return sum(
            float(value)
            for found, said, value in _SAMPLE.findall(text)
            if found == name and wanted <= set((said or "").split(","))
        )

    def wait_quiet(self, *, quiet: float, seconds: float, allowance: float = 0) -> None:
        """Wait until for `quiet` seconds nothing waits and no more than `allowance` actions a second are taken.

        Raises RuntimeError after `seconds`.
        """
        deadline = time.perf_counter() + seconds
        since, before = time.perf_counter(), -1.0
        while True:
            self.check(deadline - self.started)
            now = time.perf_counter()
            done = self.metric("anomaly_operator_actions_total")
            busy = not self.metric("anomaly_operator_leader") or self.metric("anomaly_operator_queue_depth") > 2
            if busy or not done or done - before > allowance * quiet:
                since, before = now, done
            elif now - since >= quiet:
                return
            time.sleep(min(0.1, quiet / 4))

    def stop(self) -> None:
        """End it gracefully: it gives its Lease back."""
        self._process.terminate()
        self._process.wait(20)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

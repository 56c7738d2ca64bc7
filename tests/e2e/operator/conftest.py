"""The operator as a process of its own under its own ServiceAccount, with everything around it real."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.plugins.devcluster import wait_until_served
from tests.plugins.installed_chart import SYSTEM, rendered

from anomaly_operator.adapters.kube import Kube
from anomaly_operator.adapters.kubeconfig import KubeConfig
from anomaly_operator.adapters.lease import NAME
from anomaly_operator.crdgen import crd

BIN = Path(sys.executable).parent
IMAGE = "anomaly-detector:e2e"
REGISTERED = "operator-e2e"
TRACK = "anomalymodel.dev/model=cpu,anomalymodel.dev/color="


@pytest.fixture(scope="session")
def kubeconfig(cluster):
    return KubeConfig.from_file(cluster.kubeconfig)


@pytest.fixture
async def kube(kubeconfig):
    async with Kube(kubeconfig) as client:
        yield client


@pytest.fixture(scope="session")
def defined(cluster):
    """The cluster, once it knows AnomalyModels."""
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=[crd()])
    wait_until_served(cluster, crd())
    return cluster


class OperatorProcess:
    """One replica."""

    def __init__(self, environment, log):
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(BIN / "anomaly-operator")], env=os.environ | environment, stderr=output, stdout=output
            )

    @property
    def lines(self):
        whole, _, _ = self.log.read_text().rpartition("\n")  # the last line may be half written
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def wait_for(self, message):
        """Return the log line with this message as soon as there is one."""
        return self.wait_for_line(lambda line: line["message"] == message)

    def wait_for_line(self, wanted, *, seconds=60):
        """Return a log line as soon as there is one that is wanted."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self._process.poll() is None, self.log.read_text()
            found = [line for line in self.lines if wanted(line)]
            if found:
                return found[-1]
            time.sleep(0.02)
        raise AssertionError(f"what was awaited is not in the log:\n{self.log.read_text()[-4000:]}")

    def wait_for_last(self, message):
        """Return the newest log line with this message of a process that has ended."""
        return [line for line in self.lines if line["message"] == message][-1]

    def metric(self, name):
        """Return the value of a metric, labels and all; 0 if it was never counted."""
        where = f"http://127.0.0.1:{self.wait_for('listening')['port']}/metrics"
        lines = urllib.request.urlopen(where, timeout=30).read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == name)

    def exit_code(self):
        return self._process.wait(90)

    def terminate(self):
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(90)

    def kill(self):
        self._process.kill()
        self._process.wait()

    @property
    def running(self):
        return self._process.poll() is None


@pytest.fixture(scope="module")
def chart_values():
    """Values of the chart that a module wants otherwise."""
    return {}


@pytest.fixture(scope="module")
def start_operator(defined, mlflow_server, tmp_path_factory, chart_values):
    """Return a function that starts a replica with the rights that the chart gives it, and no others."""
    folder = tmp_path_factory.mktemp("operator")
    defined.load_image(IMAGE, [str(BIN / "anomaly-detector"), "--bind", "$(POD_IP)"])
    defined.kubectl("create", "namespace", SYSTEM, check=False)
    objects = [o for o in rendered({"replicas": 0} | chart_values) if o["kind"] != "CustomResourceDefinition"]
    defined.kubectl("apply", "-f", "-", stdin=objects)
    key = folder / "key.pem"
    private = Ed25519PrivateKey.generate()
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    token = defined.kubectl("create", "token", "anomaly-operator", "-n", SYSTEM, "--duration=1h").strip()
    own = folder / "kubeconfig"
    content = yaml.safe_load(defined.kubeconfig.read_text())
    content["users"] = [{"name": content["users"][0]["name"], "user": {"token": token}}]
    own.write_text(yaml.safe_dump(content))
    started = []

    def start(name, **settings):
        values = {
            "NAMESPACE": SYSTEM,
            "IDENTITY": name,
            "DETECTOR_IMAGE": IMAGE,
            "TRACKING_URI": mlflow_server.uri,
            "ADMIN_KEY_FILE": str(key),
            "REPORT_HEARTBEAT_SECONDS": "1",
            "READINESS_PERIOD_SECONDS": "1",
            "LEASE_SECONDS": "10",  # a busy machine does not lose it; tests of failover take less
            "BIND": "127.0.0.1",
            "PORT": "0",
        } | settings
        environment = {f"ANOMALY_OPERATOR_{k}": v for k, v in values.items()} | {"KUBECONFIG": str(own)}
        process = OperatorProcess(environment, folder / f"{name}.log")
        started.append(process)
        return process

    yield start
    for process in started:
        if process.running:
            process.kill()


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Return a function that registers two good versions with a registry, once; training takes seconds."""
    rng = np.random.default_rng(0)
    rows = rng.gamma(3.0, size=(2000, 3)) + 0.1
    data = tmp_path_factory.mktemp("data") / "rows.csv"
    np.savetxt(data, rows, delimiter=",", header="cpu_percent,memory_percent,network_mbps", comments="")

    @cache
    def train(uri):
        command = [str(BIN / "anomaly-train"), "--data", str(data), "--tracking-uri", uri, "--no-plots", "--json"]
        command += ["--model", REGISTERED]
        # A server that has just started takes longer than the command waits for by itself.
        env = os.environ | {"MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}
        runs = [subprocess.check_output(command, env=env, text=True, timeout=600) for _ in range(2)]
        return [str(json.loads(printed)["version"]) for printed in runs]

    return train


@pytest.fixture(scope="module")
def versions(mlflow_server, trained):
    """Two good versions; the alias `champion` stands on none of them."""
    return trained(mlflow_server.uri)


@pytest.fixture
def alias(mlflow_server, namespace):
    """Return the name of an alias for this test alone, and a function that moves it."""
    from mlflow import MlflowClient  # noqa: PLC0415 - takes seconds

    client = MlflowClient(mlflow_server.uri)
    return namespace, lambda version: client.set_registered_model_alias(REGISTERED, namespace, version)


@pytest.fixture(scope="module")
def leading(start_operator, defined):
    """Return a function that starts another replica and returns when it leads; one with the same settings stays."""
    replicas, wanted = [], None

    def lead(*, fresh=False, **settings):
        nonlocal wanted
        if replicas and replicas[-1].running and settings != wanted:
            replicas[-1].kill()
        if fresh or not replicas or not replicas[-1].running:
            # One that was killed holds the Lease still: waiting for its end is what test_process is about.
            defined.kubectl("delete", "lease", NAME, "-n", SYSTEM, "--ignore-not-found")
            replicas.append(start_operator(f"replica-{len(replicas)}", **settings))
            replicas[-1].wait_for("leader")
            wanted = settings
        return replicas[-1]

    return lead


@pytest.fixture
def replica(leading):
    """A replica that leads; the one of the test before, unless that has killed it."""
    return leading()


@pytest.fixture
def promoted(defined, namespace, versions, alias):
    """A model whose second version serves users on green; the first is still warm on blue. The operator must run."""

    def make(**spec):
        name, move = alias
        move(versions[0])
        defined.kubectl("apply", "-f", "-", stdin=[model(namespace, name, **spec)])
        wait(defined, namespace, f"jsonpath={{.status.active.version}}={versions[0]}")
        wait(defined, namespace, "condition=Ready")
        assert selected(defined, namespace)[0] == "blue"
        move(versions[1])
        wait(defined, namespace, f"jsonpath={{.status.active.version}}={versions[1]}")
        assert selected(defined, namespace)[0] == "green"

    return make


@contextmanager
def faults(cluster, *rule):
    """Have requests fail for the duration of the context."""
    cluster.command("faults", "add", *rule)
    try:
        yield
    finally:
        cluster.command("faults", "clear")


def model(namespace, alias, **spec):
    """Return an AnomalyModel that goes through its rollout in seconds."""
    return {
        "apiVersion": "anomalymodel.dev/v1alpha1",
        "kind": "AnomalyModel",
        "metadata": {"name": "cpu", "namespace": namespace},
        "spec": {
            "model": {"name": REGISTERED, "alias": alias, "pollInterval": "500ms"},
            "detector": {"replicas": 2},
            "service": {"port": 8000},
            "blueGreen": {
                "prePromotionAnalysis": {"duration": "1s", "interval": "500ms", "smokeTest": {"rows": 64}},
            },
            # Latency says how busy the machine is that tests run on, and 64 rows say nothing about a rate.
            "gates": {"latency": {"enabled": False}, "anomalyRate": {"enabled": False}},
        }
        | spec,
    }


def wait(cluster, namespace, condition, seconds=90):
    cluster.kubectl("wait", "am/cpu", "-n", namespace, f"--for={condition}", f"--timeout={seconds}s")


def status(cluster, namespace):
    return json.loads(cluster.kubectl("get", "am", "cpu", "-n", namespace, "-o", "json"))["status"]


def condition(found, name):
    return next(c for c in found["conditions"] if c["type"] == name)


def selected(cluster, namespace):
    service = json.loads(cluster.kubectl("get", "svc", "cpu", "-n", namespace, "-o", "json"))
    decision = service["metadata"]["annotations"].get("anomalymodel.dev/decision")
    return service["spec"]["selector"]["anomalymodel.dev/color"], json.loads(decision) if decision else None


def annotate(cluster, namespace, color, *values):
    labels = f"anomalymodel.dev/model=cpu,anomalymodel.dev/color={color}"
    cluster.kubectl("annotate", "pods", "-n", namespace, "-l", labels, "--overwrite", *values)


def edit(cluster, namespace, **spec):
    cluster.kubectl("patch", "am", "cpu", "-n", namespace, "--type=merge", "-p", json.dumps({"spec": spec}))


def pods(cluster, namespace, color):
    return json.loads(cluster.kubectl("get", "pods", "-n", namespace, "-l", TRACK + color, "-o", "json"))["items"]


def servers(namespace, color):
    """Return the processes that serve on a color."""
    found = []
    for process in psutil.process_iter():
        try:
            said = process.environ()
            if (said.get("ANOMALY_NAMESPACE"), said.get("ANOMALY_COLOR")) == (namespace, color):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return [process for process in found if process.pid != os.getpid()]


def eventually(fact, seconds=300):
    """Wait until a fact holds and return it."""
    end = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < end, "what was awaited did not happen"
        time.sleep(0.1)
    return found


def outcomes(cluster, namespace):
    return [entry["outcome"] for entry in status(cluster, namespace)["history"]]

"""What the tests of the devcluster's node and controllers share."""

import json
import sys
import time
import urllib.request
from pathlib import Path

import pytest

WEB = Path(__file__).with_name("web.py")
_PATIENCE_SECONDS = 90


def eventually(question, wanted=None):
    """Ask until the answer is `wanted` (or true, if nothing is wanted); fail with the last answer."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        answer = question()
        if answer == wanted if wanted is not None else answer:
            return answer
        if time.monotonic() > end:
            pytest.fail(f"expected {wanted!r}, but after {_PATIENCE_SECONDS} s it is still {answer!r}")
        time.sleep(0.05)


class World:
    """A namespace of the cluster with the images that the tests use."""

    def __init__(self, cluster, namespace):
        self.cluster = cluster
        self.namespace = namespace

    def kubectl(self, *arguments, **options):
        return self.cluster.kubectl("-n", self.namespace, *arguments, **options)

    def apply(self, *objects):
        return self.kubectl("apply", "-f", "-", stdin=list(objects))

    def get(self, kind, name=None, *options):
        answer = json.loads(self.kubectl("get", kind, *([name] if name else []), "-o", "json", *options))
        return answer if name else answer["items"]

    def pods(self, selector):
        return [p for p in self.get("pods", None, "-l", selector) if "deletionTimestamp" not in p["metadata"]]

    def wait(self, condition, what, seconds=90):
        self.kubectl("wait", f"--for={condition}", what, f"--timeout={seconds}s")

    def address(self, service):
        """Return host and port where a Service is reached on this machine."""
        return self.cluster.address(self.namespace, service)

    def ask(self, pod, path="/", *, post=False):
        """Send a request to a pod itself."""
        url = f"http://{pod['status']['podIP']}:8080{path}"
        with urllib.request.urlopen(url, data=b"" if post else None, timeout=60) as answer:
            return answer.read().decode()

    def pod(self, name):
        return self.get("pod", name)


@pytest.fixture
def world(cluster, namespace):
    cluster.load_image("web", [sys.executable, str(WEB), "$(POD_IP)", "8080"])
    cluster.load_image("python", [sys.executable, "-c"])
    return World(cluster, namespace)


def web_template(labels, *, probe=True, **spec):
    """Return the template of a pod that runs the small server."""
    container = {"name": "web", "image": "web", "ports": [{"name": "http", "containerPort": 8080}]}
    if probe:
        container["readinessProbe"] = {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1}
    container |= spec.pop("container", {})
    return {"metadata": {"labels": labels}, "spec": {"containers": [container], **spec}}


def deployment(name, replicas, labels, *, template=None, **spec):
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": template or web_template(labels),
            **spec,
        },
    }


def service(name, selector, port=8000):
    ports = [{"name": "http", "port": port, "targetPort": "http"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": selector, "ports": ports},
    }


def script_pod(name, code, *, policy="Never", container=None, **spec):
    """Return a pod that runs a few lines of Python."""
    runs = {"name": "main", "image": "python", "args": [code], **(container or {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"restartPolicy": policy, "containers": [runs], **spec},
    }

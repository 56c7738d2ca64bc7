"""A breach at the worst moment: whole rollouts with everything around the operator real."""

import json

import pytest
from tests.e2e.operator.conftest import annotate, selected, status, wait

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("replica")]

ERRORS = "anomalymodel.dev/error-rate=0.5"
TRACK = "anomalymodel.dev/model=cpu,anomalymodel.dev/color="


@pytest.fixture
def replica(leading):
    """A replica that leads, with a Lease that a busy machine does not lose: failover is not what is tested here."""
    return leading(LEASE_SECONDS="8")


def edit(cluster, namespace, **spec):
    cluster.kubectl("patch", "am", "cpu", "-n", namespace, "--type=merge", "-p", json.dumps({"spec": spec}))


def pods(cluster, namespace, color):
    return json.loads(cluster.kubectl("get", "pods", "-n", namespace, "-l", TRACK + color, "-o", "json"))["items"]


def outcomes(cluster, namespace):
    return [entry["outcome"] for entry in status(cluster, namespace)["history"]]


@pytest.mark.switchboard
def test_a_breach_is_rolled_back_though_no_pod_of_the_sick_color_is_ready(defined, namespace, promoted):
    promoted()
    defined.command("faults", "node", "stop")  # the kubelet neither sees nor changes anything any more
    try:
        unready = json.dumps({"status": {"conditions": [{"type": "Ready", "status": "False"}]}})
        annotate(defined, namespace, "green", ERRORS)
        for pod in pods(defined, namespace, "green"):
            name = pod["metadata"]["name"]
            defined.kubectl("patch", "pod", name, "-n", namespace, "--subresource=status", "-p", unready)
        blue = "--for=jsonpath={.spec.selector.anomalymodel\\.dev/color}=blue"
        defined.kubectl("wait", "svc/cpu", "-n", namespace, blue, "--timeout=30s")
    finally:
        defined.command("faults", "node", "resume")
    assert outcomes(defined, namespace)[0] == "RolledBack"


def test_a_breach_while_everything_is_paused_is_rolled_back(defined, namespace, promoted):
    promoted()
    edit(defined, namespace, paused=True)
    wait(defined, namespace, "jsonpath={.status.phase}=Paused")
    annotate(defined, namespace, "green", ERRORS)
    wait(defined, namespace, "jsonpath={.status.active.color}=blue", 30)
    assert selected(defined, namespace)[1]["outcome"] == "RolledBack"

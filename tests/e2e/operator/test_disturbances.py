"""A breach at the worst moment: whole rollouts with everything around the operator real."""

import json

import pytest
from tests.e2e.operator.conftest import (
    BIN,
    IMAGE,
    annotate,
    condition,
    edit,
    eventually,
    model,
    outcomes,
    pods,
    selected,
    status,
    wait,
)

# The first test waits for all fixtures.
pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("replica"), pytest.mark.timeout(900)]

ERRORS = "anomalymodel.dev/error-rate=0.5"


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
        defined.kubectl("wait", "svc/cpu", "-n", namespace, blue, "--timeout=90s")
    finally:
        defined.command("faults", "node", "resume")
    eventually(lambda: outcomes(defined, namespace)[0] == "RolledBack")


def test_a_breach_while_everything_is_paused_is_rolled_back(defined, namespace, promoted):
    promoted()
    edit(defined, namespace, paused=True)
    wait(defined, namespace, "jsonpath={.status.phase}=Paused")
    annotate(defined, namespace, "green", ERRORS)
    wait(defined, namespace, "jsonpath={.status.active.color}=blue")
    assert selected(defined, namespace)[1]["outcome"] == "RolledBack"


def test_a_way_back_that_cannot_get_ready_is_said_and_gives_way_to_a_newer_revision(
    defined, namespace, versions, alias
):
    name, move = alias
    move(versions[0])
    defined.load_image("anomaly-detector:old", [str(BIN / "anomaly-detector"), "--bind", "$(POD_IP)"])
    body = model(namespace, name, detector={"replicas": 1, "image": "anomaly-detector:old"})
    body["spec"] |= {"progressDeadlineSeconds": 6}
    body["spec"]["blueGreen"] |= {"scaleDownDelaySeconds": 0, "abortScaleDownDelaySeconds": 0}
    defined.kubectl("apply", "-f", "-", stdin=[body])
    wait(defined, namespace, "condition=Ready")
    edit(defined, namespace, detector={"image": IMAGE})
    wait(defined, namespace, "jsonpath={.status.active.color}=green")
    wait(defined, namespace, "condition=Ready")
    eventually(lambda: not pods(defined, namespace, "blue"))
    defined.load_image("anomaly-detector:old", ["/there/is/no/such/program"])

    annotate(defined, namespace, "green", ERRORS)
    wait(defined, namespace, "condition=Stalled")
    found = status(defined, namespace)
    assert condition(found, "Stalled")["reason"] == "RollingBack"
    assert condition(found, "Servable")["status"] == "True"
    assert selected(defined, namespace)[0] == "green"
    edit(defined, namespace, detector={"env": [{"name": "THIRD", "value": "1"}]})
    wait(defined, namespace, "jsonpath={.status.active.color}=blue")
    found = status(defined, namespace)
    assert outcomes(defined, namespace) == ["Promoted", "Promoted", "Promoted"]
    assert len(found["quarantine"]) == 1
    assert "retreat" not in found

"""A breach, or a change of mind, at the worst moment: whole rollouts with everything around the operator real."""

import json
import time
import urllib.request

import numpy as np
import pytest
from tests.e2e.operator.conftest import (
    annotate,
    condition,
    edit,
    eventually,
    faults,
    model,
    outcomes,
    pods,
    selected,
    servers,
    status,
    wait,
)

# The first test waits for all fixtures.
pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("replica"), pytest.mark.timeout(900)]

ERRORS = "anomalymodel.dev/error-rate=0.5"


def held_in_analysis(cluster, namespace):
    """Prolong the analysis of a candidate that is there: before that, the active one would be guarded as long."""
    wait(cluster, namespace, "jsonpath={.status.candidate.color}")
    edit(cluster, namespace, blueGreen={"prePromotionAnalysis": {"duration": "10m"}})
    wait(cluster, namespace, "jsonpath={.status.step}=Analyse")


def test_a_version_that_crashes_again_and_again_after_its_promotion_is_rolled_back(
    defined, namespace, versions, promoted
):
    promoted()

    def crashed_often_enough():
        for process in servers(namespace, "green"):
            process.kill()
        return selected(defined, namespace)[0] == "blue"

    eventually(crashed_often_enough, seconds=90)
    assert selected(defined, namespace)[1]["reason"] == "Unavailable"
    wait(defined, namespace, "condition=Stalled")
    assert [q["version"] for q in status(defined, namespace)["quarantine"]] == [versions[1]]


def test_a_breach_while_a_third_version_is_analysed_sends_that_away_unjudged_and_goes_back(
    defined, namespace, versions, promoted
):
    promoted()
    edit(defined, namespace, detector={"env": [{"name": "THIRD", "value": "1"}]})
    held_in_analysis(defined, namespace)
    annotate(defined, namespace, "green", ERRORS)
    wait(defined, namespace, f"jsonpath={{.status.active.version}}={versions[0]}")
    assert selected(defined, namespace)[1]["outcome"] == "RolledBack"
    assert outcomes(defined, namespace) == ["RolledBack", "Promoted", "Promoted"]
    assert [q["version"] for q in status(defined, namespace)["quarantine"]] == [versions[1]]


def test_pods_that_come_with_the_full_size_have_answered_reference_rows_before_users_reach_them(
    defined, namespace, versions, alias
):
    name, move = alias
    move(versions[0])
    body = model(namespace, name)
    body["spec"]["blueGreen"]["previewReplicaCount"] = 1
    defined.kubectl("apply", "-f", "-", stdin=[body])
    wait(defined, namespace, "condition=Ready")
    move(versions[1])
    wait(defined, namespace, "jsonpath={.status.active.color}=green")
    serving = pods(defined, namespace, "green")
    assert len(serving) == 2
    for pod in serving:
        exposed = urllib.request.urlopen(f"http://{pod['status']['podIP']}:9090/metrics", timeout=10).read().decode()
        replayed = [line for line in exposed.splitlines() if "requests_total" in line and 'source="replay"' in line]
        assert sum(float(line.rsplit(" ", 1)[1]) for line in replayed) >= 16, "64 rows, 4 at a time"


def test_a_policy_that_is_removed_is_said_of_a_version_that_serves(defined, namespace, versions, alias):
    name, move = alias
    move(versions[0])
    defined.kubectl("apply", "-f", "-", stdin=[model(namespace, name)])
    wait(defined, namespace, "condition=Ready")
    binding = "validatingadmissionpolicybinding/anomaly-detector"
    body = json.loads(defined.kubectl("get", binding, "-o", "json"))
    defined.kubectl("delete", binding)
    try:
        wait(defined, namespace, "condition=Stalled")
        found = status(defined, namespace)
        assert condition(found, "Stalled")["reason"] == "PolicyMissing"
        assert condition(found, "Servable")["status"] == "True"
    finally:
        kept = {"name": body["metadata"]["name"], "labels": body["metadata"].get("labels", {})}
        defined.kubectl("apply", "-f", "-", stdin=[body | {"metadata": kept}])
    wait(defined, namespace, "condition=Ready")


def test_a_child_whose_name_somebody_else_takes_is_said_of_a_version_that_serves(defined, namespace, versions, alias):
    name, move = alias
    move(versions[0])
    defined.kubectl("apply", "-f", "-", stdin=[model(namespace, name)])
    wait(defined, namespace, "condition=Ready")
    theirs = '[{"op":"remove","path":"/metadata/ownerReferences"}]'
    defined.kubectl("patch", "configmap", "cpu-anomaly-detector", "-n", namespace, "--type=json", "-p", theirs)
    wait(defined, namespace, "condition=Stalled")
    found = condition(status(defined, namespace), "Stalled")
    assert found["reason"] == "NameTaken"
    assert "ConfigMap cpu-anomaly-detector" in found["message"]
    defined.kubectl("delete", "configmap", "cpu-anomaly-detector", "-n", namespace)
    wait(defined, namespace, "condition=Ready")


def test_an_emptied_selector_is_filled_again_and_promotes_nothing(defined, namespace, promoted):
    promoted()
    empty = '[{"op":"remove","path":"/spec/selector"}]'
    defined.kubectl("patch", "svc", "cpu", "-n", namespace, "--type=json", "-p", empty)
    green = "--for=jsonpath={.spec.selector.anomalymodel\\.dev/color}=green"
    defined.kubectl("wait", "svc/cpu", "-n", namespace, green, "--timeout=90s")
    assert outcomes(defined, namespace) == ["Promoted", "Promoted"]


def test_deletion_while_a_second_version_is_analysed_takes_everything_along(defined, namespace, versions, alias):
    name, move = alias
    move(versions[0])
    defined.kubectl("apply", "-f", "-", stdin=[model(namespace, name)])
    wait(defined, namespace, "condition=Ready")
    move(versions[1])
    held_in_analysis(defined, namespace)
    defined.kubectl("delete", "am", "cpu", "-n", namespace, "--timeout=90s")
    for child in ("svc/cpu", "deployment/cpu-blue", "deployment/cpu-green", "configmap/cpu-anomaly-detector"):
        defined.kubectl("wait", "--for=delete", child, "-n", namespace, "--timeout=90s")
    eventually(lambda: not pods(defined, namespace, "blue") and not pods(defined, namespace, "green"))


@pytest.mark.switchboard
def test_a_rejection_that_cannot_be_recorded_at_first_is_told_once(replica, defined, namespace, versions, alias):
    name, move = alias
    move(versions[0])
    defined.kubectl("apply", "-f", "-", stdin=[model(namespace, name)])
    wait(defined, namespace, "condition=Ready")
    move(versions[1])
    held_in_analysis(defined, namespace)
    refused = ("--resource", "anomalymodels/status", "--verb", "patch", "--namespace", namespace, "--code", "503")
    with faults(defined, "fail", *refused):
        annotate(defined, namespace, "green", ERRORS)
        replica.wait_for_line(lambda line: line.get("namespace") == namespace and "503" in line["message"])
    eventually(lambda: outcomes(defined, namespace)[0] == "Aborted")
    replica.wait_for_line(lambda line: line.get("decision", {}).get("outcome") == "Aborted")
    logged = [line for line in replica.lines if line.get("namespace") == namespace and "decision" in line]
    assert [line["decision"]["outcome"] for line in logged] == ["Promoted", "Aborted"]

    def events():
        listed = json.loads(defined.kubectl("get", "events", "-n", namespace, "-o", "json"))["items"]
        return [event for event in listed if event["reason"] == "Aborted"]

    eventually(events)
    assert len(events()) == 1


def world_that_drifted(cluster, namespace, address, holds):
    """Ask with rows unlike those of the training until a fact holds."""
    rows = (np.random.default_rng(3).gamma(3.0, size=(32, 3)) * [1.0, 2.5, 1.0] + [0.0, 5.0, 0.0]).tolist()
    body = json.dumps({"rows": rows}).encode()
    end = time.monotonic() + 120
    while not holds(status(cluster, namespace)):
        assert time.monotonic() < end, status(cluster, namespace)
        for _ in range(5):
            request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
            urllib.request.urlopen(request, timeout=10).read()


@pytest.mark.parametrize("standby", ["warm", "gone"])
def test_a_world_that_drifts_keeps_its_version_with_and_without_a_standby(
    defined, namespace, versions, promoted, standby
):
    delay = 1800 if standby == "warm" else 0
    spec = {"drift": {"window": 64, "consecutiveChecks": 1}, "detector": {"replicas": 1}}
    promoted(**spec)
    edit(defined, namespace, blueGreen={"scaleDownDelaySeconds": delay})
    wait(defined, namespace, "condition=Ready")
    if standby == "gone":
        eventually(lambda: not pods(defined, namespace, "blue"))
    host, port = defined.address(namespace, "cpu")
    address = f"http://{host}:{port}/predict"
    world_that_drifted(
        defined, namespace, address, lambda found: condition(found, "Drifted")["reason"] in ("Drifted", "NoControl")
    )
    found = status(defined, namespace)
    assert condition(found, "Drifted")["reason"] == "Drifted", "the last good version saw it too"
    assert (found["active"]["version"], selected(defined, namespace)[0]) == (versions[1], "green")
    assert outcomes(defined, namespace) == ["Promoted", "Promoted"]

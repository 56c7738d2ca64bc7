"""Whole rollouts: the operator as a process, detectors, registry and API server all real."""

import json

import pytest
from tests.e2e.operator.conftest import annotate, condition, eventually, faults, model, selected, status, wait

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]  # the first test waits for all fixtures


def test_a_version_is_deployed_promoted_and_rolled_back(replica, defined, namespace, versions, promoted):
    promoted()
    wait(defined, namespace, "condition=Ready")
    assert status(defined, namespace)["phase"] == "Healthy"

    annotate(defined, namespace, "green", "anomalymodel.dev/error-rate=0.5")
    wait(defined, namespace, f"jsonpath={{.status.active.version}}={versions[0]}")
    color, decision = selected(defined, namespace)
    assert (color, decision["outcome"], decision["reason"]) == ("blue", "RolledBack", "ErrorRateExceeded")

    wait(defined, namespace, "condition=Ready=False")
    found = status(defined, namespace)
    assert found["phase"] == "Degraded"
    assert condition(found, "Servable")["status"] == "True"
    assert condition(found, "Stalled")["status"] == "True"
    assert [entry["outcome"] for entry in found["history"]] == ["RolledBack", "Promoted", "Promoted"]
    assert found["history"][0]["evidence"][0]["metric"] == "errorRate"
    assert [q["version"] for q in found["quarantine"]] == [versions[1]]
    # The same as a log line and as an Event for people.
    replica.wait_for_line(
        lambda line: line.get("namespace") == namespace and line.get("decision", {}).get("outcome") == "RolledBack"
    )
    logged = [
        line["decision"]["outcome"]
        for line in replica.lines
        if line.get("namespace") == namespace and "decision" in line
    ]
    assert logged == ["Promoted", "Promoted", "RolledBack"]

    def events():
        found = json.loads(defined.kubectl("get", "events", "-n", namespace, "-o", "json"))["items"]
        return [e["reason"] for e in found if e["involvedObject"]["kind"] == "AnomalyModel"]

    eventually(lambda: "RolledBack" in events())
    assert events().count("RolledBack") == 1


@pytest.mark.switchboard
def test_an_operator_killed_between_the_switch_and_its_record_ends_where_it_would_have(
    replica, leading, defined, namespace, versions, promoted
):
    promoted()
    refused = ("--resource", "anomalymodels/status", "--verb", "patch", "--namespace", namespace, "--code", "503")
    with faults(defined, "fail", *refused):
        annotate(defined, namespace, "green", "anomalymodel.dev/error-rate=0.5")
        color = "jsonpath={.spec.selector.anomalymodel\\.dev/color}=blue"
        defined.kubectl("wait", "svc/cpu", "-n", namespace, f"--for={color}", "--timeout=90s")
        replica.kill()
        # What the operator knew is gone, and status still says that the bad version is active.
        assert status(defined, namespace)["active"]["version"] == versions[1]
    leading(fresh=True)
    wait(defined, namespace, f"jsonpath={{.status.active.version}}={versions[0]}")
    assert selected(defined, namespace)[0] == "blue"
    found = status(defined, namespace)
    assert [entry["outcome"] for entry in found["history"]] == ["RolledBack", "Promoted", "Promoted"]
    assert [q["version"] for q in found["quarantine"]] == [versions[1]]


def test_a_breach_while_the_registry_is_unreachable_is_rolled_back_by_an_operator_that_never_reached_it(
    replica, leading, defined, namespace, versions, promoted
):
    promoted()
    # The last thing that follows a switch.
    color = "jsonpath={.spec.selector.anomalymodel\\.dev/color}=blue"
    defined.kubectl("wait", "svc/cpu-preview", "-n", namespace, f"--for={color}", "--timeout=90s")
    replica.kill()
    fresh = leading(fresh=True, TRACKING_URI="http://127.0.0.1:1")
    annotate(defined, namespace, "green", "anomalymodel.dev/drift-confidence=1.0")
    wait(defined, namespace, f"jsonpath={{.status.active.version}}={versions[0]}")
    color, decision = selected(defined, namespace)
    assert (color, decision["outcome"], decision["reason"]) == ("blue", "RolledBack", "DriftDetected")
    # It found everything as the replica before had left it, but for the preview, whose standby serves now.
    applied = 'anomaly_operator_actions_total{action="ApplyChild",outcome="done"}'
    eventually(lambda: fresh.metric(applied))
    assert fresh.metric(applied) == 1
    assert fresh.metric('anomaly_operator_actions_total{action="SwitchTraffic",outcome="done"}') == 1


@pytest.mark.switchboard
def test_a_breach_while_watches_are_cut_and_writes_fail_changes_no_selector_until_it_can_and_then_rolls_back(
    replica, defined, namespace, versions, promoted
):
    promoted()
    refused = ("--resource", "services", "--verb", "patch", "--namespace", namespace, "--code", "503")
    with faults(defined, "fail", *refused):
        defined.command("faults", "drop-watches")
        annotate(defined, namespace, "green", "anomalymodel.dev/error-rate=1")
        replica.wait_for_line(lambda line: line.get("namespace") == namespace and "503" in line["message"])
        color, decision = selected(defined, namespace)
        assert (color, decision["outcome"]) == ("green", "Promoted")
        assert status(defined, namespace)["active"]["version"] == versions[1]
    wait(defined, namespace, f"jsonpath={{.status.active.version}}={versions[0]}")
    assert selected(defined, namespace)[0] == "blue"


@pytest.mark.usefixtures("replica")
def test_an_object_of_somebody_else_that_bears_a_child_s_name_is_left_alone(defined, namespace, versions, alias):
    name, move = alias
    move(versions[0])
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "cpu", "namespace": namespace},
        "spec": {"selector": {"app": "theirs"}, "ports": [{"port": 9000}]},
    }
    defined.kubectl("apply", "-f", "-", stdin=[theirs])
    before = json.loads(defined.kubectl("get", "svc", "cpu", "-n", namespace, "-o", "json"))
    defined.kubectl("apply", "-f", "-", stdin=[model(namespace, name)])
    wait(defined, namespace, "condition=Stalled")
    found = condition(status(defined, namespace), "Stalled")
    assert found["reason"] == "NameTaken"
    assert "cpu" in found["message"]
    assert json.loads(defined.kubectl("get", "svc", "cpu", "-n", namespace, "-o", "json")) == before
    # Once they are gone the rollout goes its way.
    defined.kubectl("delete", "svc", "cpu", "-n", namespace)
    wait(defined, namespace, "condition=Ready")


@pytest.mark.usefixtures("replica")
def test_children_that_are_edited_or_deleted_by_hand_are_repaired(defined, namespace, versions, alias):
    name, move = alias
    move(versions[0])
    defined.kubectl("apply", "-f", "-", stdin=[model(namespace, name)])
    wait(defined, namespace, "condition=Ready")
    patch = '{"spec":{"selector":{"anomalymodel.dev/color":"green"}}}'
    defined.kubectl("patch", "svc", "cpu", "-n", namespace, "--type=merge", "-p", patch)
    blue = "--for=jsonpath={.spec.selector.anomalymodel\\.dev/color}=blue"
    defined.kubectl("wait", "svc/cpu", "-n", namespace, blue, "--timeout=90s")
    for child in ("svc/cpu", "configmap/cpu-anomaly-detector", "pdb/cpu-blue", "networkpolicy/cpu-anomaly-detector"):
        defined.kubectl("delete", child, "-n", namespace)
        defined.kubectl("wait", "--for=create", child, "-n", namespace, "--timeout=90s")
    assert selected(defined, namespace)[0] == "blue"
    wait(defined, namespace, "condition=Ready")


@pytest.mark.usefixtures("replica")
def test_deletion_takes_everything_along(defined, namespace, versions, alias):
    name, move = alias
    move(versions[0])
    defined.kubectl("apply", "-f", "-", stdin=[model(namespace, name)])
    defined.kubectl("wait", "--for=create", "deployment/cpu-blue", "-n", namespace, "--timeout=90s")
    defined.kubectl("delete", "am", "cpu", "-n", namespace, "--timeout=90s")
    for child in ("svc/cpu", "deployment/cpu-blue", "configmap/cpu-anomaly-detector", "svc/cpu-preview"):
        defined.kubectl("wait", "--for=delete", child, "-n", namespace, "--timeout=90s")


@pytest.mark.usefixtures("replica")
def test_an_alias_moved_twice_at_once_leads_to_its_last_version_and_to_no_other(
    defined, namespace, versions, alias, promoted
):
    promoted()
    wait(defined, namespace, "condition=Ready")
    alias[1](versions[0])
    alias[1](versions[1])
    alias[1](versions[0])
    wait(defined, namespace, f"jsonpath={{.status.active.version}}={versions[0]}")
    wait(defined, namespace, "condition=Ready")
    found = status(defined, namespace)
    assert [entry["version"] for entry in found["history"]] == [versions[0], versions[1], versions[0]]
    assert "quarantine" not in found


@pytest.mark.usefixtures("replica")
def test_an_autoscaler_that_grows_the_active_color_grows_the_candidate_too(defined, namespace, versions, alias):
    name, move = alias
    move(versions[0])
    body = model(namespace, name, autoscaling={"minReplicas": 1, "maxReplicas": 3})
    body["spec"]["blueGreen"]["autoPromotionEnabled"] = False
    defined.kubectl("apply", "-f", "-", stdin=[body])
    wait(defined, namespace, f"jsonpath={{.status.active.version}}={versions[0]}")
    move(versions[1])
    wait(defined, namespace, "jsonpath={.status.step}=AwaitPromotion")
    body["spec"]["autoscaling"]["minReplicas"] = 3
    defined.kubectl("apply", "-f", "-", stdin=[body])
    sized = "jsonpath={.spec.replicas}=3"
    defined.kubectl("wait", "deploy/cpu-green", "-n", namespace, f"--for={sized}", "--timeout=60s")
    body["spec"]["blueGreen"]["autoPromotionEnabled"] = True
    defined.kubectl("apply", "-f", "-", stdin=[body])
    wait(defined, namespace, f"jsonpath={{.status.active.version}}={versions[1]}")
    labels = "anomalymodel.dev/model=cpu,anomalymodel.dev/color=green"
    pods = json.loads(defined.kubectl("get", "pods", "-n", namespace, "-l", labels, "-o", "json"))["items"]
    assert len(pods) == 3
    target = "jsonpath={.spec.scaleTargetRef.name}=cpu-green"
    defined.kubectl("wait", "hpa/cpu-anomaly-detector", "-n", namespace, f"--for={target}", "--timeout=90s")

"""Whole rollouts: the operator as a process, detectors, registry and API server all real."""

import json

import pytest
from tests.e2e.operator.conftest import faults, model

pytestmark = pytest.mark.e2e


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


@pytest.fixture(scope="module")
def leading(start_operator):
    """Return a function that starts another replica and returns when it leads."""
    replicas = []

    def another():
        replicas.append(start_operator(f"replica-{len(replicas)}"))
        replicas[-1].wait_for("leader")
        return replicas[-1]

    return lambda *, fresh=False: another() if fresh or not replicas or not replicas[-1].running else replicas[-1]


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


def test_a_version_is_deployed_promoted_and_rolled_back(replica, defined, namespace, versions, promoted):
    promoted()
    wait(defined, namespace, "condition=Ready")
    assert status(defined, namespace)["phase"] == "Healthy"

    annotate(defined, namespace, "green", "anomalymodel.dev/error-rate=0.5")
    wait(defined, namespace, f"jsonpath={{.status.active.version}}={versions[0]}", 20)
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
    logged = [
        line["decision"]["outcome"]
        for line in replica.lines
        if line.get("namespace") == namespace and "decision" in line
    ]
    assert logged == ["Promoted", "Promoted", "RolledBack"]
    events = json.loads(defined.kubectl("get", "events", "-n", namespace, "-o", "json"))["items"]
    about = [e["reason"] for e in events if e["involvedObject"]["kind"] == "AnomalyModel"]
    assert about.count("RolledBack") == 1


@pytest.mark.switchboard
def test_an_operator_killed_between_the_switch_and_its_record_ends_where_it_would_have(
    replica, leading, defined, namespace, versions, promoted
):
    promoted()
    refused = ("--resource", "anomalymodels/status", "--verb", "patch", "--namespace", namespace, "--code", "503")
    with faults(defined, "fail", *refused):
        annotate(defined, namespace, "green", "anomalymodel.dev/error-rate=0.5")
        color = "jsonpath={.spec.selector.anomalymodel\\.dev/color}=blue"
        defined.kubectl("wait", "svc/cpu", "-n", namespace, f"--for={color}", "--timeout=20s")
        replica.kill()
        # What the operator knew is gone, and status still says that the bad version is active.
        assert status(defined, namespace)["active"]["version"] == versions[1]
    leading(fresh=True)
    wait(defined, namespace, f"jsonpath={{.status.active.version}}={versions[0]}", 20)
    assert selected(defined, namespace)[0] == "blue"
    found = status(defined, namespace)
    assert [entry["outcome"] for entry in found["history"]] == ["RolledBack", "Promoted", "Promoted"]
    assert [q["version"] for q in found["quarantine"]] == [versions[1]]

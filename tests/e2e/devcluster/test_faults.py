import json

import pytest
from tests.e2e.devcluster.conftest import deployment, eventually, service
from tests.e2e.devcluster.test_services import answerer

pytestmark = [pytest.mark.e2e, pytest.mark.switchboard]
LABELS = {"app": "web"}


@pytest.fixture
def faults(cluster):
    yield lambda *arguments: cluster.command("faults", *arguments).stdout
    cluster.command("faults", "node", "resume")
    cluster.command("faults", "clear")


def test_a_deployment_becomes_available_though_half_of_all_writes_fail(world, faults):
    writes = {"pods": "create", "replicasets": "create", "pods/binding": "create", "pods/status": "patch"}
    for resource, verb in writes.items():
        faults("add", "fail", "--resource", resource, "--verb", verb, "--probability=0.5", "--code=500", "--seed=3")
    world.apply(deployment("web", 3, LABELS))
    world.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    rules = json.loads(faults("list"))["faults"]
    assert all(rule["hits"] for rule in rules)
    assert len(world.pods("app=web")) == 3


def test_work_goes_on_after_watches_were_cut_and_the_history_forgotten(world, faults):
    faults("drop-watches")
    faults("compact")
    world.apply(deployment("web", 1, LABELS), service("web", LABELS))
    world.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    address = world.address("web")
    eventually(lambda: answerer(address))


def test_pods_serve_on_while_the_node_stands_still(world, faults):
    world.apply(deployment("web", 1, LABELS), service("web", LABELS))
    world.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    address = world.address("web")
    name = eventually(lambda: answerer(address))
    faults("node", "stop")
    world.kubectl("scale", "deployment/web", "--replicas=2")
    eventually(lambda: len(world.pods("app=web")) == 2)
    assert answerer(address) == name
    faults("node", "resume")
    world.kubectl("rollout", "status", "deployment/web", "--timeout=90s")


def test_the_same_seed_hits_the_same_requests(world, faults):
    def refused():
        faults("clear")
        faults(
            "add",
            "fail",
            "--resource=configmaps",
            "--verb=get",
            f"--namespace={world.namespace}",
            "--probability=0.5",
            "--seed=7",
        )
        said = [world.kubectl("get", "configmap", "none", check=False) for _ in range(6)]
        return ["injected fault" in text for text in said]

    first = refused()
    assert refused() == first
    assert set(first) == {True, False}


def test_a_cut_or_refused_request_is_told_to_the_client_as_such(world, faults):
    where = ("--resource=configmaps", f"--namespace={world.namespace}")
    faults("add", "reset", *where, "--count=1", "--verb=delete")
    assert "EOF" in world.kubectl("delete", "configmap", "none", check=False)
    faults("add", "fail", "--code=409", *where, "--verb=delete", "--count=1")
    assert "Conflict" in world.kubectl("delete", "configmap", "none", check=False)


def test_a_rule_that_makes_no_sense_is_refused_by_name(cluster):
    said = cluster.command("faults", "add", "fail", "--code=418", check=False)
    assert said.returncode == 2
    assert "418" in said.stderr

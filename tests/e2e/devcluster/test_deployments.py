import json

import pytest
from tests.e2e.devcluster.conftest import deployment, eventually, script_pod, web_template

pytestmark = pytest.mark.e2e
LABELS = {"app": "web"}


def test_a_deployment_becomes_ready_pods_with_addresses_of_their_own(world):
    world.apply(deployment("web", 3, LABELS))
    world.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    pods = world.pods("app=web")
    assert sorted(world.ask(pod) for pod in pods) == sorted(pod["metadata"]["name"] for pod in pods)
    assert len({pod["status"]["podIP"] for pod in pods}) == 3


def test_a_rolling_update_replaces_every_pod_and_keeps_the_old_set_at_zero(world):
    world.apply(deployment("web", 2, LABELS))
    world.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    before = {pod["metadata"]["uid"] for pod in world.pods("app=web")}
    world.kubectl("set", "env", "deployment/web", "COLOR=green")
    world.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    pods = eventually(lambda: (p := world.pods("app=web")) and len(p) == 2 and p)
    assert not before & {pod["metadata"]["uid"] for pod in pods}
    assert sorted(s["spec"]["replicas"] for s in world.get("replicasets")) == [0, 2]
    assert world.kubectl("rollout", "history", "deployment/web").count("<none>") == 2


def test_a_rollout_can_be_undone(world):
    world.apply(deployment("web", 1, LABELS))
    world.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    world.kubectl("set", "env", "deployment/web", "COLOR=green")
    world.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    world.kubectl("rollout", "undo", "deployment/web")
    world.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    assert "env" not in world.get("deployment", "web")["spec"]["template"]["spec"]["containers"][0]
    assert len(world.get("replicasets")) == 2


def test_a_new_template_that_never_gets_ready_leaves_the_old_pods_and_says_so(world):
    world.apply(deployment("web", 2, LABELS))
    world.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    template = {"spec": {"containers": [{"name": "web", "image": "nowhere"}]}}
    change = {"spec": {"progressDeadlineSeconds": 2, "template": template}}
    world.kubectl("patch", "deployment/web", "-p", json.dumps(change))
    said = world.kubectl("rollout", "status", "deployment/web", "--timeout=90s", check=False)
    assert "exceeded its progress deadline" in said
    status = world.get("deployment", "web")["status"]
    assert status["availableReplicas"] == 2


def test_scaling_down_and_up_follows_the_number(world):
    world.apply(deployment("web", 3, LABELS))
    world.kubectl("scale", "deployment/web", "--replicas=1")
    eventually(lambda: len(world.pods("app=web")), 1)
    world.kubectl("scale", "deployment/web", "--replicas=2")
    world.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    assert world.get("deployment", "web")["status"]["readyReplicas"] == 2


def test_a_deleted_pod_is_replaced(world):
    world.apply(deployment("web", 1, LABELS))
    world.wait("condition=Available", "deployment/web")
    pod = world.pods("app=web")[0]["metadata"]["name"]
    world.kubectl("delete", "pod", pod)
    eventually(lambda: [p["metadata"]["name"] != pod for p in world.pods("app=web")], [True])


def test_deleting_a_deployment_takes_its_sets_and_pods_along(world):
    world.apply(deployment("web", 2, LABELS))
    world.wait("condition=Available", "deployment/web")
    world.kubectl("delete", "deployment", "web")
    eventually(lambda: world.get("replicasets") == [] and world.get("pods") == [])


def test_foreground_deletion_returns_when_the_pods_are_gone(world):
    world.apply(deployment("web", 2, LABELS))
    world.wait("condition=Available", "deployment/web")
    world.kubectl("delete", "deployment", "web", "--cascade=foreground", "--timeout=90s")
    assert world.get("pods") == []


def test_orphaned_sets_stay_and_are_adopted_again(world):
    body = deployment("web", 1, LABELS)
    world.apply(body)
    world.wait("condition=Available", "deployment/web")
    uid = world.pods("app=web")[0]["metadata"]["uid"]
    world.kubectl("delete", "deployment", "web", "--cascade=orphan")
    eventually(lambda: "ownerReferences" not in world.get("replicasets")[0]["metadata"])
    world.apply(body)
    world.wait("condition=Available", "deployment/web")
    assert [pod["metadata"]["uid"] for pod in world.pods("app=web")] == [uid]


def test_a_deleted_namespace_goes_with_its_pods(world):
    name = f"{world.namespace}-gone"
    world.cluster.kubectl("create", "namespace", name)
    world.cluster.kubectl("apply", "-n", name, "-f", "-", stdin=deployment("web", 1, LABELS))
    world.cluster.kubectl("wait", "-n", name, "--for=condition=Available", "deployment/web", "--timeout=90s")
    world.cluster.kubectl("delete", "namespace", name, "--timeout=90s")
    assert "No resources found" in world.cluster.kubectl("get", "pods", "-n", name, check=False)


def test_a_budget_says_how_many_pods_may_go_and_eviction_respects_it(world):
    spec = {"minAvailable": 1, "selector": {"matchLabels": LABELS}}
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"}, "spec": spec}
    world.apply(deployment("web", 2, LABELS), budget)
    world.wait("condition=Available", "deployment/web")
    eventually(lambda: world.get("pdb", "web").get("status", {}).get("disruptionsAllowed"), 1)


def job(name, code, **spec):
    template = script_pod("x", code)["spec"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": {"spec": template}, **spec},
    }


def test_a_job_that_succeeds_is_complete(world):
    world.apply(job("fine", "print('done')"))
    world.wait("condition=complete", "job/fine")
    assert world.kubectl("logs", "job/fine") == "done\n"
    assert world.get("job", "fine")["status"]["succeeded"] == 1


def test_a_job_that_fails_too_often_says_so(world):
    world.apply(job("broken", "raise SystemExit(3)", backoffLimit=0))
    world.wait("condition=failed", "job/broken")
    conditions = world.get("job", "broken")["status"]["conditions"]
    assert "BackoffLimitExceeded" in [c["reason"] for c in conditions]


def test_a_job_that_takes_too_long_is_ended(world):
    world.apply(job("slow", "import time; time.sleep(100)", activeDeadlineSeconds=1))
    world.wait("condition=failed", "job/slow")
    eventually(lambda: world.get("pods"), [])


def test_a_finished_job_is_removed_after_its_time_to_live(world):
    world.apply(job("brief", "pass", ttlSecondsAfterFinished=0))
    world.wait("delete", "job/brief")
    eventually(lambda: world.get("pods"), [])


def test_the_autoscaler_follows_what_pods_really_use(world):
    template = web_template(LABELS, container={"resources": {"requests": {"cpu": "100m"}}})
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 1,
            "maxReplicas": 2,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
                }
            ],
        },
    }
    world.apply(deployment("web", 1, LABELS, template=template), scaler)
    world.wait("condition=Available", "deployment/web")
    world.wait("condition=ScalingActive", "hpa/web")
    world.ask(world.pods("app=web")[0], "/burn", post=True)
    eventually(lambda: world.get("deployment", "web")["spec"]["replicas"], 2)

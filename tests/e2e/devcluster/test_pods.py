import base64
import json

import pytest
from tests.e2e.devcluster.conftest import eventually, script_pod, web_template

pytestmark = pytest.mark.e2e


def web_pod(name, **template):
    made = web_template({"app": name}, **template)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **made["metadata"]}, "spec": made["spec"]}


def config(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def status(world, name):
    """Return the status of a pod's container; of one that the node has not looked at yet, that nothing is known."""
    return next(iter(world.pod(name)["status"].get("containerStatuses") or ()), {"state": {}})


def test_a_pod_finds_what_its_environment_asks_for(world):
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"password": "geheim"}}
    env = [
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}},
        {"name": "URL", "value": "http://$(IP):8080"},
    ]
    container = {
        "env": env,
        "envFrom": [{"configMapRef": {"name": "c"}}],
        "resources": {"limits": {"memory": "64Mi"}},
    }
    world.apply(secret, config("c", COLOR="blue"), web_pod("p", container=container))
    world.wait("condition=Ready", "pod/p")
    pod = world.pod("p")
    found = json.loads(world.ask(pod, "/env"))
    address = pod["status"]["podIP"]
    wanted = {
        "POD": "p",
        "IP": address,
        "MEMORY": "64",
        "PASSWORD": "geheim",
        "URL": f"http://{address}:8080",
        "COLOR": "blue",
        "HOSTNAME": "p",
    }
    assert {name: found[name] for name in wanted} == wanted
    assert f"https://{found['KUBERNETES_SERVICE_HOST']}:{found['KUBERNETES_SERVICE_PORT']}" == world.cluster.server


def test_command_replaces_the_images_and_args_are_appended(world):
    world.apply(
        script_pod("appended", "import sys; print(sys.argv[1:])", container={"args": ["print('args')"]}),
        script_pod("replaced", "", container={"command": ["echo", "$(GREETING)"], "args": ["you"]}
                   | {"env": [{"name": "GREETING", "value": "hello"}]}),
    )  # fmt: skip
    for name in ("appended", "replaced"):
        world.wait("jsonpath={.status.phase}=Succeeded", f"pod/{name}")
    assert world.kubectl("logs", "appended") == "args\n"
    assert world.kubectl("logs", "replaced") == "hello you\n"


def test_an_init_container_hands_files_to_the_main_one_and_says_its_last_words(world):
    volume = [{"name": "cache", "emptyDir": {}}]
    mount = [{"name": "cache", "mountPath": "/var/cache/model"}]
    code = (
        "import os,pathlib; pathlib.Path(os.environ['CACHE'], 'model').write_text('42');"
        "pathlib.Path(os.environ['LOG']).write_text('digest')"
    )
    env = [{"name": "CACHE", "value": "/var/cache/model"}, {"name": "LOG", "value": "/dev/termination-log"}]
    init = [{"name": "fetch", "image": "python", "args": [code], "env": env, "volumeMounts": mount}]
    show = {"command": ["cat", "/var/cache/model/model"], "args": [], "volumeMounts": mount}
    world.apply(script_pod("p", "", container=show, initContainers=init, volumes=volume))
    world.wait("jsonpath={.status.phase}=Succeeded", "pod/p")
    assert world.kubectl("logs", "p") == "42"
    fetched = world.pod("p")["status"]["initContainerStatuses"][0]
    assert fetched["state"]["terminated"]["message"] == "digest"
    assert fetched["ready"] is True


def test_a_failed_init_container_without_restarts_fails_the_pod(world):
    init = [{"name": "fetch", "image": "python", "args": ["raise SystemExit(65)"]}]
    world.apply(script_pod("p", "print('never')", initContainers=init))
    world.wait("jsonpath={.status.phase}=Failed", "pod/p")
    body = world.pod("p")["status"]
    assert body["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 65
    assert body["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"


def test_the_last_lines_of_a_failed_container_are_its_message_where_it_asks_for_that(world):
    code = "print('the data are gone'); raise SystemExit(2)"
    for name, policy in (("told", "FallbackToLogsOnError"), ("silent", "File")):
        world.apply(script_pod(name, code, container={"terminationMessagePolicy": policy}))
        world.wait("jsonpath={.status.phase}=Failed", f"pod/{name}")
    assert status(world, "told")["state"]["terminated"]["message"] == "the data are gone\n"
    assert "message" not in status(world, "silent")["state"]["terminated"]


def test_a_crash_loop_backs_off_and_keeps_the_previous_log(world):
    world.apply(script_pod("p", "print('last words'); raise SystemExit(3)", policy="Always"))
    eventually(lambda: status(world, "p")["state"].get("waiting", {}).get("reason"), "CrashLoopBackOff")
    found = status(world, "p")
    assert found["lastState"]["terminated"]["exitCode"] == 3
    assert found["restartCount"] >= 1
    assert world.kubectl("logs", "p", "--previous") == "last words\n"
    eventually(lambda: "BackOff" in world.kubectl("get", "events"))


def test_readiness_follows_the_probe_without_a_restart(world):
    world.apply(web_pod("p"))
    world.wait("condition=Ready", "pod/p")
    world.ask(world.pod("p"), "/unready", post=True)
    world.wait("condition=Ready=false", "pod/p")
    assert status(world, "p")["restartCount"] == 0


def test_a_container_that_fails_its_liveness_probe_is_restarted(world):
    probe = {"httpGet": {"path": "/alive", "port": 8080}, "periodSeconds": 1, "failureThreshold": 5}
    world.apply(web_pod("p", container={"livenessProbe": probe | {"initialDelaySeconds": 2}}))
    world.wait("condition=Ready", "pod/p")
    world.ask(world.pod("p"), "/sick", post=True)
    eventually(lambda: status(world, "p")["restartCount"] >= 1)
    world.wait("condition=Ready", "pod/p")


def test_a_slow_starter_is_left_in_peace_by_its_liveness_probe(world):
    code = (
        "import os,time,pathlib,socket; time.sleep(1.5);"
        "s=socket.create_server((os.environ['IP'],8080)); time.sleep(100)"
    )
    tcp = {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "timeoutSeconds": 30, "failureThreshold": 1}
    container = {
        "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "startupProbe": {**tcp, "failureThreshold": 20},
        "livenessProbe": tcp,
    }
    world.apply(script_pod("p", code, policy="Always", container=container, terminationGracePeriodSeconds=0))
    world.wait("condition=Ready", "pod/p")
    found = status(world, "p")
    assert found["started"] is True
    assert found["restartCount"] == 0


def test_an_exec_probe_runs_in_the_containers_world(world):
    volumes, mounts = [{"name": "v", "emptyDir": {}}], [{"name": "v", "mountPath": "/scratch"}]
    code = "import os,time,pathlib; pathlib.Path(os.environ['PLACE']).write_text(''); time.sleep(100)"
    probe = {"exec": {"command": ["test", "-f", "/scratch/ready"]}, "periodSeconds": 1}
    container = {
        "env": [{"name": "PLACE", "value": "/scratch/ready"}],
        "readinessProbe": probe,
        "volumeMounts": mounts,
    }
    world.apply(script_pod("p", code, container=container, volumes=volumes, terminationGracePeriodSeconds=0))
    world.wait("condition=Ready", "pod/p")


def test_a_changed_config_map_reaches_a_running_pod(world):
    volumes = [{"name": "config", "configMap": {"name": "c"}}]
    mounts = {"volumeMounts": [{"name": "config", "mountPath": "/etc/app"}]}
    place = {"env": [{"name": "CONFIG", "value": "/etc/app/level"}]}
    world.apply(config("c", level="1"), web_pod("p", container={**mounts, **place}, volumes=volumes))
    world.wait("condition=Ready", "pod/p")
    pod = world.pod("p")
    path = json.loads(world.ask(pod, "/env"))["CONFIG"]
    assert world.ask(pod, f"/file{path}") == "1"
    world.apply(config("c", level="2"))
    eventually(lambda: world.ask(pod, f"/file{path}"), "2")


def test_a_pod_waits_for_a_config_map_that_comes_later(world):
    reference = {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "a"}}}]}
    world.apply(web_pod("p", container=reference))
    eventually(lambda: status(world, "p")["state"].get("waiting", {}).get("reason"), "CreateContainerConfigError")
    assert '"late" not found' in status(world, "p")["state"]["waiting"]["message"]
    world.apply(config("late", a="1"))
    world.wait("condition=Ready", "pod/p")


def test_a_pods_tokens_are_bound_to_it_and_lie_beside_authority_and_namespace(world):
    source = {"serviceAccountToken": {"path": "token", "expirationSeconds": 600, "audience": "tests"}}
    volumes = [{"name": "t", "projected": {"sources": [source]}}]
    own = "/var/run/secrets/kubernetes.io/serviceaccount"
    container = {
        "volumeMounts": [{"name": "t", "mountPath": "/token"}],
        "env": [{"name": "PLACE", "value": "/token/token"}, {"name": "OWN", "value": own}],
    }
    world.apply(web_pod("p", container=container, volumes=volumes))
    world.wait("condition=Ready", "pod/p")
    pod = world.pod("p")
    env = json.loads(world.ask(pod, "/env"))
    claims = decoded(world.ask(pod, f"/file{env['PLACE']}"))
    assert claims["aud"] == ["tests"]
    assert claims["kubernetes.io"]["pod"]["uid"] == pod["metadata"]["uid"]
    own = decoded(world.ask(pod, f"/file{env['OWN']}/token"))
    assert own["sub"] == f"system:serviceaccount:{world.namespace}:default"
    assert world.ask(pod, f"/file{env['OWN']}/namespace") == world.namespace
    assert "BEGIN CERTIFICATE" in world.ask(pod, f"/file{env['OWN']}/ca.crt")


def decoded(token):
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def test_a_claim_keeps_its_files_from_one_pod_to_the_next(world):
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
    mounts = {"volumeMounts": [{"name": "v", "mountPath": "/data"}]}
    write = {"command": ["cp", "/etc/hostname", "/data/kept"], "args": []}
    read = {"command": ["ls", "/data"], "args": []}
    world.apply(claim, script_pod("writer", "", container=write | mounts, volumes=volumes))
    world.wait("jsonpath={.status.phase}=Succeeded", "pod/writer")
    world.kubectl("delete", "pod", "writer")
    world.apply(script_pod("reader", "", container=read | mounts, volumes=volumes))
    world.wait("jsonpath={.status.phase}=Succeeded", "pod/reader")
    assert world.kubectl("logs", "reader") == "kept\n"
    assert world.get("pvc", "data")["status"]["phase"] == "Bound"


def test_an_unknown_image_says_what_to_do_and_starts_once_that_is_done(world):
    pod = script_pod("p", "", container={"image": "late:1", "args": ["there"]})
    world.apply(pod)
    eventually(lambda: status(world, "p")["state"].get("waiting", {}).get("reason"), "ImagePullBackOff")
    assert "devcluster load-image late:1=COMMAND" in status(world, "p")["state"]["waiting"]["message"]
    world.cluster.command("load-image", "late:1=echo")
    world.wait("jsonpath={.status.phase}=Succeeded", "pod/p")
    assert world.kubectl("logs", "p") == "there\n"


def test_a_pod_for_another_node_waits_and_says_why(world):
    world.apply(script_pod("p", "print('here')", nodeSelector={"disk": "ssd"}))
    eventually(lambda: "didn't match Pod's node affinity/selector" in world.kubectl("describe", "pod", "p"))
    assert "nodeName" not in world.pod("p")["spec"]


def test_a_pod_waits_for_its_claim(world):
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "late"}}]
    world.apply(script_pod("p", "print('here')", volumes=volumes))
    eventually(lambda: 'persistentvolumeclaim "late" not found' in world.kubectl("describe", "pod", "p"))
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    world.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "late"}, "spec": spec})
    world.wait("jsonpath={.status.phase}=Succeeded", "pod/p")


def test_a_pod_that_ignores_sigterm_is_killed_with_all_its_processes(world):
    code = (
        "import signal,subprocess,time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "p=subprocess.Popen(['sleep','1000'],start_new_session=True); print(p.pid,flush=True); time.sleep(1000)"
    )
    world.apply(script_pod("p", code, terminationGracePeriodSeconds=1))
    eventually(lambda: world.kubectl("logs", "p", check=False).strip().isdigit())
    child = int(world.kubectl("logs", "p"))
    world.kubectl("delete", "pod", "p", "--timeout=90s")
    eventually(lambda: not alive(child))


def test_a_pod_is_gone_only_when_its_last_process_is(world, tmp_path):
    leave = tmp_path / "leave"
    code = (
        "import os,signal,sys,time\n"
        "def end(*_):\n"
        f"    while not os.path.exists({str(leave)!r}): time.sleep(0.05)\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('up', flush=True); time.sleep(1000)"
    )
    world.apply(script_pod("p", code, terminationGracePeriodSeconds=300))
    eventually(lambda: world.kubectl("logs", "p", check=False), "up\n")
    world.kubectl("delete", "pod", "p", "--wait=false")
    assert "deletionTimestamp" in world.pod("p")["metadata"]
    leave.touch()
    world.kubectl("wait", "--for=delete", "pod/p", "--timeout=90s")


def test_a_killed_process_is_started_again_as_it_was(world):
    world.apply(web_pod("p"))
    world.wait("condition=Ready", "pod/p")
    before = world.pod("p")
    world.cluster.command("faults", "kill-pod", f"{world.namespace}/p")
    eventually(lambda: status(world, "p")["restartCount"], 1)
    world.wait("condition=Ready", "pod/p")
    after = world.pod("p")
    assert after["status"]["podIP"] == before["status"]["podIP"]
    assert status(world, "p")["lastState"]["terminated"]["exitCode"] == 137


def test_logs_can_be_followed_and_cut(world):
    code = "import time\nfor i in range(5): print(i, flush=True); time.sleep(0.1)"
    world.apply(script_pod("p", code))
    world.wait("jsonpath={.status.phase}=Succeeded", "pod/p")
    assert world.kubectl("logs", "p", "-f") == "0\n1\n2\n3\n4\n"
    assert world.kubectl("logs", "p", "--tail=2") == "3\n4\n"
    for option, name in (("--limit-bytes=2", "limitBytes"), ("--timestamps", "timestamps")):
        assert f"does not emulate logs by {name}" in world.kubectl("logs", "p", option, check=False)


def test_a_pod_is_described_with_its_events(world):
    world.apply(web_pod("p"))
    world.wait("condition=Ready", "pod/p")
    eventually(lambda: "Started container web" in world.kubectl("describe", "pod", "p"))


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - a process, not a file
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

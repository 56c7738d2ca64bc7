import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.devcluster.conftest import deployment, eventually, script_pod, service
from tests.e2e.devcluster.test_services import answerer

from anomaly_devcluster import testing

pytestmark = pytest.mark.e2e
SLEEP = "import subprocess, time; subprocess.Popen(['sleep', '1000'], start_new_session=True); time.sleep(1000)"


def marked(mark):
    """Return the processes that carry the mark of a run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z" and mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def programs():
    """Return how many programs of a real control plane a cluster runs."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    names = ("etcd", "kube-apiserver", "kube-controller-manager")
    return sum(Path(assets, name).exists() for name in names) if assets else 0


class Machine:
    """Where clusters of a test keep their state."""

    def __init__(self, home):
        self.home = home
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("DEVCLUSTER_")}
        self.env["XDG_STATE_HOME"] = str(home)

    def devcluster(self, *arguments):
        command = [sys.executable, "-m", "anomaly_devcluster", *arguments]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=100, check=False)

    def up(self, *arguments):
        """Start a cluster and return what was said of it; fails with what went wrong."""
        said = self.devcluster("up", *arguments)
        assert said.returncode == 0, said.stderr
        return said.stdout

    def cluster(self, name="default"):
        return testing.Cluster(name, self.home)

    def run_of(self, name="default"):
        return json.loads((self.home / "devcluster" / name / "cluster.json").read_text())

    def start_pod(self, name="default"):
        """Start a pod with a child in a session of its own; return the mark of the cluster's processes."""
        cluster = self.cluster(name)
        cluster.load_image("python", [sys.executable, "-c"])
        eventually(lambda: "default" in cluster.kubectl("get", "serviceaccounts", check=False))
        cluster.kubectl("apply", "-f", "-", stdin=script_pod("p", SLEEP))
        cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Running", "pod/p", "--timeout=90s")
        mark = f"DEVCLUSTER_RUN={self.run_of(name)['run']}"
        # Supervisor, three components, the container and its child; and the programs of a real control plane.
        eventually(lambda: len(marked(mark)), 6 + programs())
        return mark


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    yield made
    for folder in (tmp_path / "devcluster").glob("*/"):
        made.devcluster("down", "--name", folder.name)


def test_a_cluster_starts_in_the_background_and_leaves_nothing_behind(machine):
    machine.up()
    assert machine.devcluster("kubeconfig").stdout.strip() == str(machine.cluster().kubeconfig)
    mark = machine.start_pod()
    assert "1 Running" in machine.devcluster("status").stdout
    assert machine.devcluster("down").returncode == 0
    eventually(lambda: marked(mark), [])
    assert list((machine.home / "devcluster").iterdir()) == []


def test_starting_a_running_cluster_again_only_loads_images(machine):
    machine.up()
    first = machine.run_of()["pid"]
    assert "running already" in machine.up("--image", "web=true")
    assert machine.run_of()["pid"] == first
    assert "web = true" in machine.devcluster("status").stdout


def test_two_clusters_run_side_by_side(machine):
    for name in ("one", "two"):
        machine.up("--name", name)
    one, two = machine.cluster("one"), machine.cluster("two")
    one.kubectl("create", "configmap", "only-here")
    assert "NotFound" in two.kubectl("get", "configmap", "only-here", check=False)
    marks = [machine.start_pod(name) for name in ("one", "two")]
    addresses = [c.kubectl("get", "pod", "p", "-o", "jsonpath={.status.podIP}") for c in (one, two)]
    assert addresses[0] != addresses[1]
    machine.devcluster("down", "--name", "one")
    eventually(lambda: marked(marks[0]), [])
    assert two.kubectl("get", "pod", "p", "-o", "jsonpath={.status.phase}") == "Running"


def test_killing_the_supervisor_takes_everything_along(machine):
    machine.up()
    mark = machine.start_pod()
    os.kill(machine.run_of()["pid"], signal.SIGKILL)
    eventually(lambda: marked(mark) == [])


def test_killing_the_program_that_runs_a_cluster_for_itself_leaves_no_process_and_no_file(machine):
    code = "from anomaly_devcluster import testing\nwith testing.cluster() as c: print(c.folder, flush=True); input()"
    env = machine.env | {"TMPDIR": str(machine.home)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    user = subprocess.Popen([sys.executable, "-c", code], env=env, text=True, **pipes)
    folder = Path(user.stdout.readline().strip())
    mark = f"DEVCLUSTER_RUN={json.loads((folder / 'cluster.json').read_text())['run']}"
    assert machine.home in folder.parents
    user.kill()
    user.communicate()
    eventually(lambda: list(machine.home.iterdir()), [])
    eventually(lambda: marked(mark), [])


def test_killing_the_node_takes_its_pods_along_and_it_starts_them_again(machine):
    machine.up()
    machine.start_pod()
    cluster = machine.cluster()
    cluster.kubectl("delete", "pod", "p", "--grace-period=1")
    cluster.kubectl("apply", "-f", "-", stdin=script_pod("p", SLEEP, policy="Always"))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=90s")
    before = cluster.kubectl("get", "pod", "p", "-o", "jsonpath={.status.containerStatuses[0].containerID}")
    machine.devcluster("faults", "node", "kill")
    restarted = "jsonpath={.status.containerStatuses[0].restartCount}=1"
    cluster.kubectl("wait", f"--for={restarted}", "pod/p", "--timeout=90s")
    cluster.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=90s")
    after = cluster.kubectl("get", "pod", "p", "-o", "jsonpath={.status.containerStatuses[0].containerID}")
    assert after != before


def test_what_a_dead_run_left_is_cleaned_up_by_the_next_one(machine):
    machine.up()
    mark = machine.start_pod()
    run = machine.run_of()
    node = int((machine.cluster().folder / "node.pid").read_text())
    os.kill(node, signal.SIGSTOP)  # it cannot clean up any more
    os.kill(run["pid"], signal.SIGKILL)
    assert "Cleaned up" in machine.up()
    eventually(lambda: marked(mark), [])


def test_the_foreground_ends_with_control_c(machine):
    command = [sys.executable, "-m", "anomaly_devcluster", "up", "--foreground"]
    process = subprocess.Popen(command, env=machine.env, stdout=subprocess.PIPE, text=True)
    assert "is ready" in process.stdout.readline()
    mark = machine.start_pod()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    process.stdout.close()
    eventually(lambda: marked(mark), [])
    assert not machine.cluster().folder.exists()


def test_commands_for_a_cluster_that_is_not_there_say_how_to_start_it(machine):
    said = machine.devcluster("kubeconfig", "--name", "nobody")
    assert said.returncode == 2
    assert "devcluster up --name nobody" in said.stderr


@pytest.mark.parametrize("arguments", [("up", "--name", "No Name"), ("up", "--image", "web")])
def test_wrong_arguments_start_nothing_and_say_what_is_wrong(machine, arguments):
    said = machine.devcluster(*arguments)
    assert said.returncode == 2
    assert arguments[1] in said.stderr
    assert not (machine.home / "devcluster").exists()


def test_anything_but_linux_is_told_so_in_one_sentence():
    code = "import sys; sys.platform = 'darwin'; from anomaly_devcluster.__main__ import main; sys.exit(main())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 2
    assert said.stderr.count("\n") == 1
    assert "needs Linux" in said.stderr


@pytest.fixture
def assets(tmp_path_factory):
    """Return a folder with stand-ins for the programs of a real control plane."""
    folder = tmp_path_factory.mktemp("assets")
    script = Path(__file__).with_name("stand_in.py").read_text()
    for name in ("etcd", "kube-apiserver"):
        (folder / name).write_text(f"#!{sys.executable}\n{script}")
        (folder / name).chmod(0o755)
    return folder


def test_programs_of_a_real_control_plane_are_run_with_all_the_parts_around_them(machine, assets):
    machine.env["KUBEBUILDER_ASSETS"] = os.path.relpath(assets)
    image = f"web={sys.executable} {Path(__file__).with_name('web.py')} $(POD_IP) 8080"
    machine.up("--image", image)
    cluster = machine.cluster()
    labels = {"app": "web"}
    cluster.kubectl("apply", "-f", "-", stdin=[deployment("web", 2, labels), service("web", labels)])
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    assert cluster.kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}").startswith("10.96.")
    reached = next(line for line in machine.devcluster("status").stdout.splitlines() if "default/web" in line)
    host, _, port = reached.split()[3].partition(":")
    assert host.startswith("127.")
    eventually(lambda: (answerer((host, int(port))) or "").startswith("web-"))
    mark = f"DEVCLUSTER_RUN={machine.run_of()['run']}"
    machine.devcluster("down")
    eventually(lambda: marked(mark), [])


def test_a_control_plane_that_does_not_start_says_why_and_leaves_nothing_behind(machine, assets):
    (assets / "kube-apiserver").write_text("#!/bin/sh\necho this flag is unknown >&2\nexit 1\n")
    machine.env["KUBEBUILDER_ASSETS"] = str(assets)
    said = machine.devcluster("up")
    assert said.returncode == 1
    assert "kube-apiserver did not start" in said.stderr
    assert "this flag is unknown" in said.stderr
    assert machine.devcluster("down").returncode == 0
    assert list((machine.home / "devcluster").iterdir()) == []


def test_control_c_ends_a_control_plane_that_is_still_starting(machine, assets, tmp_path):
    started = tmp_path / "started"
    (assets / "kube-apiserver").write_text(f"#!/bin/sh\ntouch {started}\nexec sleep 1000\n")
    machine.env["KUBEBUILDER_ASSETS"] = str(assets)
    process = subprocess.Popen([sys.executable, "-m", "anomaly_devcluster", "up", "--foreground"], env=machine.env)
    eventually(started.exists)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert not machine.cluster().folder.exists()


def test_missing_programs_of_a_real_control_plane_are_named(machine, tmp_path_factory):
    empty = tmp_path_factory.mktemp("assets")
    machine.env["KUBEBUILDER_ASSETS"] = str(empty)
    said = machine.devcluster("up")
    assert said.returncode != 0
    assert "no executable etcd and no kube-apiserver" in said.stderr
    assert f"KUBEBUILDER_ASSETS={empty}" in said.stderr

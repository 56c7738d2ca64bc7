import http.client
import socket
import threading
from contextlib import contextmanager

import pytest
from tests.e2e.devcluster.conftest import deployment, eventually, service, web_template

pytestmark = pytest.mark.e2e
BLUE, GREEN = {"app": "web", "color": "blue"}, {"app": "web", "color": "green"}


def answerer(address):
    """Open a new connection and return the name of the pod that answers, None if there is no answer."""
    connection = http.client.HTTPConnection(*address, timeout=60)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    except OSError:
        return None
    finally:
        connection.close()


@contextmanager
def users(address, count):
    """Have users ask as fast as they can; gives who answered them."""
    stop, answers = threading.Event(), []

    def ask():
        while not stop.is_set():
            answers.append(answerer(address))

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def two_colors(world):
    world.apply(deployment("blue", 2, BLUE), deployment("green", 2, GREEN), service("web", BLUE))
    for color in ("blue", "green"):
        world.kubectl("rollout", "status", f"deployment/{color}", "--timeout=90s")
    address = world.address("web")
    eventually(lambda: answerer(address))
    return address


def names(world, selector):
    return {pod["metadata"]["name"] for pod in world.pods(selector)}


def test_new_connections_go_to_the_ready_pods_in_turn(world):
    world.apply(deployment("blue", 3, BLUE), service("web", BLUE))
    world.kubectl("rollout", "status", "deployment/blue", "--timeout=90s")
    address = world.address("web")
    pods = names(world, "color=blue")
    eventually(lambda: {answerer(address) for _ in range(3)}, pods)
    asked = [answerer(address) for _ in range(9)]
    assert sorted(asked.count(pod) for pod in pods) == [3, 3, 3]


def test_a_switch_of_the_selector_loses_no_request(world):
    address = two_colors(world)
    pods = {color: names(world, f"color={color}") for color in ("blue", "green")}
    with users(address, 2) as answers:
        for color in ("green", "blue", "green"):
            selector = f'-p={{"spec":{{"selector":{{"color":"{color}"}}}}}}'
            world.kubectl("patch", "service", "web", "--type=merge", selector)
            eventually(lambda wanted=pods[color]: answers and answers[-1] in wanted)
    assert None not in answers
    assert set(answers) <= pods["blue"] | pods["green"]
    eventually(lambda: {answerer(address) for _ in range(4)}, pods["green"])


def test_an_open_connection_stays_where_it_is(world):
    address = two_colors(world)
    connection = http.client.HTTPConnection(*address, timeout=60)
    connection.request("GET", "/")
    first = connection.getresponse().read().decode()
    world.kubectl("patch", "service", "web", "--type=merge", '-p={"spec":{"selector":{"color":"green"}}}')
    eventually(lambda: answerer(address) in names(world, "color=green"))
    connection.request("GET", "/")
    assert connection.getresponse().read().decode() == first
    connection.close()


def test_pods_that_are_not_ready_get_no_connections_and_none_at_all_is_refused(world):
    world.apply(deployment("blue", 2, BLUE), service("web", BLUE))
    world.kubectl("rollout", "status", "deployment/blue", "--timeout=90s")
    address = world.address("web")
    one, other = world.pods("color=blue")
    world.ask(one, "/unready", post=True)
    eventually(lambda: {answerer(address) for _ in range(4)}, {other["metadata"]["name"]})
    world.ask(other, "/unready", post=True)
    eventually(lambda: refused(address))


def refused(address):
    try:
        socket.create_connection(address, timeout=60).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_service_without_pods_refuses_connections(world):
    world.apply(service("web", {"color": "none"}))
    assert refused(world.address("web"))


def test_a_rolling_update_behind_a_service_loses_no_request(world):
    patient = {"env": [{"name": "LINGER", "value": "10"}]}
    world.apply(deployment("blue", 2, BLUE, template=web_template(BLUE, container=patient)), service("web", BLUE))
    world.kubectl("rollout", "status", "deployment/blue", "--timeout=90s")
    address = world.address("web")
    eventually(lambda: answerer(address))
    with users(address, 1) as answers:
        world.kubectl("set", "env", "deployment/blue", "VERSION=2")
        world.kubectl("rollout", "status", "deployment/blue", "--timeout=90s")
    assert answers.count(None) == 0


@pytest.mark.emulation("a real API server accepts no loopback addresses in EndpointSlices")
def test_endpoint_slices_say_who_is_ready(world):
    world.apply(deployment("blue", 2, BLUE), service("web", BLUE))
    world.kubectl("rollout", "status", "deployment/blue", "--timeout=90s")

    def ready():
        slices = world.get("endpointslices", None, "-l", "kubernetes.io/service-name=web")
        return {e["addresses"][0] for s in slices for e in s["endpoints"] or [] if e["conditions"]["ready"]}

    eventually(ready, {pod["status"]["podIP"] for pod in world.pods("color=blue")})


def test_pods_find_the_services_of_their_namespace_in_their_environment(world):
    world.apply(service("model-blue", BLUE, port=8082))
    host, port = world.address("model-blue")
    template = web_template(BLUE)
    world.apply(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": BLUE}, "spec": template["spec"]}
    )
    world.wait("condition=Ready", "pod/p")
    env = world.ask(world.pod("p"), "/env")
    assert f'"MODEL_BLUE_SERVICE_HOST": "{host}"' in env
    assert f'"MODEL_BLUE_SERVICE_PORT": "{port}"' in env


def test_half_closed_connections_and_large_answers_pass_through(world):
    code = (
        "import os,socket\n"
        "s=socket.create_server((os.environ['IP'],8080))\n"
        "while True:\n"
        "  c,_=s.accept(); data=b''\n"
        "  while chunk:=c.recv(65536): data+=chunk\n"
        "  c.sendall(data[::-1]); c.close()\n"
    )
    container = {
        "name": "main",
        "image": "python",
        "args": [code],
        "ports": [{"name": "http", "containerPort": 8080}],
        "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 1},
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mirror", "labels": {"app": "mirror"}}, "spec": spec}
    world.apply(pod, service("mirror", {"app": "mirror"}))
    world.wait("condition=Ready", "pod/mirror")
    address = world.address("mirror")
    eventually(lambda: not refused(address))
    sent = bytes(range(256)) * 8192
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert received == sent[::-1]

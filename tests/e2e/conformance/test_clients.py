"""Unmodified clients: Kopf, the official asynchronous client, and kubectl's commands."""

import asyncio
import base64
import threading
import uuid

import kopf
import pytest
from kubernetes.aio import client, config, watch
from tests.e2e.conformance.conftest import deployment

pytestmark = pytest.mark.e2e


@pytest.fixture
def settled(monkeypatch, cluster):
    """Let clients that read the environment find the cluster."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))


@pytest.mark.usefixtures("settled")
def test_kopf_sees_what_is_created_changed_and_deleted(cluster, namespace):
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    settings.posting.enabled = False
    seen, ready, stop = [], threading.Event(), threading.Event()
    arrived = threading.Condition()

    @kopf.on.event("configmaps", labels={"followed": "yes"}, registry=registry)
    async def follow(type, body, **_):  # noqa: A002 - Kopf names it
        with arrived:
            seen.append((type, dict(body.get("data", {}))))
            arrived.notify_all()

    @kopf.on.login(registry=registry)
    def login(**arguments):
        return kopf.login_with_kubeconfig(**arguments)

    async def operate():
        flag = asyncio.Event()
        work = kopf.operator(
            registry=registry,
            settings=settings,
            namespaces=[namespace],
            standalone=True,
            ready_flag=flag,
            stop_flag=stop,
        )
        task = asyncio.create_task(work)
        waiting = asyncio.create_task(flag.wait())
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        ready.set()
        await task

    thread = threading.Thread(target=lambda: asyncio.run(operate()), daemon=True)
    thread.start()
    assert ready.wait(30)

    def told(event, data):
        with arrived:
            assert arrived.wait_for(lambda: (event, data) in seen, timeout=30), seen

    def kubectl(*arguments):
        cluster.kubectl("-n", namespace, *arguments)

    try:
        kubectl("create", "configmap", "c", "--from-literal=n=1")
        kubectl("label", "configmap", "c", "followed=yes")
        with arrived:
            assert arrived.wait_for(lambda: any(data == {"n": "1"} for _, data in seen), timeout=30), seen
        kubectl("patch", "configmap", "c", "--type=merge", "-p", '{"data": {"n": "2"}}')
        told("MODIFIED", {"n": "2"})
        kubectl("delete", "configmap", "c")
        told("DELETED", {"n": "2"})
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()


async def test_the_official_client_creates_lists_watches_and_deletes(cluster, namespace):
    settings = client.Configuration()
    await config.load_kube_config(str(cluster.kubeconfig), client_configuration=settings)
    async with client.ApiClient(settings) as api:
        core = client.CoreV1Api(api)
        body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="c", labels={"mine": "1"}), data={"k": "v"})
        made = await core.create_namespaced_config_map(namespace, body)
        listed = await core.list_namespaced_config_map(namespace, label_selector="mine")
        assert [item.metadata.uid for item in listed.items] == [made.metadata.uid]
        await core.delete_namespaced_config_map("c", namespace)
        follower = watch.Watch()
        revision = made.metadata.resource_version
        stream = follower.stream(
            core.list_namespaced_config_map, namespace, label_selector="mine", resource_version=revision
        )
        async for event in stream:
            assert (event["type"], event["object"].metadata.name) == ("DELETED", "c")
            break
        await follower.close()
        apps = client.AppsV1Api(api)
        await apps.create_namespaced_deployment(namespace, deployment("web"))
        read = await apps.read_namespaced_deployment("web", namespace)
        assert read.spec.strategy.type == "RollingUpdate"


@pytest.fixture
def kubectl(cluster, namespace):
    return lambda *arguments, **more: cluster.kubectl("-n", namespace, *arguments, **more)


def test_kubectl_applies_from_the_client_and_from_the_server(kubectl):
    body = deployment("web")
    assert "created" in kubectl("apply", "-f", "-", stdin=body)
    assert "unchanged" in kubectl("apply", "-f", "-", stdin=body)
    body["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "A", "value": "1"}]
    assert "configured" in kubectl("apply", "-f", "-", stdin=body)
    shown = kubectl("get", "deploy", "web", "-o", "jsonpath={.spec.template.spec.containers[0].env[*].name}")
    assert shown == "A"
    body["spec"]["minReadySeconds"] = 3
    assert "serverside-applied" in kubectl("apply", "--server-side", "-f", "-", stdin=body)
    assert kubectl("diff", "-f", "-", stdin=body) == ""


def test_kubectl_prints_tables_and_descriptions(kubectl):
    kubectl("apply", "-f", "-", stdin=deployment("web"))
    assert kubectl("get", "deploy").split()[:5] == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert "RollingUpdateStrategy:" in kubectl("describe", "deploy", "web")
    assert "deployments" in kubectl("api-resources", "--api-group=apps")
    assert "FIELD: strategy <DeploymentStrategy>" in kubectl("explain", "deployment.spec.strategy")


def test_kubectl_scales_labels_annotates_and_edits(kubectl, monkeypatch):
    kubectl("apply", "-f", "-", stdin=deployment("web"))
    kubectl("scale", "deploy/web", "--replicas=2")
    kubectl("label", "deploy/web", "color=blue")
    kubectl("annotate", "deploy/web", "example.dev/k=v")
    monkeypatch.setenv("KUBE_EDITOR", "sed -i s/blue/green/")
    kubectl("edit", "deploy/web")
    path = "jsonpath={.spec.replicas} {.metadata.labels.color} {.metadata.annotations.example\\.dev/k}"
    assert kubectl("get", "deploy", "web", "-o", path) == "2 green v"


def test_kubectl_builds_objects_itself(kubectl, namespace):
    kubectl("create", "configmap", "c", "--from-literal=k=v")
    kubectl("create", "secret", "generic", "s", "--from-literal=k=v")
    encoded = kubectl("get", "secret", "s", "-o", "jsonpath={.data.k}")
    assert base64.b64decode(encoded) == b"v"
    kubectl("create", "serviceaccount", "robot")
    kubectl("create", "role", "r", "--verb=get", "--resource=pods")
    kubectl("create", "rolebinding", "r", "--role=r", f"--serviceaccount={namespace}:robot")
    assert kubectl("auth", "can-i", "get", "pods").strip() == "yes"
    assert kubectl("create", "token", "robot").count(".") == 2
    kubectl("create", "deployment", f"d{uuid.uuid4().hex[:4]}", "--image=app:1", "--replicas=0")


def test_kubectl_waits_for_a_condition_and_for_the_end(kubectl):
    kubectl("create", "configmap", "c", "--from-literal=k=v")
    kubectl("wait", "--for=jsonpath={.data.k}=v", "configmap/c", "--timeout=90s")
    kubectl("delete", "configmap", "c", "--wait=false")
    kubectl("wait", "--for=delete", "configmap/c", "--timeout=90s")


def test_an_unknown_field_is_refused_before_it_is_stored(kubectl):
    body = deployment("web")
    body["spec"]["replcas"] = 2
    answer = kubectl("apply", "-f", "-", stdin=body, check=False)
    assert 'unknown field "spec.replcas"' in answer
    assert "NotFound" in kubectl("get", "deploy", "web", check=False)

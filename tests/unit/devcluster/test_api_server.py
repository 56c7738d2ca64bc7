"""The API server by itself, in this process: TLS, identities, malformed requests."""

import asyncio
import ssl
import tempfile

import aiohttp
import pytest
import yaml
from tests.e2e.conformance.conftest import APPLY, config_map

from anomaly_devcluster.api.server import ApiServer

MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
async def server():
    async with ApiServer() as running:
        yield running


class Session:
    def __init__(self, server, token=None, pair=None):
        context = ssl.create_default_context(cadata=server.ca_pem)
        if pair:
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as both:
                both.write(pair.certificate + pair.key)
                both.flush()
                context.load_cert_chain(both.name)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connector = aiohttp.TCPConnector(ssl=context)
        self._session = aiohttp.ClientSession(base_url=server.url, headers=headers, connector=connector)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self._session.close()

    async def ask(self, method, path, **more):
        async with self._session.request(method, path, **more) as answer:
            return answer.status, await answer.json(content_type=None)


def admin(server):
    return Session(server, yaml.safe_load(server.admin_kubeconfig())["users"][0]["user"]["token"])


async def test_a_client_certificate_says_who_asks(server):
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    async with Session(server, pair=server.authority.client("ada", ("system:masters",))) as ada:
        _, answer = await ada.ask("POST", path, json=review)
        assert answer["status"]["userInfo"] == {"username": "ada", "groups": ["system:masters", "system:authenticated"]}
        assert (await ada.ask("GET", MAPS))[0] == 200
    async with Session(server, pair=server.authority.client("bob")) as bob:
        assert (await bob.ask("GET", MAPS))[0] == 403


async def test_without_credentials_only_health_and_version_answer(server):
    async with Session(server) as anonymous:
        assert (await anonymous.ask("GET", "/version"))[0] == 200
        assert [(await anonymous.ask("GET", path))[0] for path in (MAPS, "/apis", "/devcluster/faults")] == [403] * 3


async def test_the_switchboard_is_for_masters_only(server):
    async with Session(server, pair=server.authority.client("bob")) as bob:
        assert (await bob.ask("POST", "/devcluster/faults", json={"action": "reset"}))[0] == 403


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("POST", MAPS, b"", 400),
        ("POST", MAPS, b"[]", 400),
        ("POST", MAPS, b'"text"', 400),
        ("POST", MAPS, b'{"metadata": []}', 400),
        ("POST", MAPS, b'{"metadata": {"name": 5}}', 400),
        ("POST", MAPS, b"\xff\xfe", 400),
        ("PUT", MAPS, b"{}", 405),
        ("POST", f"{MAPS}/a", b"{}", 405),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", b"[]", 400),
        ("POST", "/devcluster/faults", b"[]", 400),
        ("POST", "/devcluster/faults", b"{nope", 400),
        ("DELETE", f"{MAPS}/absent", b"[]", 404),
        ("DELETE", MAPS, b'{"preconditions": "x"}', 400),
        ("DELETE", MAPS, b'{"gracePeriodSeconds": "soon"}', 400),
        ("GET", "//", b"", 404),
        ("GET", "/api/v1/namespaces", b"", 200),
        ("GET", "/apis/apps/v2", b"", 404),
        ("GET", "/openapi/v3/apis/none/v1", b"", 404),
        ("POST", MAPS, b"x" * (3 * 1024 * 1024 + 1), 413),
    ],
)
async def test_a_malformed_request_is_told_what_is_wrong_with_it(server, method, path, body, code):
    async with admin(server) as session:
        status, answer = await session.ask(method, path, data=body, headers={"Content-Type": "application/json"})
        assert status == code, answer


LABELS = {"app": "a"}
TEMPLATE = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "main", "image": "i"}]}}
MEMORY = {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 50}}


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        ("/apis/apps/v1/namespaces/default/statefulsets", {}, "statefulsets.apps"),
        ("/apis/authentication.k8s.io/v1/tokenreviews", {}, "tokenreviews"),
        ("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", {}, "selfsubjectrulesreviews"),
        (
            "/apis/apps/v1/namespaces/default/deployments",
            {"selector": {"matchLabels": LABELS}, "template": TEMPLATE, "strategy": {"type": "Recreate"}},
            'spec.strategy.type "Recreate" of deployments',
        ),
        (
            "/apis/apps/v1/namespaces/default/deployments",
            {"selector": {"matchLabels": LABELS}, "template": TEMPLATE, "paused": True},
            "spec.paused true of deployments",
        ),
        (
            "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
            {
                "maxReplicas": 2,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"},
                "metrics": [{"type": "Resource", "resource": MEMORY}],
            },
            'spec.metrics[*].resource.name "memory" of horizontalpodautoscalers',
        ),
        ("/api/v1/nodes", {"unschedulable": True}, "spec.unschedulable true of nodes"),
    ],
)
async def test_what_devcluster_does_not_emulate_is_named(server, path, body, name):
    async with admin(server) as session:
        status, answer = await session.ask("POST", path, json={"metadata": {"name": "a"}, "spec": body})
        assert (status, answer["reason"]) == (501, "NotImplemented")
        assert answer["message"].startswith(f"devcluster does not emulate {name}")


@pytest.mark.parametrize("header", [{"Impersonate-User": "bob"}, {"Accept": "text/json;as=PartialObjectMetadata"}])
async def test_a_form_of_request_that_is_not_emulated_is_refused(server, header):
    async with admin(server) as session:
        assert (await session.ask("GET", MAPS, headers=header))[0] == 501


@pytest.mark.parametrize(
    "config",
    [
        {"data": []},
        {"metadata": {"finalizers": "x"}},
        {"metadata": {"ownerReferences": [{"uid": ["a"]}]}},
        {"metadata": {"ownerReferences": ["a"]}},
    ],
)
async def test_a_malformed_apply_is_a_bad_request(server, config):
    async with admin(server) as session:
        path = f"{MAPS}/a?fieldManager=alice"
        body = {"apiVersion": "v1", "kind": "ConfigMap", **config}
        status, answer = await session.ask("PATCH", path, json=body, headers={"Content-Type": APPLY})
        assert (status, answer["reason"]) == (400, "BadRequest")


async def test_concurrent_writers_of_one_object_lose_no_update(server):
    async with admin(server) as session:
        await session.ask("POST", MAPS, json=config_map("counter", {"n": "0"}))

        async def add():
            while True:
                _, body = await session.ask("GET", f"{MAPS}/counter")
                body["data"]["n"] = str(int(body["data"]["n"]) + 1)
                if (await session.ask("PUT", f"{MAPS}/counter", json=body))[0] == 200:
                    return

        await asyncio.gather(*(add() for _ in range(20)))
        assert (await session.ask("GET", f"{MAPS}/counter"))[1]["data"]["n"] == "20"


async def test_a_watch_ends_with_its_client(server):
    async with admin(server) as session, asyncio.timeout(30):

        async def watching():
            return (await session.ask("POST", "/devcluster/freeze-watches", json={"resource": "configmaps"}))[1][
                "watches"
            ]

        following = asyncio.create_task(session.ask("GET", MAPS, params={"watch": "1", "resourceVersion": "1"}))
        while await watching() != 1:
            pass
        following.cancel()
        while await watching() != 0:
            pass

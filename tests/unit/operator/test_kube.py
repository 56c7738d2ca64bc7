import pytest
from aiohttp import web

from anomaly_operator.adapters.kube import ForbiddenError, Kube
from anomaly_operator.adapters.kubeconfig import KubeConfig


@pytest.fixture
async def kube_refusing():
    runners = []

    async def start(details):
        async def refuse(_):
            status = {"kind": "Status", "reason": "Forbidden", "message": "no", "details": details}
            return web.json_response(status, status=403)

        application = web.Application()
        application.router.add_route("*", "/{path:.*}", refuse)
        runner = web.AppRunner(application)
        await runner.setup()
        runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return KubeConfig(server=f"http://127.0.0.1:{runner.addresses[0][1]}")

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("details", "terminating"),
    [
        ({"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]}, True),
        ({"causes": [{"reason": "FieldValueInvalid"}]}, False),
        ({}, False),
        (None, False),
    ],
)
async def test_a_refusal_in_a_namespace_that_is_on_its_way_out_is_known_as_such(kube_refusing, details, terminating):
    async with Kube(await kube_refusing(details)) as kube:
        with pytest.raises(ForbiddenError) as caught:
            await kube.create("ConfigMap", "ns", {"metadata": {"name": "x"}})
    assert caught.value.is_namespace_terminating is terminating

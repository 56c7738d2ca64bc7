"""The HTTP layer in this process: what becomes of faults that no protocol knows."""

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from anomaly_detector.accounting import Accounting
from anomaly_detector.cache import Cache
from anomaly_detector.metrics import RequestMetrics
from anomaly_detector.protocols.predict import Predict
from anomaly_detector.server import DataServer


class Broken(Predict):
    """A protocol with a fault of its own."""

    def render(self, *_):
        raise KeyError("what was never there")


async def test_a_fault_in_a_protocol_is_a_500_in_its_words_and_counts_as_a_failure(pod):
    accounting = Accounting(pod, RequestMetrics(CollectorRegistry()))
    server = DataServer(pod, accounting, Cache(pod.settings.artifact.cache_dir), for_users=True)
    app = web.Application()
    app.router.add_post("/broken", server._scoring(Broken()))
    async with TestClient(TestServer(app)) as client:
        answer = await client.post("/broken", json={"rows": [[1, 2]]})
        assert answer.status == 500
        assert (await answer.json())["error"]["reason"] == "ServerError"
    tally = pod.window.tally("user")
    assert tally.failed == 1
    assert pod.in_flight == 0

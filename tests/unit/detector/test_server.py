"""The HTTP layer in this process: what becomes of faults that no protocol knows."""

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from anomaly_detector.accounting import Accounting
from anomaly_detector.cache import Cache
from anomaly_detector.metrics import RequestMetrics
from anomaly_detector.protocols.predict import Predict
from anomaly_detector.server import DataServer


class WritesNothing(Predict):
    """A protocol with a fault where answers are written."""

    def render(self, *_):
        raise KeyError("what was never there")


class ReadsNothing(Predict):
    """A protocol with a fault where requests are read."""

    def parse(self, *_):
        raise KeyError("what was never there")


async def asked(pod, protocol):
    accounting = Accounting(pod, RequestMetrics(CollectorRegistry()))
    server = DataServer(pod, accounting, Cache(pod.settings.artifact.cache_dir), for_users=True)
    app = web.Application()
    app.router.add_post("/broken", server._scoring(protocol))
    async with TestClient(TestServer(app)) as client:
        answer = await client.post("/broken", json={"rows": [[1, 2]]})
        assert pod.in_flight == 0
        return answer.status, (await answer.json())["error"]["reason"], pod.window.tally("user")


async def test_a_fault_in_a_protocol_is_a_500_in_its_words_and_counts_as_a_failure(pod):
    status, reason, tally = await asked(pod, WritesNothing())
    assert (status, reason, tally.failed) == (500, "ServerError", 1)


async def test_what_nobody_can_read_is_no_word_about_the_model(pod):
    """Else anyone could move users to another version by sending what a protocol did not think of."""
    status, reason, tally = await asked(pod, ReadsNothing())
    assert (status, reason, tally.failed) == (400, "Unreadable", 0)

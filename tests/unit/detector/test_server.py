"""The HTTP layer in this process: small and large requests, and what becomes of faults that no protocol knows."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from anomaly_detector.accounting import Accounting
from anomaly_detector.cache import Cache
from anomaly_detector.metrics import RequestMetrics
from anomaly_detector.protocols.predict import Predict
from anomaly_detector.server import DataServer

SMALL = [[1, 2]]
LARGE = [[number, 2] for number in range(20_000)]


class WritesNothing(Predict):
    """A protocol with a fault where answers are written."""

    def render(self, *_):
        raise KeyError("what was never there")


class ReadsNothing(Predict):
    """A protocol with a fault where requests are read."""

    def parse(self, *_):
        raise KeyError("what was never there")


async def asked(pod, protocol, rows):
    accounting = Accounting(pod, RequestMetrics(CollectorRegistry()))
    server = DataServer(pod, accounting, Cache(pod.settings.artifact.cache_dir), for_users=True)
    app = web.Application(client_max_size=2**23)
    app.router.add_post("/scores", server._scoring(protocol))
    async with TestClient(TestServer(app)) as client:
        answer = await client.post("/scores", json={"rows": rows})
        assert pod.in_flight == 0
        return answer.status, await answer.json(), pod.window.tally("user")


@pytest.mark.parametrize("rows", [SMALL, LARGE], ids=["small", "large"])
async def test_a_fault_in_a_protocol_is_a_500_in_its_words_and_counts_as_a_failure(pod, rows):
    status, said, tally = await asked(pod, WritesNothing(), rows)
    assert (status, said["error"]["reason"], tally.failed) == (500, "ServerError", 1)


@pytest.mark.parametrize("rows", [SMALL, LARGE], ids=["small", "large"])
async def test_what_nobody_can_read_is_no_word_about_the_model(pod, rows):
    """Else anyone could move users to another version by sending what a protocol did not think of."""
    status, said, tally = await asked(pod, ReadsNothing(), rows)
    assert (status, said["error"]["reason"], tally.failed) == (400, "Unreadable", 0)


@pytest.mark.parametrize("rows", [SMALL, LARGE], ids=["small", "large"])
async def test_requests_of_any_size_are_answered_and_counted(pod, rows):
    status, said, tally = await asked(pod, Predict(), rows)
    assert status == 200
    assert [one["score"] for one in said["predictions"]] == [a + b for a, b in rows]
    assert (tally.served, tally.rows) == (1, len(rows))

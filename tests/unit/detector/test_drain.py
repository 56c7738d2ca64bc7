"""What a draining pod does when the other color fails: it answers itself, counts that, and soon stops trying."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, unused_port
from prometheus_client import CollectorRegistry

from anomaly_detector.accounting import Accounting
from anomaly_detector.cache import Cache
from anomaly_detector.circuit import Breaker
from anomaly_detector.drain import PassThrough
from anomaly_detector.metrics import RequestMetrics
from anomaly_detector.roles import Assignment
from anomaly_detector.server import DataServer


@pytest.fixture
async def passing_on():
    """A server that passes everything on to a place where nobody listens, and says whether it had to answer itself."""
    port = unused_port()
    pass_through = PassThrough(f"http://127.0.0.1:{port}")

    async def handle(request):
        passed = await pass_through.ask(request, await request.read())
        return passed or web.Response(text="own answer")

    app = web.Application()
    app.router.add_post("/predict", handle)
    async with TestClient(TestServer(app)) as client:
        yield client, pass_through, port
    await pass_through.close()


async def ask(client):
    async with client.post("/predict", data=b"{}") as answer:
        return await answer.text()


async def other_color(port):
    """Listen where nobody did, and count."""
    asked = []

    async def handle(request):
        asked.append(request.path)
        return web.Response(text="other color")

    app = web.Application()
    app.router.add_post("/predict", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner, asked


async def test_after_some_failures_in_a_row_the_other_color_is_left_alone(passing_on):
    client, pass_through, port = passing_on
    failures = Breaker().failures_to_open
    assert {await ask(client) for _ in range(failures)} == {"own answer"}
    runner, asked = await other_color(port)
    try:
        assert await ask(client) == "own answer"
        assert (asked, pass_through.passed) == ([], 0)
    finally:
        await runner.cleanup()


async def test_failures_that_are_not_in_a_row_leave_the_circuit_closed(passing_on):
    client, pass_through, port = passing_on
    for _ in range(2):
        for _ in range(Breaker().failures_to_open - 1):
            assert await ask(client) == "own answer"
        runner, asked = await other_color(port)
        assert await ask(client) == "other color"
        assert asked == ["/predict"]
        await runner.cleanup()
    assert pass_through.passed == 2


async def test_answers_of_its_own_and_of_the_other_color_are_counted_for_as_long_as_the_role_lasts(pod):
    port = unused_port()
    pod.pass_through = PassThrough(f"http://127.0.0.1:{port}")
    pod.roles.on_change.append(pod.change_role)
    accounting = Accounting(pod, RequestMetrics(CollectorRegistry()))
    server = DataServer(pod, accounting, Cache(pod.settings.artifact.cache_dir), for_users=True)
    runner, _ = await other_color(port)

    def becomes(role, epoch):
        pod.roles.assign(Assignment(role=role, epoch=epoch, pass_through=True))

    async def counts(*, after):
        for second in after:
            await (await client.post("/predict", json={"rows": [[1, second]]})).read()
        report = pod.report()
        return report.ownUserAnswers, report.passedOn

    async with TestClient(TestServer(server.app())) as client:
        becomes("active", 1)
        assert await counts(after=[1, 2]) == (2, 0)
        answered = pod.last_own_user_answer
        becomes("draining", 2)
        assert await counts(after=[1, 2, 3]) == (0, 3)
        assert pod.last_own_user_answer == answered
        await runner.cleanup()
        pod.serving.plane.model.scorer.fails_on = 7.0
        assert await counts(after=["no number", 7]) == (1, 3)
        assert pod.last_own_user_answer > answered
        becomes("standby", 3)
        assert await counts(after=[]) == (0, 0)
        becomes("draining", 4)
        assert await counts(after=[1]) == (1, 0)
    await pod.pass_through.close()


def test_an_open_circuit_lets_tries_through_after_its_time():
    breaker = Breaker(failures_to_open=2, seconds_open=2.0)
    breaker.note(success=False, now=10.0)
    assert breaker.allows(10.0)
    breaker.note(success=False, now=11.0)
    assert (breaker.allows(12.9), breaker.allows(13.0)) == (False, True)
    breaker.note(success=False, now=13.5)
    assert not breaker.allows(13.6)
    breaker.note(success=True, now=16.0)
    breaker.note(success=False, now=16.1)
    assert breaker.allows(16.1)

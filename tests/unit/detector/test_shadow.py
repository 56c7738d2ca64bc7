"""What copies say, and what their answers are counted as: by real requests to a server of the other color's."""

import asyncio
import time
from contextlib import asynccontextmanager

import numpy as np
import pytest
from aiohttp import web

from anomaly_detector.protocols import Contract, Payload, Scored
from anomaly_detector.protocols.predict import Predict
from anomaly_detector.report import Report
from anomaly_detector.shadow import Copy, ShadowTraffic

FEATURES = ("a", "b")
CONTRACT = Contract(features=FEATURES, model="m", version="1")
NAN, INFINITY = float("nan"), float("inf")
ROW = np.ones((1, 2))


def scored(*scores):
    anomalous = np.array(scores) > 1.5
    return Scored(scores=np.array(scores), anomalous=anomalous, confidence=None, ids={}, explanations={})


def says(*scores, revision="r-2"):
    """Return what answers with these scores."""
    predictions = [{"anomaly": score is not None and score > 1.5, "score": score} for score in scores]
    headers = {} if revision is None else {"x-anomaly-revision": revision}
    return lambda: web.json_response({"predictions": predictions}, headers=headers)


def is_answered(status, **more):
    """Return what answers with a status."""
    return lambda: web.Response(status=status, headers={"x-anomaly-revision": "r-2"}, **more)


class Other:
    """Answers copies in turn."""

    def __init__(self, *answers):
        self.answers, self.bodies, self.seconds = list(answers), [], []

    async def take(self, request):
        began = time.perf_counter()
        self.bodies.append(await request.read())
        answer = self.answers.pop(0)()
        self.seconds.append(time.perf_counter() - began)
        return answer


@asynccontextmanager
async def copying(*answers):
    """Yield the traffic to what answers so, and that, while copies are sent."""
    other, app = Other(*answers), web.Application()
    app.router.add_post("/predict", other.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    traffic = ShadowTraffic(f"http://127.0.0.1:{site.port}", FEATURES)
    sending = asyncio.create_task(traffic.run())
    try:
        yield traffic, other
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await runner.cleanup()


async def send(traffic, *copies):
    """Send copies one after the other, and wait until each has been counted; returns what is reported then."""
    for copy in copies:
        before = traffic.comparison.report()
        traffic.offer(copy, 100)
        async with asyncio.timeout(30):
            while traffic.comparison.report() == before:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.001)
    return traffic.comparison.report()


@pytest.mark.parametrize(
    "rows",
    [
        [[1.0, NAN], [0.1, 2e300]],
        [[1.0, INFINITY], [NAN, -INFINITY]],
    ],
)
async def test_the_other_color_gets_the_rows_that_this_one_scored(rows):
    rows = np.array(rows)
    async with copying(says(1.0, 1.0)) as (traffic, other):
        await send(traffic, Copy(rows, scored(1.0, 1.0), {}))
    (body,) = other.bodies
    query = Predict().parse(Payload(body=body), CONTRACT)
    np.testing.assert_array_equal(query.rows, rows)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (says(1.0), "answered"),
        (is_answered(500), "failed"),
        (is_answered(504), "failed"),
        (is_answered(200, text="well"), "failed"),
        (is_answered(200, text='{"predictions": null}'), "failed"),
        (says(1.0, 1.0), "failed"),
        (is_answered(400), "refused"),
        (is_answered(413), "refused"),
        (is_answered(503), "refused"),
    ],
)
async def test_only_what_the_other_model_is_to_blame_for_is_its_failure(answer, outcome):
    async with copying(answer) as (traffic, _):
        report = await send(traffic, Copy(ROW, scored(1.0), {}))
    counts = {name: getattr(report, name) for name in ("answered", "failed", "refused", "dropped")}
    assert counts == {"answered": 0, "failed": 0, "refused": 0, "dropped": 0, outcome: 1}
    assert (report.sent, report.otherRevision) == (1, "r-2")


async def test_an_answer_that_could_not_be_read_is_no_word_about_the_other_color():
    def by_a_proxy():
        answer = web.Response(text="{}")
        answer.enable_chunked_encoding()
        return answer

    async with copying(*[by_a_proxy] * 4, says(1.0)) as (traffic, other):
        report = await send(traffic, *[Copy(ROW, scored(1.0), {})] * 4)
        assert (report.sent, report.dropped) == (0, 4)
        report = await send(traffic, Copy(ROW, scored(1.0), {}))
    assert (report.answered, report.failed, report.dropped, len(other.bodies)) == (1, 0, 4, 5)


async def test_times_are_those_of_the_requests_that_were_compared():
    answers = [says(1.0), is_answered(500), says(1.0), says(1.0), says(1.0)]
    async with copying(*answers) as (traffic, other):
        report = await send(
            traffic,
            Copy(ROW, scored(1.0), {}, 0.002),
            Copy(ROW, scored(1.0), {}, 7.0),
            Copy(ROW, None, {}, 7.0),
            Copy(ROW, scored(1.0), {}),
            Copy(ROW, scored(1.0), {}, 0.004),
        )
    assert report.meanOwnMilliseconds == pytest.approx(3.0)
    assert report.meanOtherMilliseconds >= (other.seconds[0] + other.seconds[4]) / 2 * 1000 - 1e-6
    assert report.meanOtherMilliseconds < 30_000


async def test_scores_that_are_no_numbers_leave_the_report_readable():
    rows = np.ones((3, 2))
    async with copying(says(None, 1.5, 2.0), says(None, None, None)) as (traffic, _):
        report = await send(traffic, Copy(rows, scored(1.0, 1.0, NAN), {}))
        assert (report.rows, report.meanScoreDifference) == (3, 0.5)
        report = await send(traffic, Copy(rows, scored(1.0, 1.0, 1.0), {}))
    assert (report.rows, report.meanScoreDifference) == (6, 0.5)
    now = "2026-01-01T00:00:00+00:00"
    whole = Report(seq=1, time=now, bootId="b", startedAt=now, shadow=report)
    assert Report.from_json(whole.to_json()).shadow == report


async def test_another_revision_is_compared_anew_and_what_names_none_is_not_another():
    async with copying(says(1.0), says(1.0, revision=None), says(1.0, revision="r-3")) as (traffic, _):
        report = await send(traffic, *[Copy(ROW, scored(1.0), {})] * 2)
        assert (report.answered, report.otherRevision) == (2, "r-2")
        report = await send(traffic, Copy(ROW, scored(1.0), {}))
    assert (report.sent, report.answered, report.otherRevision) == (1, 1, "r-3")

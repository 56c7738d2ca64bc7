"""Writing to InfluxDB beside the requests: slow explanations hold nothing up, refused points cost no others."""

import asyncio
import threading
import time
from collections import Counter

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tests.plugins.influx_double import InfluxDouble

from anomaly_detector.config import InfluxConfig
from anomaly_detector.influx import writer as under_test
from anomaly_detector.influx.writer import InfluxWriter
from anomaly_detector.observer import Observation
from anomaly_detector.protocols import Scored
from anomaly_detector.report import Drift, Report


class SlowExplainer:
    """Takes as long as a test wants; explains in a thread, as shap does."""

    fast = False

    def __init__(self):
        self.may_end = threading.Event()

    def explain(self, rows, scores, *_):
        self.may_end.wait(60)
        said = {"text": "t", "interpretation": "i", "base": 0.1, "contributions": []}
        return [said for _ in zip(rows, scores, strict=True)]


@pytest.fixture
def explainer(pod):
    pod.serving.plane.explainer = SlowExplainer()
    yield pod.serving.plane.explainer
    pod.serving.plane.explainer.may_end.set()
    pod.serving.plane.close()


@pytest.fixture
async def influx():
    async with InfluxDouble("127.0.0.1", 0) as double:
        yield double


@pytest.fixture
def make(pod):
    """Return a function that makes a writer to an address."""

    def writer(url):
        return InfluxWriter(
            plane=pod.serving.plane,
            tags=pod.tags,
            report=lambda: Report(seq=1, time="", bootId="", startedAt=""),
            heartbeat=lambda: 60.0,
            config=InfluxConfig(url=url.rstrip("/"), org="o", bucket="b", write="all"),
        )

    return writer


def anomalies(count, *, first=0):
    """Return a request of anomalies that were not explained in the answer."""
    numbers = np.arange(first, first + count, dtype=float)
    scored = Scored(
        scores=np.full(count, 0.9), anomalous=np.ones(count, dtype=bool), confidence=None,
        ids={row: f"id-{first + row}" for row in range(count)}, explanations={},
    )  # fmt: skip
    return Observation(np.column_stack([numbers, numbers]), scored, "user")


async def until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def end(running):
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def counts(influx):
    return Counter(measurement for measurement, _, _ in influx.points.copy())


async def test_points_drift_and_reports_get_out_while_an_explanation_takes_for_ever(make, explainer, influx):
    writer = make(influx.url)
    running = asyncio.create_task(writer.run())
    for number in range(2):  # what comes while an explanation is under way is written, too
        writer.observe(anomalies(2, first=2 * number))
        writer.note_drift(Drift(verdict="ok"))
        await until(lambda number=number: counts(influx)["anomaly_prediction"] == 2 * (number + 1))
    await until(lambda: counts(influx)["anomaly_drift"] == 2 and counts(influx)["anomaly_report"] == 1)
    assert counts(influx)["anomaly_explanation"] == 0
    explainer.may_end.set()
    await until(lambda: counts(influx)["anomaly_explanation"] == 4)
    assert {fields["id"] for fields in influx.of("anomaly_explanation").values()} == {f"id-{n}" for n in range(4)}
    assert writer.outcomes.dropped == 0
    await end(running)


async def test_anomalies_that_find_no_room_for_their_explanation_are_written_without_and_counted(
    make, explainer, influx
):
    writer = make(influx.url)
    running = asyncio.create_task(writer.run())
    many = under_test.MAX_UNEXPLAINED // 16 + 10
    for number in range(many):
        writer.observe(anomalies(16, first=16 * number))
    await until(lambda: writer.outcomes.written == 16 * many + 1)  # and a report
    dropped = writer.outcomes.dropped
    assert dropped > 0
    explainer.may_end.set()
    await until(lambda: writer.outcomes.written == 2 * 16 * many + 1 - dropped)
    await end(running)
    assert counts(influx)["anomaly_explanation"] == 16 * many - dropped
    assert writer.outcomes.dropped == dropped


async def test_what_is_explained_in_time_is_written_when_the_pod_ends(make, explainer, influx):
    writer = make(influx.url)
    running = asyncio.create_task(writer.run())
    writer.observe(anomalies(3))
    await until(lambda: counts(influx)["anomaly_prediction"] == 3)
    explainer.may_end.set()
    await end(running)
    assert counts(influx)["anomaly_explanation"] == 3


@pytest.mark.usefixtures("explainer")
async def test_explanations_that_are_not_made_in_time_are_dropped_when_the_pod_ends(make, influx):
    writer = make(influx.url)
    running = asyncio.create_task(writer.run())
    writer.observe(anomalies(3))
    await until(lambda: counts(influx)["anomaly_prediction"] == 3)
    writer.observe(anomalies(1, first=3))
    await end(running)
    assert counts(influx)["anomaly_prediction"] == 4
    assert writer.outcomes.dropped > 0


async def test_a_point_that_influxdb_refuses_costs_no_others(make, influx):
    bad = "id-7"
    influx.judge = lambda points: 400 if any(fields.get("id") == bad for _, _, fields, _ in points) else 204
    writer = make(influx.url)
    running = asyncio.create_task(writer.run())
    writer.observe(anomalies(20))
    await until(lambda: writer.outcomes.rejected)
    await end(running)
    assert {fields["id"] for fields in influx.of("anomaly_prediction").values()} == {f"id-{n}" for n in range(20)} - {
        bad
    }
    assert (writer.outcomes.rejected, writer.outcomes.written) == (1, len(influx.points))


async def test_a_batch_that_was_under_way_when_the_pod_ended_is_sent_once_more(make):
    asked, taken = asyncio.Event(), []

    async def write(request):
        lines = await request.read()
        if not asked.is_set():
            asked.set()
            await asyncio.Event().wait()
        taken.extend(lines.decode().splitlines())
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/api/v2/write", write)
    async with TestServer(app) as server:
        writer = make(str(server.make_url("")))
        writer.observe(anomalies(3))
        running = asyncio.create_task(writer.run())
        await asyncio.wait_for(asked.wait(), 30)
        await end(running)
    assert len([point for point in taken if point.startswith("anomaly_prediction,")]) == 3

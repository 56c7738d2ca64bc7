"""Points of InfluxDB: the line protocol, and what is written of an observation."""

import asyncio
import math
from types import SimpleNamespace

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from anomaly_detector.config import InfluxConfig
from anomaly_detector.influx import points
from anomaly_detector.influx.lineprotocol import line
from anomaly_detector.influx.writer import InfluxWriter
from anomaly_detector.observer import Observation
from anomaly_detector.protocols import Scored
from anomaly_detector.report import Report

TAGS = {"model": "cpu watch", "pod": "p=1"}


def observation(scores, *, source="user"):
    scores = np.array(scores, dtype=float)
    anomalous = scores > 0.5
    ids = {int(row): f"id-{row}" for row in np.flatnonzero(anomalous)}
    scored = Scored(scores=scores, anomalous=anomalous, confidence=scores, ids=ids, explanations={})
    return Observation(np.arange(2.0 * len(scores)).reshape(-1, 2), scored, source, at=1.5)


def written(seen, write, draw=lambda: 0.0):
    made = points.predictions(seen, features=("a", "b c"), tags=TAGS, write=write, clock=points.Clock(), draw=draw)
    return [point for point in made if point is not None]


def test_a_line_escapes_names_and_keeps_types():
    text = line("m x", TAGS | {"empty": ""}, {"n": 1, "f": 1.0, "t": True, "s": 'say "hi" \\ now', "none": None}, 7)
    assert text == r'm\ x,model=cpu\ watch,pod=p\=1 n=1i,f=1.0,t=true,s="say \"hi\" \\ now" 7'


def test_values_that_are_no_number_are_left_out_and_a_point_without_any_is_none():
    assert line("m", {}, {"a": math.nan, "b": 1.0}, 7) == "m b=1.0 7"
    assert line("m", {}, {"a": math.nan, "b": math.inf, "c": None}, 7) is None


@given(st.text(), st.text(), st.text())
def test_whatever_names_and_values_hold_a_point_is_one_line_with_three_parts(tag, name, value):
    text = line("m", {"tag": tag}, {name: 1.0, "s": value.replace("\n", "").replace("\r", "")}, 7)
    assert text is not None
    assert "\n" not in text
    assert text.endswith(" 7")


@pytest.mark.parametrize(
    ("write", "draw", "weights"),
    [
        ("all", 0.99, ["1i", "1i", "1i"]),
        ("anomalies", 0.0, ["1i"]),
        ("sampled", 0.99, ["1i"]),
        ("sampled", 0.0, ["100i", "1i", "100i"]),
    ],
)
def test_what_is_written_by_choice_and_what_a_sampled_row_stands_for(write, draw, weights):
    made = written(observation([0.1, 0.9, 0.2]), write, lambda: draw)
    assert [point.split("weight=")[1].split(",")[0] for point in made] == weights


def test_rows_of_one_request_have_times_of_their_own():
    clock = points.Clock()
    seen = observation([0.9] * 5)
    made = [
        point
        for _ in range(2)
        for point in points.predictions(seen, features=("a", "b"), tags=TAGS, write="all", clock=clock)
    ]
    times = [int(point.rsplit(" ", 1)[1]) for point in made]
    assert times == sorted(set(times))
    assert times[0] == 1_500_000_000


def test_an_anomaly_s_point_has_its_values_and_its_id():
    (point,) = written(observation([0.1, 0.9]), "anomalies")
    assert point.startswith(r"anomaly_prediction,model=cpu\ watch,pod=p\=1,source=user anomaly=true,score=0.9,")
    assert r"value_a=2.0,value_b\ c=3.0" in point
    assert 'id="id-1"' in point


async def test_a_batch_that_was_under_way_when_the_pod_ended_is_sent_once_more():
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
        writer = InfluxWriter(
            plane=SimpleNamespace(model=SimpleNamespace(contract=SimpleNamespace(features=("a", "b")))),
            tags=lambda: TAGS,
            report=lambda: Report(seq=1, time="", bootId="", startedAt=""),
            heartbeat=lambda: 60.0,
            config=InfluxConfig(url=str(server.make_url("")).rstrip("/"), org="o", bucket="b", write="all"),
        )
        writer.observe(observation([0.1, 0.2, 0.3]))
        running = asyncio.create_task(writer.run())
        await asyncio.wait_for(asked.wait(), 30)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert len([point for point in taken if point.startswith("anomaly_prediction,")]) == 3

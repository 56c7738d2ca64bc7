"""Slow and large bodies, through a real connection: what they cost those who send them, and nobody else."""

import asyncio
import json
import threading
from dataclasses import replace

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from anomaly_detector import intake
from anomaly_detector.accounting import Accounting
from anomaly_detector.cache import Cache
from anomaly_detector.dataplane import DataPlane, Model
from anomaly_detector.metrics import RequestMetrics
from anomaly_detector.server import DataServer

ROWS = {"rows": [[1.0, 2.0]]}


@pytest.fixture
async def client(pod, tmp_path):
    server = DataServer(pod, Accounting(pod, RequestMetrics(CollectorRegistry())), Cache(tmp_path), for_users=True)
    async with TestClient(TestServer(server.app())) as one:
        yield one


class Slow:
    """A client that has announced a body and holds most of it back."""

    def __init__(self, client, size=1000):
        self._client, self._size = client, size

    async def __aenter__(self):
        server = self._client.server
        self.reader, self._writer = await asyncio.open_connection(server.host, server.port)
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {self._size}"
        await self.send(head.encode() + b"\r\n\r\n" + b'{"rows": ')
        return self

    async def send(self, some):
        self._writer.write(some)
        await self._writer.drain()

    async def __aexit__(self, *_):
        self._writer.close()


async def until(condition):
    while not condition():  # noqa: ASYNC110 - nobody could wake it
        await asyncio.sleep(0.001)


async def test_slow_bodies_take_no_place_among_the_requests_in_flight(pod, client):
    slow = [Slow(client) for _ in range(pod.settings.max_in_flight + 5)]
    for one in slow:
        await one.__aenter__()
    await until(lambda: pod.intake.arriving == len(slow))
    assert pod.in_flight == 0
    assert pod.busy
    async with client.post("/predict", json=ROWS) as answer:
        assert answer.status == 200
    for one in slow:
        await one.__aexit__()
    await until(lambda: not pod.busy)


async def test_a_body_that_does_not_come_in_time_is_answered_408(pod, client, monkeypatch):
    monkeypatch.setattr(intake, "SECONDS", 0.05)
    async with Slow(client) as slow:
        assert b"408" in await slow.reader.readline()
    assert pod.window.tally("user").client_errors == 1
    assert not pod.busy


async def test_a_body_in_pieces_is_answered_like_one_that_comes_at_once(pod, client):
    text = json.dumps(ROWS).encode()
    async with Slow(client, len(text)) as slow:
        await until(lambda: pod.intake.arriving == 1)
        await slow.send(text.removeprefix(b'{"rows": '))
        assert b"200" in await slow.reader.readline()


async def test_large_bodies_share_what_room_there_is_and_small_ones_need_none(pod, client, monkeypatch):
    monkeypatch.setattr(intake, "ARRIVING_BYTES", 150_000)
    filler = b" " * 100_000
    async with Slow(client, 200_000) as first, Slow(client, 200_000) as second:
        await first.send(filler)
        await until(lambda: pod.intake._held > 100_000)
        await second.send(filler)
        assert b"503" in await second.reader.readline()
        async with client.post("/predict", json=ROWS) as answer:
            assert answer.status == 200
    await until(lambda: not pod.busy)
    assert pod.window.tally("user").shed == 1
    assert pod.intake._held == 0


async def test_one_alone_may_have_more_than_the_room_of_all(client, monkeypatch):
    monkeypatch.setattr(intake, "ARRIVING_BYTES", 100_000)
    padded = json.dumps(ROWS).encode() + b" " * 200_000
    async with client.post("/predict", data=padded, headers={"content-type": "application/json"}) as answer:
        assert answer.status == 200


class Waiting:
    """A model that scores when it is told to."""

    features, threshold, kind = ("a", "b"), 100.0, "waiting"
    accepts_missing = accepts_infinite = True

    def __init__(self):
        self.release = threading.Event()

    def score(self, rows):
        self.release.wait()
        return rows.sum(axis=1)


async def test_requests_beyond_the_limit_in_flight_are_shed(pod, client):
    scorer = Waiting()
    model = Model(scorer=scorer, bundle=None, contract=pod.serving.plane.model.contract)
    pod.serving.plane = DataPlane(model, boot_id="b" * 16, timeout=30)
    pod.settings = replace(pod.settings, max_in_flight=3)
    waiting = [asyncio.create_task(client.post("/predict", json=ROWS)) for _ in range(3)]
    await until(lambda: pod.in_flight == 3)
    async with client.post("/predict", json=ROWS) as answer:
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert (await answer.json())["error"]["reason"] == intake.OVERLOADED
    scorer.release.set()
    assert {(await one).status for one in waiting} == {200}
    assert pod.window.tally("user").shed == 1

"""The short way of everyday requests, over real connections: what goes it, what does not, and that nobody can tell."""

import asyncio
import gzip
import itertools
import json
import re
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from anomaly_detector import express
from anomaly_detector.accounting import Accounting
from anomaly_detector.cache import Cache
from anomaly_detector.dataplane import FLAT
from anomaly_detector.metrics import RequestMetrics
from anomaly_detector.protocols.predict import Predict
from anomaly_detector.roles import Assignment
from anomaly_detector.server import DataServer

JSON = b"Content-Type: application/json\r\n"


def request(body=None, *, path=b"/predict", headers=JSON):
    body = json.dumps({"rows": [[1, 2]]}).encode() if body is None else body
    return b"POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n" % (path, headers, len(body)) + body


class Wire:
    """A client that writes bytes."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def send(self, some):
        self.writer.write(some)
        await self.writer.drain()

    async def answer(self):
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().removesuffix("\r\n\r\n")
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        return int(first.split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def ask(self, some):
        await self.send(some)
        return await self.answer()


class Served:
    def __init__(self, pod, port, site):
        self.pod, self.port, self.site = pod, port, site
        self.address = site._server.sockets[0].getsockname()

    @property
    def heirs(self):
        """Connections that aiohttp has taken over."""
        return self.port.server.connections

    @asynccontextmanager
    async def wire(self):
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            yield Wire(reader, writer)
        finally:
            writer.close()


@pytest.fixture
async def served(pod, tmp_path, monkeypatch):
    monkeypatch.setattr(type(pod.serving.plane.model.scorer), "kind", FLAT)
    server = DataServer(pod, Accounting(pod, RequestMetrics(CollectorRegistry())), Cache(tmp_path), for_users=True)
    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site, port = server.site(runner, ("127.0.0.1", 0), keep_alive=60)
    await site.start()
    yield Served(pod, port, site)
    await runner.cleanup()


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - nobody could wake it
            await asyncio.sleep(0.001)


BODIES = (
    b'{"rows": [[1, 2], [200, 3]]}',
    b'{"inputs": [[1, 2], [200, 3]]}',
    b'{"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP64", "data": [1, 2, 200, 3]}]}',
    b"{",
    b'{"rows": [{"a": 1, "b": 2, "c": 3}]}',
    b'{"rows": [[1, null]]}',
    b"",
    json.dumps({"rows": [[1, 2]] * 900}).encode(),
)


HEADERS = (JSON, JSON + b"X-Request-Id: r-1\r\nAccept-Encoding: gzip\r\n", b"")
ALL = list(itertools.product(HEADERS, BODIES))
PATHS = [b"/predict", b"/explain", b"/invocations", b"/v2/models/m/infer", b"/v2/models/m/versions/1/infer"]


@pytest.mark.parametrize("path", [*PATHS, b"/v2/models/other/infer"])
async def test_the_short_way_and_aiohttp_give_the_same_answers(served, path):
    asked = [request(body, path=path, headers=headers) for headers, body in ALL]
    async with served.wire() as short, served.wire() as long:
        await long.ask(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        for one in asked:
            assert comparable(*await short.ask(one)) == comparable(*await long.ask(one))
        assert len(served.heirs) == (1 if path in PATHS else 2)
    tally = served.pod.window.tally("user")
    await until(lambda: tally.served + tally.client_errors == 2 * len(asked) or path not in PATHS)


def comparable(status, headers, body):
    """Return an answer less what differs from one to the next: its time, and the counted ids of anomalies."""
    assert headers.pop("date")
    del headers["content-length"]
    body = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
    return status, headers, re.sub(rb'"id":"b+-[0-9a-f]+"', b"", body)


async def test_everyday_requests_never_reach_aiohttp_whole_in_pieces_or_several_at_once(served):
    async with served.wire() as wire:
        assert (await wire.ask(request()))[0] == 200
        for byte in request():
            await wire.send(bytes([byte]))
        assert (await wire.answer())[0] == 200
        await wire.send(request() * 3 + request()[:20])
        assert [(await wire.answer())[0] for _ in range(3)] == [200] * 3
        await wire.send(request()[20:])
        assert (await wire.answer())[0] == 200
        assert not served.heirs
    await until(lambda: not served.port.connections)
    assert served.pod.window.tally("user").served == 6


@pytest.mark.parametrize(
    "unusual",
    [
        b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
        request(path=b"/predict?x=1"),
        b"POST /predict HTTP/1.1\r\nHost: x\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\n10\r\n"
        b'{"rows":[[1,2]]}\r\n0\r\n\r\n',
        request(gzip.compress(b'{"rows": [[1, 2]]}'), headers=JSON + b"Content-Encoding: gzip\r\n"),
        request(b'{"rows": [[1, 2]]}' + b" " * 20_000),
    ],
)
async def test_aiohttp_answers_what_is_unusual_and_all_that_follows(served, unusual):
    async with served.wire() as wire:
        await wire.send(request() + unusual + request())
        assert [(await wire.answer())[0] for _ in range(3)] == [200] * 3
        assert (len(served.heirs), len(served.port.connections)) == (1, 0)
        assert (await wire.ask(request()))[0] == 200


@pytest.mark.parametrize("limit", ["max_payload_bytes", "max_in_flight"])
async def test_aiohttp_refuses_what_is_beyond_a_limit(served, limit):
    served.pod.settings = replace(served.pod.settings, **{limit: 0})
    async with served.wire() as wire:
        await wire.ask(request())
        assert served.heirs


async def test_a_model_that_is_not_quick_is_asked_by_aiohttp(served, monkeypatch):
    monkeypatch.setattr(type(served.pod.serving.plane.model.scorer), "kind", "double")
    async with served.wire() as wire:
        assert (await wire.ask(request()))[0] == 200
        assert served.heirs


async def test_a_model_s_own_error_is_500_and_the_connection_works_on(served):
    served.pod.serving.plane.model.scorer.fails_on = 2.0
    async with served.wire() as wire:
        assert (await wire.ask(request()))[0] == 500
        assert (await wire.ask(request(b'{"rows": [[1, 3]]}')))[0] == 200
        assert not served.heirs
    assert served.pod.window.tally("user").failed == 1


class Broken(Predict):
    """A protocol with a fault of its own."""

    def render(self, *_):
        raise KeyError("what was never there")


async def test_a_fault_of_our_own_is_500(served):
    served.port._codecs = {"/predict": Broken()}
    async with served.wire() as wire:
        status, _, body = await wire.ask(request())
    assert (status, json.loads(body)["error"]["reason"]) == (500, "ServerError")
    assert served.pod.window.tally("user").failed == 1


async def test_an_incomplete_request_is_aiohttp_s_after_a_while(served, monkeypatch):
    monkeypatch.setattr(express, "PATIENCE_SECONDS", 0.01)
    async with served.wire() as wire:
        await wire.send(request()[:-3])
        await until(lambda: served.pod.intake.arriving == 1)
        await wire.send(request()[-3:])
        assert (await wire.answer())[0] == 200


async def test_a_connection_that_is_idle_too_long_is_closed(served):
    served.port.keep_alive = 1
    async with served.wire() as wire:
        assert (await wire.ask(request()))[0] == 200
        assert await wire.reader.read() == b""


async def test_a_client_that_takes_no_answers_is_read_no_further(served):
    async with served.wire() as wire:
        wire.writer.transport.pause_reading()
        await until(lambda: served.port.connections)
        (connection,) = served.port.connections
        many = request(json.dumps({"rows": [[200, 2]] * 100}).encode()) * 20
        sent = 0
        while connection._writable:
            wire.writer.write(many)
            sent += 20
            await asyncio.sleep(0.001)
        assert not connection._transport.is_reading()
        wire.writer.transport.resume_reading()
        assert [(await wire.answer())[0] for _ in range(sent)] == [200] * sent
        assert not served.heirs


async def test_while_it_drains_a_pod_closes_connections_after_their_answers(served):
    async with served.wire() as wire:
        assert "connection" not in (await wire.ask(request()))[1]
        served.pod.roles.assign(Assignment(role="draining", epoch=1))
        status, headers, _ = await wire.ask(request())
        assert (status, headers["connection"]) == (200, "close")


async def test_at_the_end_idle_connections_close_and_a_request_that_arrives_is_answered(served):
    async with served.wire() as idle, served.wire() as arriving:
        assert (await idle.ask(request()))[0] == 200
        await arriving.send(request()[:-3])
        await until(lambda: any(connection._waiting for connection in served.port.connections))
        await served.site.stop()
        assert await idle.reader.read() == b""
        await until(lambda: served.pod.intake.arriving == 1)
        await arriving.send(request()[-3:])
        assert (await arriving.answer())[0] == 200

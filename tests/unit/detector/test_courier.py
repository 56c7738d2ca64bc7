"""Copies' way to the other color, over real connections."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from anomaly_detector import courier
from anomaly_detector.courier import Courier, NoAnswerError, NobodyThereError, UnreadAnswerError

PLAIN = b"HTTP/1.1 200 OK\r\nX-Anomaly-Revision: r-2\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
CLOSING = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Other:
    """Answers requests in turn with bytes, or a list of them; None, alone or in a list, closes the connection."""

    def __init__(self, *answers):
        self.answers, self.heads, self.connections = list(answers), [], 0

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                await reader.readexactly(int(head.partition("content-length: ")[2].split("\r\n")[0]))
                self.heads.append(head)
                answer = self.answers.pop(0)
                for piece in answer if isinstance(answer, list) else [answer]:
                    if piece is None:
                        return
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def sent_to(other):
    server = await asyncio.start_server(other.serve, "127.0.0.1", 0)
    one = Courier("http://{}:{}/predict".format(*server.sockets[0].getsockname()))
    try:
        yield one
    finally:
        await one.close()
        server.close()


async def test_requests_share_a_connection_and_name_their_headers():
    other = Other(PLAIN, [PLAIN[:30], PLAIN[30:-1], PLAIN[-1:]], PLAIN)
    async with sent_to(other) as one:
        answers = [await one.post(b"{}", {"x-anomaly-source": "shadow", "traceparent": "t"}) for _ in range(3)]
    assert [(answer.status, answer.body) for answer in answers] == [(200, b"{}")] * 3
    assert answers[0].headers["x-anomaly-revision"] == "r-2"
    assert other.connections == 1
    assert "post /predict http/1.1" in other.heads[0]
    assert "\r\ntraceparent: t\r\n" in other.heads[0]


async def test_after_an_answer_that_is_written_otherwise_aiohttp_reads_the_next_ones_and_nothing_is_asked_twice():
    other = Other(CHUNKED, CHUNKED, PLAIN)
    async with sent_to(other) as one:
        with pytest.raises(UnreadAnswerError):
            await one.post(b"{}", {})
        assert [(await one.post(b"{}", {})).body for _ in range(2)] == [b"{}", b"{}"]
    assert ["user-agent: " in head for head in other.heads] == [False, True, True]


@pytest.mark.parametrize("by_aiohttp", [False, True])
async def test_a_kept_connection_that_was_closed_meanwhile_is_made_anew(by_aiohttp):
    other = Other(*[CHUNKED] * by_aiohttp, PLAIN, None, CLOSING, PLAIN)
    async with sent_to(other) as one:
        if by_aiohttp:
            with pytest.raises(UnreadAnswerError):
                await one.post(b"{}", {})
        assert [(await one.post(b"{}", {})).status for _ in range(3)] == [200, 503, 200]
    assert other.connections == 3 + by_aiohttp


@pytest.mark.parametrize("by_aiohttp", [False, True])
async def test_a_new_connection_that_is_closed_without_an_answer_is_an_error(by_aiohttp):
    other = Other(*[CHUNKED] * by_aiohttp, PLAIN, None, None, None, PLAIN)
    async with sent_to(other) as one:
        if by_aiohttp:
            with pytest.raises(UnreadAnswerError):
                await one.post(b"{}", {})
        assert (await one.post(b"{}", {})).status == 200
        for _ in range(2):
            with pytest.raises(NoAnswerError):
                await one.post(b"{}", {})
        assert (await one.post(b"{}", {})).status == 200
    assert other.connections == 4 + by_aiohttp


async def test_an_answer_that_breaks_off_is_an_error_also_over_a_kept_connection():
    other = Other(PLAIN, [PLAIN[:-1], None], PLAIN)
    async with sent_to(other) as one:
        assert (await one.post(b"{}", {})).status == 200
        with pytest.raises(NoAnswerError):
            await one.post(b"{}", {})
        assert (await one.post(b"{}", {})).status == 200
    assert (other.connections, len(other.heads)) == (2, 3)


async def test_an_answer_that_comes_too_late_is_not_taken_for_the_next(monkeypatch):
    monkeypatch.setattr(courier, "SECONDS", 0.05)
    other = Other([], PLAIN)
    async with sent_to(other) as one:
        with pytest.raises(NoAnswerError):
            await one.post(b"{}", {})
        monkeypatch.setattr(courier, "SECONDS", 30)
        assert (await one.post(b"{}", {})).status == 200
    assert other.connections == 2


async def test_nobody_is_there(unused_tcp_port):
    with pytest.raises(NobodyThereError):
        await Courier(f"http://127.0.0.1:{unused_tcp_port}/predict").post(b"{}", {})


async def test_a_large_body_goes_by_aiohttp_and_small_ones_as_before():
    took = []

    async def take(request):
        took.append((len(await request.read()), "user-agent" in request.headers))
        return web.json_response({})

    app = web.Application(client_max_size=10 * courier.SMALL_BYTES)
    app.router.add_post("/predict", take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    one = Courier(f"http://127.0.0.1:{site.port}/predict")
    for size in (2, 2 * courier.SMALL_BYTES, 2):
        assert (await one.post(b" " * size, {})).status == 200
    await one.close()
    await runner.cleanup()
    assert took == [(2, False), (2 * courier.SMALL_BYTES, True), (2, False)]

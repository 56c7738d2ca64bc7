"""Copies to the other color, draining, passing on, and ending without losing a request."""

import asyncio
import json
import signal

import aiohttp
import pytest
from aiohttp import web
from tests.plugins.detector_pod import FEATURES, NORMAL, ODD, Detector, running, until

pytestmark = pytest.mark.e2e


async def predict(session, detector, *rows, **headers):
    async with session.post(detector.url(8080, "/predict"), json={"rows": list(rows)}, headers=headers) as answer:
        return answer.status, await answer.json(), answer.headers


async def test_an_active_pod_copies_what_users_ask_and_compares(prepared, session, other_color):
    prepared.environment |= other_color.environment()
    async with running(prepared) as detector:
        await predict(session, detector, ODD)
        await detector.put_role(session, "active", 1, shadowPercent=100)
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        for _ in range(10):
            await predict(session, detector, NORMAL, ODD, traceparent=trace)
        async with session.post(detector.url(8082, "/predict"), json={"rows": [NORMAL]}) as answer:
            assert answer.status == 200

        async def compared():
            return (await detector.stats(session))["shadow"]["answered"] == 10

        await until(compared, "ten copies are compared", detector)
        shadow = (await detector.stats(session))["shadow"]
        assert (shadow["sent"], shadow["failed"], shadow["dropped"], shadow["rows"]) == (10, 0, 0, 20)
        assert 0 < shadow["meanOwnMilliseconds"] < 30_000
        assert 0 < shadow["meanOtherMilliseconds"] < 30_000
        assert (shadow["ownAnomalies"], shadow["otherAnomalies"]) == (10, 20)
        assert shadow["labelAgreement"] == 0.5
        assert shadow["meanScoreDifference"] > 0
        assert shadow["otherRevision"] == "rev-2"
        path, headers, body = other_color.requests[0]
        assert path == "/predict"
        assert json.loads(body) == {"features": list(FEATURES), "rows": [NORMAL, ODD]}
        assert headers["traceparent"] == trace
        assert headers["x-anomaly-source"] == "shadow"
        assert len(other_color.requests) == 10


async def test_standby_pods_copy_nothing(prepared, session, other_color):
    prepared.environment |= other_color.environment()
    async with running(prepared) as detector:
        await detector.put_role(session, "standby", 1, shadowPercent=100)
        await predict(session, detector, NORMAL)
        await detector.put_role(session, "active", 2, shadowPercent=0)
        await predict(session, detector, NORMAL)
        await detector.put_role(session, "active", 3, shadowPercent=100)
        await predict(session, detector, ODD)

        async def copied():
            return len(other_color.requests) == 1

        await until(copied, "one copy arrives", detector)
        assert json.loads(other_color.requests[0][2])["rows"] == [ODD]


async def test_a_failing_or_hanging_other_color_costs_users_nothing(prepared, session, other_color):
    prepared.environment |= other_color.environment()
    never = asyncio.Event()

    async def hang():
        await never.wait()
        return web.Response()

    async with running(prepared) as detector:
        await detector.put_role(session, "active", 1, shadowPercent=100)
        other_color.answer = lambda _body: web.Response(status=500)
        for _ in range(4):
            assert (await predict(session, detector, NORMAL))[0] == 200

        async def failed():
            return (await detector.stats(session))["shadow"]["failed"] == 4

        await until(failed, "four copies failed", detector)
        other_color.answer = lambda _body: hang()
        answers = [(await predict(session, detector, NORMAL))[0] for _ in range(400)]
        assert answers == [200] * 400
        shadow = (await detector.stats(session))["shadow"]
        assert shadow["dropped"] > 0
        await other_color.stop()
        answers = [(await predict(session, detector, NORMAL))[0] for _ in range(50)]
        assert answers == [200] * 50
        counts = (await detector.stats(session))["counts"]["user"]
        assert (counts["served"], counts["failed"]) == (454, 0)


async def test_a_copy_of_a_request_that_failed_here_is_sent_too(
    tmp_path, box_cox_folder, admin_key, session, other_color
):
    detector = Detector(tmp_path, box_cox_folder, admin_key)
    detector.environment |= other_color.environment()
    async with running(detector):
        await detector.put_role(session, "active", 1, shadowPercent=100)
        assert (await predict(session, detector, [40.0, 50.0, 0.0]))[0] == 500

        async def answered():
            return (await detector.stats(session))["shadow"]["answered"] == 1

        await until(answered, "the copy is answered", detector)
        assert (await detector.stats(session))["shadow"]["rows"] == 0


async def test_a_draining_pod_closes_connections_after_its_answers(detector, session):
    await detector.put_role(session, "draining", 1)
    _, body, headers = await predict(session, detector, NORMAL)
    assert body["predictions"]
    assert headers["connection"] == "close"

    async def nobody():
        return (await detector.stats(session))["openUserConnections"] == 0

    await until(nobody, "no user connection is open", detector)


async def test_after_a_rollback_requests_go_to_the_other_color_first(prepared, session, other_color):
    prepared.environment |= other_color.environment()
    async with running(prepared) as detector:
        await detector.put_role(session, "draining", 1, passThrough=True)
        status, body, headers = await predict(session, detector, NORMAL, **{"x-request-id": "r-1"})
        assert (status, body["predictions"][0]["score"]) == (200, 0.9)
        assert headers["x-anomaly-revision"] == "rev-2"
        assert headers["connection"] == "close"
        _, sent, _ = other_color.requests[0]
        assert sent["x-anomaly-source"] == "user"
        assert sent["x-request-id"] == "r-1"
        report = await detector.stats(session)
        assert report["lastOwnUserAnswer"] is None
        assert report["counts"] == {}
        assert (report["ownUserAnswers"], report["passedOn"]) == (0, 1)
        other_color.answer = lambda _body: web.Response(status=503)
        status, body, headers = await predict(session, detector, NORMAL)
        assert (status, body["version"], headers["x-anomaly-revision"]) == (200, "3", "rev-1")
        await other_color.stop()
        status, body, headers = await predict(session, detector, NORMAL)
        assert (status, body["version"]) == (200, "3")
        report = await detector.stats(session)
        assert report["lastOwnUserAnswer"] is not None
        assert report["counts"]["user"]["served"] == 2
        assert (report["ownUserAnswers"], report["passedOn"]) == (2, 1)


async def test_requests_passed_on_count_as_users_and_are_not_passed_again(prepared, session, other_color):
    prepared.environment |= other_color.environment()
    async with running(prepared) as detector:
        await detector.put_role(session, "draining", 1, passThrough=True)
        headers = {"x-anomaly-source": "user"}
        url = detector.url(8082, "/predict")
        async with session.post(url, json={"rows": [NORMAL]}, headers=headers) as answer:
            assert (await answer.json())["version"] == "3"
        assert other_color.requests == []
        assert (await detector.stats(session))["counts"]["user"]["served"] == 1


async def test_sigterm_under_load_loses_no_request(prepared):
    """Each request must be answered until its Service, which follows readiness, sends nobody here any more."""
    prepared.environment["ANOMALY_DRAIN_SECONDS"] = "600"
    async with running(prepared) as detector:
        answered, lost = 0, []
        unrouted = asyncio.Event()

        async def client(number):
            nonlocal answered
            async with aiohttp.ClientSession() as session:
                while not unrouted.is_set():
                    try:
                        async with session.post(detector.url(8080, "/predict"), json={"rows": [NORMAL]}) as answer:
                            assert answer.status == 200
                            await answer.read()
                            answered += 1
                    except aiohttp.ClientError as error:
                        lost.append((number, repr(error)))

        async with asyncio.TaskGroup() as clients:
            for number in range(8):
                clients.create_task(client(number))

            async def busy():
                return answered > 500

            await until(busy, "clients are served", detector)
            detector.process.send_signal(signal.SIGTERM)
            async with aiohttp.ClientSession() as session:

                async def unready():
                    async with session.get(detector.url(8081, "/ready")) as answer:
                        return answer.status == 503

                await until(unready, "the pod is not ready any more", detector)
            at_the_signal = answered

            async def more():
                return answered > at_the_signal + 200

            await until(more, "clients are still served", detector)
            unrouted.set()
        assert lost == []
        detector.process.send_signal(signal.SIGINT)  # who says it twice does not want to wait
        assert detector.process.wait(60) == 0


async def test_a_request_in_flight_at_the_end_is_answered(prepared, session):
    prepared.environment["ANOMALY_DRAIN_SECONDS"] = "0"
    async with running(prepared) as detector:
        gate = asyncio.Event()

        async def slow_body():
            yield b'{"rows": '
            await gate.wait()
            yield json.dumps([NORMAL]).encode() + b"}"

        async def in_flight():
            return (await detector.stats(session))["openUserConnections"] == 1

        headers = {"content-type": "application/json"}
        asked = asyncio.create_task(session.post(detector.url(8080, "/predict"), data=slow_body(), headers=headers))
        await until(in_flight, "the request is in flight", detector)
        detector.process.send_signal(signal.SIGTERM)

        async def closed():
            try:
                _, writer = await asyncio.open_connection(detector.address, 8080)
            except ConnectionRefusedError:
                return True
            writer.close()
            return False

        await until(closed, "the port is closed", detector)
        gate.set()
        answer = await asked
        assert answer.status == 200
        assert (await answer.json())["predictions"]


async def test_a_request_to_a_loading_pod_is_told_to_come_again(prepared, session):
    prepared.start()
    try:
        status = None

        async def listening():
            nonlocal status
            try:
                status, _, _ = await predict(session, prepared, NORMAL)
            except aiohttp.ClientConnectorError:
                return False
            return True

        await until(listening, "the port is open", prepared)
        assert status in (200, 503)
        await prepared.until_ready()
    finally:
        prepared.stop()

"""Whatever clients send, against the OpenAPI document: no 5xx, no hang, no growth."""

import asyncio

import psutil
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance
from tests.plugins.detector_pod import NORMAL, Detector

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def detector(tmp_path_factory, forest_folder, admin_key):
    one = Detector(tmp_path_factory.mktemp("bad-input"), forest_folder, admin_key)
    one.start()
    try:
        asyncio.run(one.until_ready())
        yield one
    finally:
        one.stop()


@pytest.fixture(scope="module")
def document(detector):
    return schemathesis.openapi.from_url(detector.url(8080, "/openapi.json"))


POSITIVE, NEGATIVE = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
POSTS = ("/predict", "/explain", "/invocations", "/v2/models/cpu-watch/infer", "/v2/models/cpu-watch/versions/3/infer")
GETS = ("/v2/models/cpu-watch", "/ready", "/version", "/openapi.json")
CASES = [
    *(("POST", path, mode) for path in POSTS for mode in (POSITIVE, NEGATIVE)),
    *(("GET", path, POSITIVE) for path in GETS),
]


@pytest.mark.parametrize(("method", "path", "mode"), CASES)
def test_every_generated_request_gets_a_documented_answer(document, method, path, mode):
    @given(document[path][method].as_strategy(generation_mode=mode))
    @settings(
        max_examples=40,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case):
        case.call_and_validate(checks=[not_a_server_error, content_type_conformance, response_schema_conformance])

    check()


async def test_malformed_traffic_does_not_make_the_pod_grow(detector, session):
    process = psutil.Process(detector.process.pid)
    deep, huge = b"[" * 1_000_000, b'{"rows": [[' + b"1," * 500_000 + b"1]]}"
    bodies = (deep, huge, b"\xff" * 1000, b'{"rows": "' + b"x" * 1_000_000 + b'"}', b"")

    async def storm(rounds):
        for number in range(rounds):
            for path in ("/predict", "/invocations", "/v2/models/cpu-watch/infer"):
                url, headers = detector.url(8080, path), {"content-type": "application/json"}
                async with session.post(url, data=bodies[number % len(bodies)], headers=headers) as answer:
                    assert answer.status == 400

    await storm(20)
    before = process.memory_info().rss
    await storm(60)
    assert process.memory_info().rss - before < 20_000_000
    async with session.post(detector.url(8080, "/predict"), json={"rows": [NORMAL]}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "head",
    [
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"NONSENSE\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc",
    ],
)
async def test_broken_http_is_refused_and_the_next_client_served(detector, session, head):
    reader, writer = await asyncio.open_connection(detector.address, 8080)
    writer.write(head)
    await writer.drain()
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
    async with session.post(detector.url(8080, "/predict"), json={"rows": [NORMAL]}) as good:
        assert good.status == 200

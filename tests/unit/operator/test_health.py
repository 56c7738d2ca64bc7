import json
import time

import aiohttp
import pytest

from anomaly_operator.adapters.health import HealthServer
from anomaly_operator.adapters.metrics import Metrics
from anomaly_operator.adapters.webhook import DELIVERY, SIGNATURE, TIMESTAMP, Verifier, signature

SECRET = "tests only"
BODY = json.dumps({"entity": "model_version_alias", "action": "created", "data": {"name": "m"}}).encode()


@pytest.fixture
async def deliver():
    answers = [None, 1]

    async def stamp(name):
        assert name == "m"
        return answers.pop(0)

    server = HealthServer(Metrics(), live={}, ready={}, verifier=Verifier(lambda: SECRET), on_webhook=stamp)
    port = await server.start("127.0.0.1", 0)

    async def post():
        now = str(int(time.time()))
        headers = {DELIVERY: "d-1", TIMESTAMP: now, SIGNATURE: signature(SECRET, "d-1", now, BODY)}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://127.0.0.1:{port}/webhooks/mlflow", data=BODY, headers=headers) as answer,
        ):
            return answer.status

    yield post
    await server.stop()


async def test_a_delivery_that_could_not_be_passed_on_may_come_again_and_one_that_was_may_not(deliver):
    assert [await deliver(), await deliver(), await deliver()] == [503, 202, 409]

"""The HTTP layer in this process: what becomes of faults that no protocol knows."""

from pathlib import Path
from types import MappingProxyType

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from anomaly_detector.cache import Cache
from anomaly_detector.config import LiveConfig
from anomaly_detector.dataplane import DataPlane, Model
from anomaly_detector.drain import PassThrough
from anomaly_detector.metrics import RequestMetrics
from anomaly_detector.observer import Observer
from anomaly_detector.pod import Pod, Serving
from anomaly_detector.protocols import Contract
from anomaly_detector.protocols.predict import Predict
from anomaly_detector.roles import Roles
from anomaly_detector.server import DataServer
from anomaly_detector.settings import Artifact, Settings
from anomaly_detector.shadow import ShadowTraffic
from anomaly_detector.window import Window


class Sums:
    """A model whose score is the sum of the row."""

    features, threshold, kind = ("a", "b"), 100.0, "double"
    accepts_missing = accepts_infinite = False

    def score(self, rows):
        return rows.sum(axis=1)


class Broken(Predict):
    """A protocol with a fault of its own."""

    def render(self, *_):
        raise KeyError("what was never there")


def plane():
    model = Model(scorer=Sums(), bundle=None, contract=Contract(model="m", version="1", features=Sums.features))
    return DataPlane(model, boot_id="b" * 16, timeout=10)


@pytest.fixture
def pod(tmp_path):
    settings = Settings(
        model="m",
        namespace="ml",
        pod_name="p",
        pod_uid="u",
        bind="127.0.0.1",
        color="blue",
        revision="r",
        registered_model="m",
        version="1",
        run_id="",
        artifact=Artifact(source="", digest="", allow_pickle=False, cache_dir=Path(tmp_path)),
        config_dir=Path(tmp_path),
        serviceaccount_dir=Path(tmp_path),
        kubernetes="",
        neighbours=MappingProxyType({}),
    )
    features = Sums.features
    serving = Serving(plane=plane(), observer=Observer(features, None), shadow=ShadowTraffic("http://x", features))
    return Pod(
        settings=settings,
        live=LiveConfig(Path(tmp_path)),
        window=Window(30),
        roles=Roles(),
        pass_through=PassThrough("http://127.0.0.1:1"),
        serving=serving,
        ready=True,
    )


async def test_a_fault_in_a_protocol_is_a_500_in_its_words_and_counts_as_a_failure(pod):
    server = DataServer(
        pod, RequestMetrics(CollectorRegistry()), Cache(pod.settings.artifact.cache_dir), for_users=True
    )
    app = web.Application()
    app.router.add_post("/broken", server._scoring(Broken()))
    async with TestClient(TestServer(app)) as client:
        answer = await client.post("/broken", json={"rows": [[1, 2]]})
        assert answer.status == 500
        assert (await answer.json())["error"]["reason"] == "ServerError"
    tally = pod.window.tally("user")
    assert tally.failed == 1
    assert pod.in_flight == 0

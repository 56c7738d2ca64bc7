"""A pod in this process, around a model that adds up."""

from pathlib import Path
from types import MappingProxyType

import pytest

from anomaly_detector.config import LiveConfig
from anomaly_detector.dataplane import DataPlane, Model
from anomaly_detector.drain import PassThrough
from anomaly_detector.observer import Observer
from anomaly_detector.pod import Pod, Serving
from anomaly_detector.protocols import Contract
from anomaly_detector.roles import Roles
from anomaly_detector.settings import Artifact, Settings
from anomaly_detector.shadow import ShadowTraffic
from anomaly_detector.window import Window


class Sums:
    """A model whose score is the sum of the row."""

    features, threshold, kind = ("a", "b"), 100.0, "double"
    accepts_missing = accepts_infinite = False

    def __init__(self):
        self.fails_on = None
        """A value of the second feature."""

    def score(self, rows):
        if self.fails_on is not None and (rows[:, 1] == self.fails_on).any():
            raise ArithmeticError("a row that this version fails on")
        return rows.sum(axis=1)


def plane():
    contract = Contract(model="m", version="1", features=Sums.features, accepts_missing=False)
    model = Model(scorer=Sums(), bundle=None, contract=contract)
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

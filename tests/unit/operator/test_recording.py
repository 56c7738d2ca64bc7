"""When the recorder looks at a model: a fleet at rest costs nothing."""

import asyncio

import pytest

from anomaly_operator.domain.model import PodSettings
from anomaly_operator.runtime.cache import Cache
from anomaly_operator.runtime.memory import Memories
from anomaly_operator.runtime.observe import Observer
from anomaly_operator.runtime.recording import Recorder

pytestmark = pytest.mark.looptime


class Looks(Observer):
    """Notes which models were looked at."""

    def __init__(self, cache):
        super().__init__(cache, Memories(), PodSettings(detector_image="d"))
        self.seen = []

    def view(self, key, now):
        self.seen.append(key[1])
        return super().view(key, now)


class Fence:
    def holds(self):
        return True


def model(name, version):
    metadata = {"name": name, "namespace": "ns", "uid": name, "resourceVersion": version, "generation": 1}
    status = {"phase": "Progressing", "active": {"color": "blue", "revision": "r", "version": "1"}}
    return {"kind": "AnomalyModel", "metadata": metadata, "spec": {"model": {"name": "m"}}, "status": status}


async def test_a_model_where_nothing_is_due_is_not_looked_at_again_until_it_changes():
    cache = Cache()
    looks = Looks(cache)
    recorder = Recorder(None, None, cache, looks, fence=Fence(), allowed=(), default_uri="")
    for name in ("one", "two"):
        cache.put("AnomalyModel", model(name, "1"))
    task = asyncio.create_task(recorder.run())
    await asyncio.sleep(10)
    assert looks.seen == ["one", "two"]
    cache.put("AnomalyModel", model("two", "2"))
    await asyncio.sleep(10)
    assert looks.seen == ["one", "two", "two"]
    task.cancel()

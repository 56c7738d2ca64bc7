"""A watch that has died is noticed, and what it missed is healed by the next LIST; the API server is real."""

import pytest

from anomaly_operator.adapters.metrics import Metrics
from anomaly_operator.runtime.cache import Cache
from anomaly_operator.runtime.resync import DEAD_AFTER, Resync

pytestmark = pytest.mark.e2e

GRACE = 0.05


class Watched:
    """What a process knows whose watch brings nothing."""

    def __init__(self, kube, cluster, namespace):
        self.cache, self.concerned = Cache(), []
        self._cluster, self._namespace = cluster, namespace
        self.resync = Resync(
            kube, self.cache, Metrics(), kinds=("ConfigMap",), selector=lambda _: "anomalymodel.dev/model",
            namespaces=(namespace,), on_concern=self.concerned.append,
        )  # fmt: skip

    def change(self, value):
        made = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": "c",
                "namespace": self._namespace,
                "labels": {"anomalymodel.dev/model": "cpu", "value": value},
            },
        }
        self._cluster.kubectl("apply", "-f", "-", stdin=[made])

    def known(self):
        return self.cache.get("ConfigMap", self._namespace, "c")["metadata"]["labels"]["value"]


@pytest.fixture
async def watched(kube, cluster, namespace):
    made = Watched(kube, cluster, namespace)
    await made.resync.first()
    return made


async def test_a_watch_that_brings_nothing_again_and_again_is_reported_dead(watched):
    for number in range(DEAD_AFTER):
        assert watched.resync.check() is None
        watched.change(str(number))
        await watched.resync.sync("ConfigMap", grace=GRACE)
    assert watched.resync.check() == "the watches of ConfigMap bring nothing"


async def test_what_a_dead_watch_missed_comes_with_the_list_and_its_model_is_looked_at(watched, namespace):
    watched.change("new")
    await watched.resync.sync("ConfigMap", grace=GRACE)
    assert watched.known() == "new"
    assert watched.concerned == [(namespace, "cpu")]


async def test_a_watch_that_lives_again_is_not_reported(watched, kube, namespace):
    for number in range(DEAD_AFTER - 1):
        watched.change(str(number))
        await watched.resync.sync("ConfigMap", grace=GRACE)
    watched.change("brought-in-time")
    watched.cache.put("ConfigMap", await kube.get("ConfigMap", namespace, "c"))  # as the watch would
    await watched.resync.sync("ConfigMap", grace=GRACE)
    watched.change("missed-once")
    await watched.resync.sync("ConfigMap", grace=GRACE)
    assert watched.resync.check() is None

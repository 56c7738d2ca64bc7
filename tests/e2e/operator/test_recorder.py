"""The operator's recorder: pods that answer as a test wants, a real MLflow server, and time as it is."""

import asyncio
import time

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from mlflow import MlflowClient
from tests.plugins.detector_pod import free_address, until

from anomaly_operator.adapters.admin import AdminKeys
from anomaly_operator.adapters.probes import Probes
from anomaly_operator.adapters.runs import SERVING, Runs
from anomaly_operator.domain.model import PodSettings
from anomaly_operator.runtime.cache import Cache
from anomaly_operator.runtime.memory import Memories
from anomaly_operator.runtime.observe import Observer
from anomaly_operator.runtime.recording import Recorder

pytestmark = pytest.mark.e2e


class PodDouble:
    """Answers `/shap` on the admin port."""

    def __init__(self, cpu, rows=10):
        self.address, self.asked = free_address(), []
        self.answer = {"rows": rows, "meanAbsoluteShap": {"cpu": cpu}, "anomalies": []}
        self.status = 200

    async def __aenter__(self):
        app = web.Application()
        app.router.add_get("/shap", self._shap)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.address, 8081).start()
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()

    async def _shap(self, request):
        assert request.headers["authorization"].startswith("Bearer ")
        self.asked.append((float(request.query["from"]), float(request.query["to"])))
        return web.json_response(self.answer, status=self.status)


class Fence:
    """Whether this replica leads."""

    held = True

    def holds(self):
        return self.held

    def seconds_left(self):
        return 5.0


class World:
    """One model with its pods, as the cache has them."""

    def __init__(self, registered, version, run_id, uri):
        self.cache, self.fence, self.uri = Cache(), Fence(), uri
        self._registered, self._version, self._run_id, self._changes = registered, version, run_id, 0

    def model(self, *, phase="Healthy", **recording):
        self._changes += 1
        active = {"color": "blue", "revision": "r", "version": self._version, "runId": self._run_id}
        metadata = {"name": "m", "namespace": "ns", "uid": "u", "resourceVersion": str(self._changes),
                    "generation": self._changes}  # fmt: skip
        spec = {
            "model": {"name": self._registered, "alias": "champion"},
            "explanations": {"recording": {"interval": "2s", **recording}},
        }
        status = {"phase": phase, "active": active | {"since": "2026-01-01T00:00:00Z"}}
        self.cache.put("AnomalyModel", {"kind": "AnomalyModel", "metadata": metadata, "spec": spec, "status": status})

    def pod(self, name, address):
        labels = {"anomalymodel.dev/model": "m", "anomalymodel.dev/color": "blue"}
        metadata = {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "1", "labels": labels}
        status = {"podIP": address, "conditions": [{"type": "Ready", "status": "True"}]}
        self.cache.put("Pod", {"kind": "Pod", "metadata": metadata, "status": status})

    async def run(self, condition, what):
        """Run a recorder as a replica that has just started does, until a condition holds."""
        observer = Observer(self.cache, Memories(), PodSettings(detector_image="d"))
        async with Runs(timeout=60) as runs, Probes(AdminKeys(Ed25519PrivateKey.generate())) as probes:
            recorder = Recorder(
                runs, probes, self.cache, observer, fence=self.fence, allowed=(self.uri,), default_uri=self.uri
            )
            task = asyncio.create_task(recorder.run())
            try:
                await until(condition, what)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


def periods_to_pass(number):
    """Return a condition that holds when so many whole periods have passed, and a look after them."""
    end = time.time() + (number + 1) * 2

    async def passed():
        return time.time() > end

    return passed


@pytest.fixture
def client(mlflow_server):
    return MlflowClient(mlflow_server.uri)


@pytest.fixture
def experiment(client, model_name):
    return client.create_experiment(model_name)


@pytest.fixture
def world(client, experiment, mlflow_server, model_name):
    training = client.create_run(experiment).info.run_id
    client.create_registered_model(model_name)
    client.create_model_version(model_name, f"runs:/{training}/model", training)
    made = World(model_name, "1", training, mlflow_server.uri)
    made.model()
    return made


@pytest.fixture
async def pods(world):
    async with PodDouble(0.2, rows=30) as one, PodDouble(0.6, rows=10) as two:
        world.pod("one", one.address)
        world.pod("two", two.address)
        yield one, two


@pytest.fixture
def history(client, experiment):
    """Return a function that returns the recorded means of the one run that records."""

    def read():
        found = client.search_runs([experiment], f"tags.`{SERVING}` = 'ns/m'")
        assert len(found) <= 1
        return client.get_metric_history(found[0].info.run_id, "mean_abs_shap/cpu") if found else []

    return read


async def test_periods_are_recorded_once_over_all_pods_also_by_the_replica_that_follows(world, pods, history):
    async def recorded():
        return len(await asyncio.to_thread(history)) >= 2

    await world.run(recorded, "two periods are recorded")
    before = len(history())

    async def more():
        return len(await asyncio.to_thread(history)) > before

    await world.run(more, "another replica records on")
    found = history()
    assert [metric.value for metric in found] == pytest.approx([0.3] * len(found))
    steps = [metric.step for metric in found]
    assert len(steps) == len(set(steps))
    for start, end in pods[0].asked:
        assert end - start == 2
        assert end <= time.time()


async def test_a_pod_that_does_not_answer_is_left_out(world, pods, history):
    pods[0].status = 503

    async def recorded():
        return bool(await asyncio.to_thread(history))

    await world.run(recorded, "a period is recorded")
    assert {metric.value for metric in history()} == {0.6}


@pytest.mark.parametrize(
    "change",
    [{"phase": "Progressing"}, {"phase": "Degraded"}, {"enabled": False}],
    ids=["a rollout", "a rollback", "switched off"],
)
async def test_nothing_is_asked_during(world, pods, history, change):
    world.model(**change)
    await world.run(periods_to_pass(2), "two periods have passed")
    assert (pods[0].asked, history()) == ([], [])


async def test_a_replica_that_does_not_lead_records_nothing(world, pods, history):
    world.fence.held = False
    await world.run(periods_to_pass(2), "two periods have passed")
    assert (pods[0].asked, history()) == ([], [])


async def test_a_registry_that_is_away_is_not_asked_again_and_again(world, pods):
    world.uri = "http://127.0.0.1:1"
    await world.run(periods_to_pass(2), "two periods have passed")
    assert pods[0].asked == []

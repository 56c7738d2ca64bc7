"""Points of a bucket are scored without a client: across the end of the pod that reads, and a promotion."""

import asyncio
import json
import time

import numpy as np
import pytest
from tests.e2e.operator.conftest import model
from tests.plugins.detector_pod import free_address, until
from tests.plugins.influx_double import InfluxDouble

pytestmark = pytest.mark.e2e

FEATURES = ("cpu_percent", "memory_percent", "network_mbps")


class Telegraf:
    """Measures two hosts, and sends some points late."""

    def __init__(self, influx):
        self.influx, self.measured, self.stopped = influx, set(), asyncio.Event()

    async def run(self):
        rng = np.random.default_rng(0)
        while not self.stopped.is_set():
            for host in ("web-1", "web-2"):
                at = time.time_ns()
                self.measured.add((host, at))
                asyncio.get_running_loop().call_later(
                    rng.choice([0.0, 1.0]), self.send, host, at, rng.gamma(3.0, size=3)
                )
            await asyncio.sleep(0.2)

    def send(self, host, at, values):
        self.influx.add("system", {"host": host}, dict(zip(FEATURES, values + 0.1, strict=True)), at)

    @property
    def results(self):
        return {(dict(tags)["host"], at): fields for (tags, at), fields in self.influx.of("anomaly_result").items()}


@pytest.fixture
async def telegraf():
    async with InfluxDouble(free_address()) as influx:
        made = Telegraf(influx)
        running = asyncio.create_task(made.run())
        yield made
        made.stopped.set()
        await running


@pytest.fixture
def kubectl(defined, namespace):
    """Return kubectl for the test's namespace, beside the event loop that InfluxDB's double runs on."""

    async def run(*words, **given):
        return await asyncio.to_thread(defined.kubectl, "-n", namespace, *words, **given)

    return run


@pytest.mark.timeout(900)
async def test_every_point_has_its_result_though_the_reader_dies_and_the_colors_switch(
    start_operator, namespace, versions, alias, telegraf, kubectl
):
    operator = start_operator("source")
    name, move = alias
    await asyncio.to_thread(move, versions[0])
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "influxdb"}, "stringData": {"token": "t0k3n"}}
    source = {
        "url": telegraf.influx.url, "org": "o", "bucket": "telegraf", "measurement": "system",
        "interval": "500ms", "lateness": "5s", "tokenSecretRef": {"name": "influxdb"},
    }  # fmt: skip
    await kubectl("apply", "-f", "-", stdin=[secret, model(namespace, name, source={"influxdb": source})])

    async def scored(version):
        await asyncio.sleep(0.5)
        return sum(found["version"] == version for found in telegraf.results.values()) >= 20

    await until(lambda: scored(versions[0]), "the first version scores points", seconds=120)
    assert telegraf.influx.authorizations == {"Token t0k3n"}
    lease = json.loads(await kubectl("get", "lease", "cpu-source", "-o", "json"))
    reader = lease["spec"]["holderIdentity"]

    async def reported():
        pod = json.loads(await kubectl("get", "pod", reader, "-o", "json"))
        report = json.loads(pod["metadata"]["annotations"].get("anomalymodel.dev/report", "{}"))
        return report.get("rows", {}).get("user", 0) > 0

    await until(reported, "the reader reports the points as users' rows")

    await kubectl("delete", "pod", reader, "--grace-period=0", "--force")
    deleted = time.time_ns()

    async def followed():
        return any(at > deleted and found["pod"] != reader for (_, at), found in telegraf.results.items())

    await until(followed, "another pod reads on", seconds=120)
    await asyncio.to_thread(move, versions[1])
    await until(lambda: scored(versions[1]), "the second version scores points", seconds=180)

    telegraf.stopped.set()

    async def complete():
        return telegraf.results.keys() >= {point for point in telegraf.measured if point[1] >= begin}

    begin = min(at for _, at in telegraf.results)
    await until(complete, "every point has its result", seconds=120)
    # A result that named its pod or its version among its tags would be there more than once.
    assert len(telegraf.influx.of("anomaly_result")) == len(telegraf.results)
    assert telegraf.results.keys() <= telegraf.measured
    operator.terminate()

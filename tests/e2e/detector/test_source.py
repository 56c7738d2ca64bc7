"""Points are scored by real detectors that share a Lease: roles change, pods end and die, each point has its result."""

import asyncio
import signal
import time
from urllib.parse import urlsplit

import aiohttp
import pytest
from tests.plugins.detector_pod import FEATURES, NORMAL, ODD, Detector, free_address, running, until
from tests.plugins.influx_double import InfluxDouble
from tests.plugins.installed_chart import ACCOUNT, mount_account

pytestmark = pytest.mark.e2e

NAMESPACE = "streams"


@pytest.fixture
def uid(installed):
    """The UID of the model whose pods the detectors claim to be."""
    installed.admit_detectors(NAMESPACE)
    with installed.model(NAMESPACE) as made:
        yield made


@pytest.fixture
async def influx():
    async with InfluxDouble(free_address()) as double:
        yield double


@pytest.fixture
def make(installed, uid, influx, tmp_path, forest_folder, admin_key):
    """Return a function that prepares a pod of a color, with a version of its own."""
    account = mount_account(installed.user(NAMESPACE, ACCOUNT), tmp_path / "serviceaccount")
    server = urlsplit(installed.cluster.server)

    def pod(color, version):
        folder = tmp_path / color
        folder.mkdir()
        detector = Detector(folder, forest_folder, admin_key)
        source = {"url": influx.url, "org": "o", "bucket": "b", "measurement": "system", "ownerUid": uid,
                  "resultMeasurement": "result", "intervalSeconds": 0.2, "latenessSeconds": 5}  # fmt: skip
        detector.write_config({"heartbeatSeconds": 3600, "source": source})
        detector.environment |= {
            "ANOMALY_NAMESPACE": NAMESPACE,
            "ANOMALY_POD_NAME": f"cpu-watch-{color}",
            "ANOMALY_COLOR": color,
            "ANOMALY_VERSION": version,
            "ANOMALY_SERVICEACCOUNT_DIR": str(account),
            "KUBERNETES_SERVICE_HOST": server.hostname,
            "KUBERNETES_SERVICE_PORT": str(server.port),
        }
        return detector

    return pod


class Meter:
    """Adds a point every tenth of a second."""

    def __init__(self, influx):
        self.influx, self.times = influx, []

    async def run(self):
        while True:
            self.times.append(time.time_ns())
            row = ODD if len(self.times) % 10 == 0 else NORMAL
            self.influx.add("system", {"host": "web-1"}, dict(zip(FEATURES, row, strict=True)), self.times[-1])
            await asyncio.sleep(0.1)

    def results(self):
        return {at: fields for (_, at), fields in self.influx.of("result").items()}

    async def scored_by(self, version):
        return sum(fields["version"] == version for fields in self.results().values()) >= 5


async def test_every_point_has_its_result_over_a_promotion_and_the_death_of_the_pod_that_reads(make, influx):
    blue, green, meter = make("blue", "1"), make("green", "2"), Meter(influx)
    measuring = asyncio.create_task(meter.run())
    try:
        async with aiohttp.ClientSession() as session, running(blue), running(green):
            await blue.put_role(session, "active", 1)
            await until(lambda: meter.scored_by("1"), "the active color scores points", blue)
            assert {fields["version"] for fields in meter.results().values()} == {"1"}
            await green.put_role(session, "active", 2)  # the other color is told a moment later
            await blue.put_role(session, "draining", 2)
            await until(lambda: meter.scored_by("2"), "the new active color scores points", green)
            await blue.put_role(session, "active", 3)
            green.process.send_signal(signal.SIGKILL)
            before = time.time_ns()

            async def goes_on():
                return any(at > before for at in meter.results())

            await until(goes_on, "the pod that is left scores points", blue, seconds=90)
            measuring.cancel()

            async def complete():
                return set(meter.times) - set(meter.results()) <= early

            early = {at for at in meter.times if at < min(meter.results())}
            await until(complete, "every point has its result", blue)
            stats = await blue.stats(session)
    finally:
        measuring.cancel()
    assert len(influx.of("result")) == len(meter.results())
    assert stats["rows"]["user"] > 0
    anomalies = [fields for fields in meter.results().values() if fields["anomaly"]]
    assert anomalies
    assert all("INCREASES" in fields["text"] for fields in anomalies)

"""Writing to InfluxDB: a real peer for the line protocol, and a server with faults for the rest."""

import asyncio
import shutil
import subprocess
import time

import aiohttp
import pytest
from aiohttp import web
from tests.plugins.detector_pod import NORMAL, ODD, free_address, running, until

pytestmark = pytest.mark.e2e


class FakeInflux:
    """Answers what a test wants and keeps what it took."""

    def __init__(self):
        self.address, self.lines, self.authorizations, self.asked = free_address(), [], [], 0
        self.status, self.headers, self.asked_at = 204, {}, []

    async def __aenter__(self):
        app = web.Application()
        app.router.add_post("/api/v2/write", self._write)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.address, 8086).start()
        self.url = f"http://{self.address}:8086"
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()

    async def _write(self, request):
        self.asked += 1
        self.asked_at.append(time.monotonic())
        body = (await request.read()).decode()
        assert dict(request.query) == {"org": "ml", "bucket": "anomalies", "precision": "ns"}
        self.authorizations.append(request.headers.get("authorization"))
        if self.status == 204:
            self.lines += body.splitlines()
        return web.Response(status=self.status, headers=self.headers)

    def of(self, measurement):
        return [line for line in self.lines if line.startswith(measurement + ",")]


@pytest.fixture
async def influx():
    async with FakeInflux() as fake:
        yield fake


def configure(detector, url, tmp_path, *, write="anomalies"):
    folder = tmp_path / "influxdb"
    folder.mkdir(exist_ok=True)
    (folder / "token").write_text("first-token\n")
    detector.environment["ANOMALY_INFLUXDB_DIR"] = str(folder)
    detector.write_config(
        {
            "heartbeatSeconds": 1,
            "drift": {"window": 20, "consecutiveChecks": 1},
            "influxdb": {"url": url, "org": "ml", "bucket": "anomalies", "write": write, "tokenFile": "/elsewhere"},
        }
    )
    return folder / "token"


async def ask(session, detector, *rows):
    async with session.post(detector.url(8080, "/predict"), json={"rows": list(rows)}) as answer:
        assert answer.status == 200
        return (await answer.json())["predictions"]


async def metric(session, detector, name):
    async with session.get(detector.url(9090, "/metrics")) as answer:
        text = await answer.text()
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


async def test_anomalies_explanations_drift_and_reports_are_written(prepared, session, influx, tmp_path):
    configure(prepared, influx.url, tmp_path)
    async with running(prepared) as detector:
        await detector.put_role(session, "active", 1)
        odd = (await ask(session, detector, NORMAL, ODD))[1]
        await ask(session, detector, *[NORMAL] * 40)

        async def all_there():
            return all(influx.of(f"anomaly_{name}") for name in ("prediction", "explanation", "drift", "report"))

        await until(all_there, "all four measurements arrive", detector)
    (point,) = [line for line in influx.of("anomaly_prediction") if f'id="{odd["id"]}"' in line]
    tags = "color=blue,model=cpu-watch,namespace=ml,pod=cpu-watch-blue-1,role=active,source=user,version=3"
    assert point.startswith(f"anomaly_prediction,{tags} ")
    assert "value_cpu_percent=99," in point
    assert all("anomaly=true" in line for line in influx.of("anomaly_prediction"))
    (why,) = [line for line in influx.of("anomaly_explanation") if f'id="{odd["id"]}"' in line]
    assert "contribution_network_mbps=" in why
    assert any("feature=score" in line for line in influx.of("anomaly_drift"))
    assert set(influx.authorizations) == {"Token first-token"}


async def test_a_rotated_token_is_used_and_nothing_is_lost_while_refused(prepared, session, influx, tmp_path):
    token = configure(prepared, influx.url, tmp_path, write="all")
    influx.status = 401
    async with running(prepared) as detector:
        await ask(session, detector, *[NORMAL] * 10)

        async def refused():
            return influx.asked > 0

        await until(refused, "a write is refused", detector)
        token.write_text("second-token")

        async def rotated():
            return influx.authorizations[-1] == "Token second-token"

        await until(rotated, "the new token is used", detector)
        influx.status = 204

        async def written():
            return len(influx.of("anomaly_prediction")) == 10

        await until(written, "the ten points arrive", detector)
        assert "second-token" not in detector.log.read_text()


async def test_retry_after_is_respected(prepared, session, influx, tmp_path):
    configure(prepared, influx.url, tmp_path, write="all")
    influx.status, influx.headers = 429, {"retry-after": "3"}
    async with running(prepared) as detector:
        await ask(session, detector, NORMAL)

        async def asked():
            return influx.asked >= 1

        await until(asked, "the first write", detector)
        influx.status = 204

        async def written():
            return len(influx.of("anomaly_prediction")) == 1

        await until(written, "the point arrives", detector)
        assert influx.asked_at[1] - influx.asked_at[0] >= 3


async def test_points_that_influxdb_rejects_are_dropped_and_counted(prepared, session, influx, tmp_path):
    configure(prepared, influx.url, tmp_path, write="all")
    influx.status = 400
    async with running(prepared) as detector:
        await ask(session, detector, NORMAL)

        async def rejected():
            return await metric(session, detector, 'anomaly_influxdb_points_total{outcome="rejected"}') > 0

        await until(rejected, "the rejection is counted", detector)


async def test_a_dead_influxdb_costs_users_nothing_and_the_queue_is_bounded(prepared, session, tmp_path):
    configure(prepared, "http://127.0.0.1:9", tmp_path, write="all")
    async with running(prepared) as detector:
        for _ in range(60):
            await ask(session, detector, *[NORMAL] * 1000)

        async def dropped():
            return await metric(session, detector, 'anomaly_influxdb_points_total{outcome="dropped"}') > 0

        await until(dropped, "drops are counted", detector)
        assert (await detector.stats(session))["counts"]["user"]["failed"] == 0


@pytest.mark.skipif(not shutil.which("victoria-metrics"), reason="needs Debian's package victoria-metrics")
async def test_a_real_server_takes_every_point(prepared, session, tmp_path):
    address = free_address()
    command = [
        "victoria-metrics",
        f"-httpListenAddr={address}:8428",
        f"-storageDataPath={tmp_path / 'data'}",
        "-search.latencyOffset=0s",
        "-influxSkipSingleField=false",
    ]
    server = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    url = f"http://{address}:8428"

    async def up():
        try:
            async with session.get(f"{url}/health") as answer:
                return answer.status == 200
        except aiohttp.ClientConnectorError:
            return False

    try:
        await until(up, "victoria-metrics is up")
        configure(prepared, url, tmp_path, write="all")
        async with running(prepared) as detector:
            await ask(session, detector, *[NORMAL] * 20, *[ODD] * 5)

            query = {"query": "sum(count_over_time(anomaly_prediction_score[1h]))"}

            async def all_stored():
                await session.get(f"{url}/internal/force_flush")
                async with session.get(f"{url}/api/v1/query", params=query) as answer:
                    found = (await answer.json())["data"]["result"]
                return bool(found) and float(found[0]["value"][1]) == 25

            await until(all_stored, "all 25 scores are stored", detector)
    finally:
        server.terminate()
        await asyncio.wait_for(server.wait(), 60)

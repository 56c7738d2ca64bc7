"""The operator's port: who may call, roles, the report, the reference, the rings."""

import asyncio
import csv
import io
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.plugins.detector_pod import NORMAL, ODD, jwks, token, until

from anomaly_detector.report import Report

pytestmark = pytest.mark.e2e


async def get(session, detector, path):
    async with session.get(detector.url(8081, path), headers=detector.admin_headers) as answer:
        return answer.status, await answer.json()


async def predict(session, detector, *rows, port=8080, **headers):
    async with session.post(detector.url(port, "/predict"), json={"rows": list(rows)}, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return (await answer.json())["predictions"]


async def test_only_a_short_lived_token_for_this_pod_is_let_in(detector, session, admin_key):
    stranger = Ed25519PrivateKey.generate()
    refused = {
        "no token": {},
        "another scheme": {"authorization": "Basic abc"},
        "no token at all": {"authorization": "Bearer x.y.z"},
        "another key": {"authorization": f"Bearer {token(stranger)}"},
        "an unknown key": {"authorization": f"Bearer {token(admin_key, kid='k9')}"},
        "another pod": {"authorization": f"Bearer {token(admin_key, audience='another-uid')}"},
        "expired": {"authorization": f"Bearer {token(admin_key, seconds=-60)}"},
        "too long": {"authorization": f"Bearer {token(admin_key, seconds=3600)}"},
    }
    for why, headers in refused.items():
        for method, path in (("PUT", "/role"), ("GET", "/stats"), ("GET", "/window"), ("GET", "/nowhere")):
            async with session.request(method, detector.url(8081, path), headers=headers) as answer:
                assert (answer.status, why) == (401, why)
                assert (await answer.json())["error"]["reason"] == "Unauthorized"
    for path in ("/health", "/ready"):
        async with session.get(detector.url(8081, path)) as answer:
            assert answer.status == 200


async def test_a_training_job_s_token_lives_an_hour_and_opens_the_window_alone(detector, session, admin_key):
    for path, more, status in (
        ("/window", {"seconds": 3500, "scope": "window"}, 200),
        ("/window", {"seconds": 4000, "scope": "window"}, 401),
        ("/stats", {"seconds": 3500, "scope": "window"}, 401),
        ("/stats", {"seconds": 30, "scope": "window"}, 401),
        ("/role", {"seconds": 30, "scope": "role"}, 401),
    ):
        headers = {"authorization": f"Bearer {token(admin_key, **more)}"}
        async with session.get(detector.url(8081, path), headers=headers) as answer:
            assert (path, more, answer.status) == (path, more, status)


async def test_a_rotated_key_is_taken_without_a_restart(detector, session):
    new = Ed25519PrivateKey.generate()
    headers = {"authorization": f"Bearer {token(new, kid='k2')}"}
    (detector.config_dir / "jwks.json").write_text(jwks(new, "k2"))

    async def let_in():
        async with session.get(detector.url(8081, "/stats"), headers=headers) as answer:
            return answer.status == 200

    await until(let_in, "the new key is accepted", detector)


async def test_a_role_is_taken_once_and_an_older_epoch_refused(detector, session):
    first = await detector.put_role(session, "active", 3, shadowPercent=50)
    again = await detector.put_role(session, "active", 3, shadowPercent=50)
    assert (first["role"], first["epoch"]) == ("active", 3)
    assert first["roleSince"] == again["roleSince"]
    body = {"role": "standby", "epoch": 2}
    async with session.put(detector.url(8081, "/role"), json=body, headers=detector.admin_headers) as answer:
        assert answer.status == 409
        assert (await answer.json())["error"]["reason"] == "StaleEpoch"
    assert (await detector.stats(session))["role"] == "active"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"role": "king", "epoch": 1}, "role"),
        ({"role": "active"}, "epoch"),
        ({"role": "active", "epoch": -1}, "epoch"),
        ({"role": "active", "epoch": 1, "shadowPercent": 101}, "shadowPercent"),
        ({"role": "active", "epoch": 1, "passThrough": "yes"}, "passThrough"),
    ],
)
async def test_a_malformed_role_names_its_field(detector, session, body, field):
    async with session.put(detector.url(8081, "/role"), json=body, headers=detector.admin_headers) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["field"] == field


async def test_the_report_counts_by_source_and_restarts_with_the_role(detector, session):
    await predict(session, detector, NORMAL, ODD)
    await predict(session, detector, ODD, port=8082)
    await predict(session, detector, NORMAL, port=8082, **{"x-anomaly-source": "replay"})
    status, body = await get(session, detector, "/stats")
    report = Report.from_json(json.dumps(body))
    assert status == 200
    assert {source: count.served for source, count in report.counts.items()} == {"user": 1, "shadow": 1, "replay": 1}
    assert report.rows == {"user": 2, "shadow": 1, "replay": 1}
    assert report.anomalies == {"user": 1, "shadow": 1, "replay": 0}
    assert {source: sum(buckets) for source, buckets in report.latency.items()} == {"user": 1, "shadow": 1, "replay": 1}
    assert report.rssBytes > 10_000_000
    assert report.lastOwnUserAnswer is not None
    after = await detector.put_role(session, "active", 1)
    assert after["counts"] == {}
    assert after["bootId"] == report.bootId
    assert after["seq"] > report.seq


async def test_the_reference_comes_with_units_and_scores(detector, session):
    status, body = await get(session, detector, "/reference?rows=64")
    assert status == 200
    assert len(body["rows"]) == len(body["scores"]) == 64
    assert body["contamination"] == 0.15
    assert body["units"]["network_mbps"] == "Mbps"
    predictions = await predict(session, detector, *body["rows"])
    assert [one["score"] for one in predictions] == body["scores"]


async def test_the_window_holds_users_rows_only(detector, session):
    await predict(session, detector, NORMAL, ODD)
    await predict(session, detector, [1.0, 2.0, 3.0], port=8082)
    await predict(session, detector, [None, 2.0, 3.0])

    async def three():
        async with session.get(detector.url(8081, "/window"), headers=detector.admin_headers) as answer:
            text = await answer.text()
        lines = list(csv.reader(io.StringIO(text)))
        assert lines[0] == ["time", "cpu_percent", "memory_percent", "network_mbps"]
        return [line[1:] for line in lines[1:]] == [
            [str(value) for value in NORMAL],
            [str(value) for value in ODD],
            ["nan", "2.0", "3.0"],
        ]

    await until(three, "three rows are in the window", detector)


async def test_anomalies_are_kept_by_id_and_explained_on_demand(detector, session):
    predictions = await predict(session, detector, *[ODD] * 20)
    last = predictions[-1]["id"]
    assert "explanation" not in predictions[-1]

    async def kept():
        return (await get(session, detector, f"/anomalies/{last}"))[0] == 200

    await until(kept, "the anomaly is kept", detector)
    _, anomaly = await get(session, detector, f"/anomalies/{last}")
    assert anomaly["row"] == dict(zip(("cpu_percent", "memory_percent", "network_mbps"), ODD, strict=True))
    assert anomaly["explanation"]["contributions"]
    _, newest = await get(session, detector, "/anomalies?limit=5")
    assert [one["id"] for one in newest["anomalies"]] == [one["id"] for one in reversed(predictions[-5:])]
    assert (await get(session, detector, "/anomalies/unknown"))[0] == 404


async def test_plots_of_a_row_of_an_anomaly_and_of_recent_rows(detector, session):
    (odd,) = await predict(session, detector, ODD)
    await predict(session, detector, *[[40.0 + i, 50.0 - i / 2, 5.0 + i % 3] for i in range(30)])

    async def plot(path):
        async with session.get(detector.url(8081, f"/plots/{path}"), headers=detector.admin_headers) as answer:
            return answer.status, answer.content_type, await answer.read()

    for path in ("waterfall?row=99,95,80", f"waterfall?id={odd['id']}", "summary", "dependence?feature=network_mbps"):
        status, kind, body = await plot(path)
        assert (path, status, kind) == (path, 200, "image/png"), body
        assert body.startswith(b"\x89PNG")
    status, kind, body = await plot(f"force?id={odd['id']}")
    assert (status, kind) == (200, "text/html")
    assert b"cpu_percent" in body
    assert (await plot("pie"))[0] == 404
    assert (await plot("waterfall?row=1,2"))[0] == 400
    assert (await plot("waterfall?id=unknown"))[0] == 404
    assert (await plot("dependence?feature=disk"))[0] == 400


async def test_drift_is_seen_in_users_rows_while_active_and_never_in_bad_input(detector, session):
    detector.write_config({"drift": {"window": 100, "consecutiveChecks": 2}})

    async def reconfigured():
        return (await get(session, detector, "/drift"))[1]["window"] == 100

    await until(reconfigured, "the new window is in force", detector)
    await detector.put_role(session, "active", 1)
    async with session.post(detector.url(8080, "/predict"), json={"rows": [[900, 900]] * 500}) as answer:
        assert answer.status == 400
    await predict(session, detector, *[[90.0 + i % 7, 90.0, 60.0] for i in range(60)], port=8082)
    for _ in range(5):
        await predict(session, detector, *[[90.0 + i % 7, 90.0 + i % 3, 60.0 + i % 5] for i in range(50)])

    async def drifting():
        return (await get(session, detector, "/drift"))[1]["verdict"] == "drift"

    await until(drifting, "drift is seen", detector)
    report = await detector.stats(session)
    assert report["drift"]["confidence"] >= 0.6
    assert report["drift"]["breachStart"] is not None
    _, details = await get(session, detector, "/drift")
    assert details["rows"] == 100
    again = await detector.put_role(session, "standby", 2)
    assert again["drift"]["verdict"] == "inconclusive"


async def test_explanations_can_be_switched_off_while_running(detector, session):
    detector.write_config({"explanations": {"enabled": False}})

    async def off():
        return "explanation" not in (await predict(session, detector, ODD))[0]

    await until(off, "explanations are off", detector)
    async with session.post(detector.url(8080, "/explain"), json={"rows": [ODD]}) as answer:
        assert answer.status == 409


async def test_a_broken_configuration_changes_nothing_and_is_logged(detector, session):
    (detector.config_dir / "config.json").write_text('{"schemaVersion": 1, "drift": {"window": "many"}}')

    async def logged():
        return "config.json.drift.window: expected a number" in detector.log.read_text()

    await until(logged, "the fault is in the log", detector)
    assert (await get(session, detector, "/drift"))[1]["window"] == 500


async def test_an_authorization_that_is_no_text_is_refused_and_no_fault(detector):
    reader, writer = await asyncio.open_connection(detector.address, 8081)
    writer.write(b"GET /stats HTTP/1.1\r\nhost: x\r\nauthorization: Bearer \xff.\xff.\xff\r\nconnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 401 ")

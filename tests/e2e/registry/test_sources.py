"""Training data that comes over the wire: from InfluxDB's query API and from the rings of running detectors."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import aiohttp
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.plugins.detector_pod import Detector, running, save_model, token

from anomaly_detector.train.errors import DataError, RegistryError
from anomaly_detector.train.features import FeatureNotes
from anomaly_detector.train.influx import InfluxSource, read_influx
from anomaly_detector.train.pods import read_pods

pytestmark = pytest.mark.e2e
HEADER = """#datatype,string,long,dateTime:RFC3339,double,double
#group,false,false,false,false,false
#default,_result,,,,
,result,table,_time,cpu,memory
"""
ROWS = "\n".join(f",_result,0,2026-01-01T00:00:{i:02d}Z,{i}.5,{2 * i}" for i in range(60))


@pytest.fixture
def influx():
    """Run an HTTP server that answers InfluxDB's query endpoint; set `status` and `text`, read `asked`."""
    state = SimpleNamespace(status=200, text=HEADER + ROWS + "\n", asked=[])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            state.asked.append((self.path, self.headers["authorization"], json.loads(body)["query"]))
            self.send_response(state.status)
            self.end_headers()
            self.wfile.write(state.text.encode())

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield state
        server.shutdown()


@pytest.fixture
def influx_token(monkeypatch, tmp_path):
    (tmp_path / "token").write_text("secret-token\n")
    monkeypatch.setenv("INFLUXDB_TOKEN_FILE", str(tmp_path / "token"))


def ask(influx, *, notes=None, **source):
    asked = InfluxSource(url=influx.url, org="acme", bucket="telegraf", measurement="system", **source)
    return read_influx(asked, notes=notes or FeatureNotes())


def table_of(host, *columns, start=0, tags=("host",)):
    """Return annotated CSV as InfluxDB 2 writes it of one series, 30 points a second apart."""
    grouped = [name in tags for name in ("host", *columns)]
    yield f"#group,false,false,false,true,{','.join(str(flag).lower() for flag in grouped)}"
    yield ",result,table,_time,_measurement,host," + ",".join(columns)
    for i in range(30):
        values = ",".join(str(start + i + place / 10) for place in range(len(columns)))
        yield f",_result,0,2026-01-01T00:00:{i:02d}.123456789Z,system,{host},{values}"
    yield ""


@pytest.mark.usefixtures("influx_token")
class TestInflux:
    def test_the_answer_becomes_a_table_and_the_token_comes_from_its_file(self, influx):
        table = ask(influx)
        assert table.features == ("cpu", "memory")
        assert table.rows[3].tolist() == [3.5, 6]
        assert table.time_range() == ("2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:59.000000Z")
        [(path, authorization, query)] = influx.asked
        assert path == "/api/v2/query?org=acme"
        assert authorization == "Token secret-token"
        assert query.startswith('from(bucket: "telegraf")')

    def test_an_answer_without_rows_is_said(self, influx):
        influx.text = ""
        with pytest.raises(DataError, match="influx telegraf system: no rows"):
            ask(influx)

    def test_hosts_that_measure_at_the_same_time_keep_a_row_each_whatever_order_they_come_in(self, influx):
        one, other = list(table_of("01", "cpu", "memory")), list(table_of("b, c", "memory", "cpu", start=100))
        other = [line.replace("b, c", '"b, c"') for line in other]
        influx.text = "\r\n".join([*one, *other])
        table = ask(influx)
        assert (table.features, table.rows.shape) == (("cpu", "memory"), (60, 2))
        assert table.rows[:3].tolist() == [[0, 0.1], [100.1, 100], [1, 1.1]]
        influx.text = "\r\n".join([*other, *one])
        again = ask(influx, notes=FeatureNotes(names=("cpu", "memory")))
        np.testing.assert_array_equal(again.rows, table.rows)

    def test_a_host_without_a_field_is_said_and_not_filled_from_another(self, influx):
        influx.text = "\r\n".join([*table_of("a", "cpu", "memory"), *table_of("b", "cpu")])
        with pytest.raises(DataError, match=r"column memory: expected a finite number, got nothing \(30 such rows"):
            ask(influx)

    def test_fields_have_the_names_of_their_features_and_a_tag_that_is_named_is_one(self, influx):
        influx.text = "\r\n".join([*table_of("1", "usage", "memory"), *table_of("2", "usage", "memory")])
        renamed = {"fields": {"cpu": "usage"}}
        assert ask(influx, **renamed).features == ("cpu", "memory")
        table = ask(influx, **renamed, notes=FeatureNotes(names=("memory", "cpu", "host")))
        assert table.rows[:2].tolist() == [[0.1, 0, 1], [0.1, 0, 2]]

    def test_a_query_that_fails_on_its_way_is_said(self, influx):
        influx.text = "\r\n".join(
            [*table_of("a", "cpu"), "#datatype,string,string", ",error,reference", ",too big,897"]
        )
        with pytest.raises(DataError, match="influx telegraf system: the query failed: too big"):
            ask(influx)

    @pytest.mark.parametrize(
        ("status", "words"),
        [(401, "401 Unauthorized: check the token"), (404, "404 Not Found: bucket not found")],
    )
    def test_what_the_server_refuses_is_said_without_the_token(self, influx, status, words):
        influx.status, influx.text = status, json.dumps({"code": "x", "message": "bucket not found"})
        with pytest.raises(RegistryError, match=words) as raised:
            ask(influx)
        assert "secret-token" not in str(raised.value)


def test_without_a_token_nobody_is_asked(influx, monkeypatch):
    monkeypatch.delenv("INFLUXDB_TOKEN", raising=False)
    with pytest.raises(DataError, match="set INFLUXDB_TOKEN or INFLUXDB_TOKEN_FILE"):
        ask(influx)
    assert influx.asked == []


class TestPods:
    @pytest.fixture
    def pods_file(self, tmp_path, monkeypatch):
        path = tmp_path / "pods.json"
        monkeypatch.setenv("ANOMALY_PODS_FILE", str(path))
        return path

    async def test_rows_that_users_sent_come_back_in_the_order_of_time(self, pods_file, tmp_path):
        key = Ed25519PrivateKey.generate()
        sent = np.random.default_rng(0).normal(50, 5, (120, 3)).round(3)
        async with running(Detector(tmp_path, save_model(tmp_path / "model"), key)) as pod:
            async with aiohttp.ClientSession() as session:
                for batch in np.split(sent, 12):
                    async with session.post(pod.url(8080, "/predict"), json={"rows": batch.tolist()}) as answer:
                        assert answer.status == 200
            listed = [
                {"name": "blue-1", "url": pod.url(8081), "token": token(key)},
                {"name": "gone", "url": "http://127.0.0.1:1", "token": token(key)},
            ]
            pods_file.write_text(json.dumps({"pods": listed}))
            table = read_pods(notes=FeatureNotes())
        assert table.source == "pods (1 of 2)"
        assert table.features == ("cpu_percent", "memory_percent", "network_mbps")
        np.testing.assert_array_equal(table.rows, sent)
        assert (np.diff(table.times) >= np.timedelta64(0)).all()

    async def test_pods_that_all_refuse_are_named(self, pods_file, tmp_path):
        key = Ed25519PrivateKey.generate()
        async with running(Detector(tmp_path, save_model(tmp_path / "model"), key)) as pod:
            other = token(Ed25519PrivateKey.generate())
            pods_file.write_text(json.dumps({"pods": [{"name": "blue-1", "url": pod.url(8081), "token": other}]}))
            with pytest.raises(RegistryError, match="no pod gave its rows: blue-1: 401"):
                read_pods(notes=FeatureNotes())

    @pytest.mark.parametrize("text", ["", "[]", '{"pods": [{"name": "p"}]}', '{"pods": 1}'])
    def test_a_file_that_lists_no_pods_is_refused(self, pods_file, text):
        pods_file.write_text(text)
        with pytest.raises(DataError, match="ANOMALY_PODS_FILE"):
            read_pods(notes=FeatureNotes())

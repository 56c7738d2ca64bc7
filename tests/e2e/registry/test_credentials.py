"""Credentials come from a mounted folder, reach the registry and nothing else."""

import base64
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from anomaly_detector.train.environment import CREDENTIALS, LIMITS
from anomaly_detector.train.errors import RegistryError
from anomaly_detector.train.registry import Registry

pytestmark = pytest.mark.e2e
DENIED = {"error_code": "UNAUTHENTICATED", "message": "no such user"}
BASIC = "Basic " + base64.b64encode(b"trainer:s3cret").decode()


@pytest.fixture
def guarded():
    """Run a registry that knows one model and lets one user in."""
    state = SimpleNamespace(expected=BASIC)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            allowed = self.headers["authorization"] == state.expected
            body = {"registered_model": {"name": "m"}} if allowed else DENIED
            self.send_response(200 if allowed else 401)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.uri = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield state
        server.shutdown()


@pytest.fixture
def credentials(tmp_path, monkeypatch):
    for name in (*CREDENTIALS, *LIMITS, "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "")  # so that whatever the code sets is undone afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("ANOMALY_CREDENTIALS_DIR", str(tmp_path))
    return tmp_path


def test_user_and_password_are_read_from_files(guarded, credentials):
    (credentials / "MLFLOW_TRACKING_USERNAME").write_text("trainer\n")
    (credentials / "MLFLOW_TRACKING_PASSWORD").write_text("s3cret\n")
    Registry(guarded.uri).check("m")


def test_variables_of_the_artifact_store_are_read_from_files(guarded, credentials, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "to be undone")
    (credentials / "AWS_ACCESS_KEY_ID").write_text("key-id\n")
    Registry(guarded.uri)
    assert os.environ["AWS_ACCESS_KEY_ID"] == "key-id"


def test_a_token_is_read_from_its_file(guarded, credentials):
    guarded.expected = "Bearer t0ken"
    (credentials / "MLFLOW_TRACKING_TOKEN").write_text("t0ken")
    Registry(guarded.uri).check("m")


def test_a_registry_that_lets_nobody_in_is_said_without_the_password(guarded, credentials):
    (credentials / "MLFLOW_TRACKING_USERNAME").write_text("trainer")
    (credentials / "MLFLOW_TRACKING_PASSWORD").write_text("wr0ng")
    with pytest.raises(RegistryError, match="registered model m: UNAUTHENTICATED: no such user") as raised:
        Registry(guarded.uri).check("m")
    assert "wr0ng" not in str(raised.value)

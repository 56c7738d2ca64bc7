"""`anomaly-detector fetch`: from the registry, from peers, from the cache; and what it refuses."""

import asyncio
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from tests.plugins.detector_pod import save_model, training_rows

from anomaly_detector import bundle

pytestmark = pytest.mark.e2e
NOWHERE = "http://127.0.0.1:9"


class Fetch:
    """The init container of a pod, run as often as a test likes."""

    def __init__(self, folder):
        self.cache, self.log = folder / "cache", folder / "termination-log"
        self.output = ""

    def __call__(self, source, digest="", *, uri=NOWHERE, pickles=False, **environment):
        self.log.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", "anomaly_detector", "fetch"],
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
                "ANOMALY_MODEL": "cpu-watch",
                "ANOMALY_NAMESPACE": "ml",
                "ANOMALY_SOURCE": source,
                "ANOMALY_DIGEST": digest,
                "ANOMALY_ALLOW_PICKLE": str(pickles).lower(),
                "ANOMALY_CACHE_DIR": str(self.cache),
                "ANOMALY_TERMINATION_LOG": str(self.log),
                "MLFLOW_TRACKING_URI": uri,
                "CPU_WATCH_BLUE_SERVICE_HOST": "127.0.0.1",
                "CPU_WATCH_BLUE_SERVICE_PORT": "9",
                "CPU_WATCH_GREEN_SERVICE_HOST": "127.0.0.1",
                "CPU_WATCH_GREEN_SERVICE_PORT": "9",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.output = done.stdout + done.stderr
        return done.returncode, self.log.read_text()

    def cached(self, digest):
        return self.cache / digest.removeprefix("sha256:")


@pytest.fixture
def fetch(tmp_path):
    return Fetch(tmp_path)


@pytest.fixture(scope="module")
def registered(mlflow_server, tmp_path_factory):
    """A logged model at a real registry: `models:/m-...`, a run's own artifact folder, and their digest."""
    import mlflow  # noqa: PLC0415 - takes seconds to import
    import mlflow.sklearn  # noqa: PLC0415 - takes seconds to import
    from sklearn.ensemble import IsolationForest  # noqa: PLC0415 - takes seconds to import

    mlflow.set_tracking_uri(mlflow_server.uri)
    model = IsolationForest(n_estimators=10, random_state=0).fit(training_rows())
    saved = save_model(tmp_path_factory.mktemp("run-model") / "model")
    with mlflow.start_run() as run:
        info = mlflow.sklearn.log_model(
            model, name="model", skops_trusted_types=["sklearn.tree._tree.Tree"], pip_requirements=["scikit-learn"]
        )
        mlflow.log_artifacts(str(saved), "old/model")
    folder = tmp_path_factory.mktemp("downloaded")
    mlflow.artifacts.download_artifacts(f"models:/{info.model_id}", dst_path=str(folder))
    return {
        f"models:/{info.model_id}": bundle.digest(folder),
        f"runs:/{run.info.run_id}/old/model": bundle.digest(saved),
        f"runs:/{run.info.run_id}/model": bundle.digest(folder),
    }


def test_every_kind_of_source_comes_from_a_real_registry(registered, fetch, mlflow_server):
    for source, digest in registered.items():
        shutil.rmtree(fetch.cache, ignore_errors=True)
        assert fetch(source, digest, uri=mlflow_server.uri) == (0, json.dumps({"digest": digest}))
        assert bundle.digest(fetch.cached(digest)) == digest
        assert list(fetch.cache.glob("*.flat-*/meta.json"))


def test_a_digest_that_nobody_knows_is_computed_and_then_needs_no_registry(registered, fetch, mlflow_server):
    source, digest = next(iter(registered.items()))
    assert fetch(source, uri=mlflow_server.uri) == (0, json.dumps({"digest": digest}))
    assert fetch(source, uri=NOWHERE) == (0, json.dumps({"digest": digest}))


def test_an_artifact_other_than_resolved_is_refused(registered, fetch, mlflow_server):
    source, digest = next(iter(registered.items()))
    other = "sha256:" + "0" * 64
    status, said = fetch(source, other, uri=mlflow_server.uri)
    assert status == 65
    assert said == f"refused: digest: expected {other}, got {digest} from {source}"
    assert not fetch.cached(other).exists()


def test_an_unreachable_registry_is_tried_again_later(fetch):
    status, said = fetch("models:/m-1", "sha256:" + "0" * 64)
    assert status == 69
    assert said.startswith(f"unavailable: {NOWHERE}: ")


def test_a_model_that_the_registry_does_not_have_says_so(fetch, mlflow_server):
    status, said = fetch("models:/m-0123456789", uri=mlflow_server.uri)
    assert status == 69
    assert "404" in said
    assert "m-0123456789" in said


@pytest.mark.skipif(importlib.util.find_spec("boto3") is not None, reason="the store's library is here")
def test_a_store_whose_library_the_image_lacks_is_said_by_name(fetch, mlflow_server, model_name):
    from mlflow import MlflowClient  # noqa: PLC0415 - takes seconds to import

    client = MlflowClient(mlflow_server.uri)
    run = client.create_run(client.create_experiment(model_name, artifact_location="s3://bucket/models"))
    code, said = fetch(f"runs:/{run.info.run_id}/model", uri=mlflow_server.uri)
    assert code == 69
    assert "No module named 'boto" in said


def test_a_damaged_cache_is_noticed_and_brought_anew(registered, fetch, mlflow_server):
    source, digest = next(iter(registered.items()))
    fetch(source, digest, uri=mlflow_server.uri)
    next(fetch.cached(digest).glob("*.skops")).write_bytes(b"damaged")
    assert fetch(source, digest)[0] == 69
    assert fetch(source, digest, uri=mlflow_server.uri)[0] == 0
    assert bundle.digest(fetch.cached(digest)) == digest


async def test_a_peer_gives_what_the_registry_cannot(detector, fetch):
    peer = {"CPU_WATCH_GREEN_SERVICE_HOST": detector.address, "CPU_WATCH_GREEN_SERVICE_PORT": "8082"}
    ended = await asyncio.to_thread(fetch, "models:/m-1", detector.digest, **peer)
    assert ended == (0, json.dumps({"digest": detector.digest}))
    assert bundle.digest(fetch.cached(detector.digest)) == detector.digest


async def test_users_get_no_artifacts_and_peers_none_but_by_digest(detector, session):
    name = detector.digest.removeprefix("sha256:")
    for port, path in ((8080, name), (8082, "0" * 64), (8082, "..%2F..%2Fetc"), (8082, name[:-1])):
        async with session.get(detector.url(port, f"/artifact/{path}")) as answer:
            assert answer.status == 404


def test_a_pickle_is_refused_unless_allowed(fetch, tmp_path):
    model = save_model(tmp_path / "pickle", fmt="cloudpickle")
    digest = bundle.digest(model)
    fetch.cache.mkdir()
    shutil.copytree(model, fetch.cached(digest))
    status, said = fetch("models:/m-1", digest)
    assert status == 65
    assert "pickle" in said
    assert fetch("models:/m-1", digest, pickles=True)[0] == 0
    # What one pod was allowed to prepare does not let another pod load it.
    assert fetch("models:/m-1", digest)[0] == 65


def test_credentials_from_files_are_sent_and_never_logged(fetch, tmp_path):
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "MLFLOW_TRACKING_USERNAME").write_text("alice-in-the-registry")
    (credentials / "MLFLOW_TRACKING_PASSWORD").write_text("correct-horse-battery\n")
    with _Registry() as registry:
        fetch("models:/m-1", uri=registry.uri, ANOMALY_CREDENTIALS_DIR=str(credentials), ANOMALY_LOG_LEVEL="debug")
    assert registry.authorizations[0].startswith("Basic ")
    assert "correct-horse" not in fetch.output + fetch.log.read_text()


def test_all_wrong_settings_are_named_at_once():
    done = subprocess.run(
        [sys.executable, "-m", "anomaly_detector", "fetch"],
        env={"PATH": os.environ["PATH"], "ANOMALY_SOURCE": "s3://bucket", "ANOMALY_DIGEST": "md5:1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 64
    for name in ("ANOMALY_MODEL", "ANOMALY_NAMESPACE", "ANOMALY_SOURCE", "ANOMALY_DIGEST", "MLFLOW_TRACKING_URI"):
        assert name in done.stderr


class _Registry:
    """A server that only remembers how it was asked."""

    def __enter__(self):
        seen = self.authorizations = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                seen.append(self.headers["authorization"])
                self.send_response(403)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

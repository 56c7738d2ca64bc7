"""A registry that asks who you are, behind TLS of a private authority: MLflow's own basic-auth app, and a token."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from demo.mlflow_server import mlflow_server as run_server
from tests.plugins.tls_front import tls_front

from anomaly_operator.adapters.registry import Registry
from anomaly_operator.domain.model import Resolved, Unresolved
from anomaly_operator.domain.spec import ModelSpec

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

BIN = Path(sys.executable).parent
ADMIN, PASSWORD, TOKEN = "admin", "correct-horse-battery", "t0ken-of-the-ingress"
WAYS = {
    "basic": {"MLFLOW_TRACKING_USERNAME": ADMIN, "MLFLOW_TRACKING_PASSWORD": PASSWORD + "\n"},
    "token": {"MLFLOW_TRACKING_TOKEN": TOKEN},
}
MODEL = "guarded"
PATIENCE = 60
"""Seconds for one answer: what is tested is who is let in, on however slow a machine."""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """The front's address and its authority's certificate; plain HTTP and no login are not to be had."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/auth.db\nadmin_username = {ADMIN}\n"
        f"admin_password = {PASSWORD}\nauthorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    env = {"MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"), "MLFLOW_FLASK_SERVER_SECRET_KEY": "tests"}
    with (
        run_server(folder, env=env, options=("--app-name", "basic-auth")) as server,
        tls_front(folder, server.uri, tokens={TOKEN: (ADMIN, PASSWORD)}) as front,
    ):
        yield front


def secret(folder, ca, **files):
    """Write what a Secret of `credentialsSecretRef` holds, as the kubelet mounts it."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    if ca:
        (folder / "ca.crt").write_text(ca.read_text())
    return folder


def bare_environment(**more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return kept | {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(PATIENCE)} | more


def train(guarded, credentials, data):
    command = [BIN / "anomaly-train", "--data", data, "--model", MODEL, "--alias", "champion", "--no-plots", "--json"]
    environment = bare_environment(MLFLOW_TRACKING_URI=guarded.uri, ANOMALY_CREDENTIALS_DIR=str(credentials))
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)


@pytest.fixture(scope="module")
def trained(guarded, metrics_csv, tmp_path_factory):
    """Two versions: trained with a login and with a token, each from a mounted Secret alone."""
    made = []
    for way, files in WAYS.items():
        credentials = secret(tmp_path_factory.mktemp(way) / "secret", guarded.ca, **files)
        done = train(guarded, credentials, metrics_csv)
        assert done.returncode in (0, 3), done.stderr  # the second need not be the better one
        made.append(SimpleNamespace(**json.loads(done.stdout)))
    return made


@pytest.mark.parametrize("way", WAYS)
async def test_the_operator_resolves_and_tags_with_what_is_mounted(guarded, trained, way, tmp_path):
    async with Registry(secret(tmp_path / "secret", guarded.ca, **WAYS[way]), timeout=PATIENCE) as registry:
        found = await registry.resolve(guarded.uri, ModelSpec(name=MODEL, version="2"), "version 2")
        assert isinstance(found, Resolved)
        assert (found.version, found.digest) == (trained[1].version, trained[1].digest)
        await registry.set_version_tag(guarded.uri, MODEL, "1", f"from-{way}", "yes")
        assert (await registry.version_tags(guarded.uri, MODEL, "1"))[0][f"from-{way}"] == "yes"


@pytest.mark.parametrize(
    ("files", "with_ca", "reason", "words"),
    [
        ({}, True, "Forbidden", "answered 401"),
        (WAYS["basic"] | {"MLFLOW_TRACKING_PASSWORD": "a guess"}, True, "Forbidden", "answered 401"),
        ({"MLFLOW_TRACKING_TOKEN": "another"}, True, "Forbidden", "answered 401"),
        (WAYS["basic"], False, "Unreachable", "certificate verify failed"),
    ],
    ids=["nobody", "a wrong password", "a wrong token", "an authority that is not trusted"],
)
async def test_what_is_wrong_with_credentials_is_said_without_them(guarded, files, with_ca, reason, words, tmp_path):
    credentials = secret(tmp_path / "secret", guarded.ca if with_ca else None, **files)
    async with Registry(credentials, timeout=PATIENCE) as registry:
        found = await registry.resolve(guarded.uri, ModelSpec(name=MODEL, alias="champion"), "alias champion")
    assert isinstance(found, Unresolved)
    assert (found.reason, words in found.message) == (reason, True), found.message
    assert not [text for text in files.values() if text in found.message and text != ADMIN]


def fetch(guarded, credentials, source, digest, folder):
    environment = bare_environment(
        ANOMALY_MODEL="cpu-watch",
        ANOMALY_NAMESPACE="ml",
        ANOMALY_SOURCE=source,
        ANOMALY_DIGEST=digest,
        ANOMALY_CACHE_DIR=str(folder / "cache"),
        ANOMALY_TERMINATION_LOG=str(folder / "said"),
        ANOMALY_CREDENTIALS_DIR=str(credentials),
        MLFLOW_TRACKING_URI=guarded.uri,
        CPU_WATCH_BLUE_SERVICE_HOST="127.0.0.1",
        CPU_WATCH_BLUE_SERVICE_PORT="9",
        CPU_WATCH_GREEN_SERVICE_HOST="127.0.0.1",
        CPU_WATCH_GREEN_SERVICE_PORT="9",
    )
    command = [sys.executable, "-m", "anomaly_detector", "fetch"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    return done.returncode, (folder / "said").read_text(), done.stdout + done.stderr


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["logged model", "run"])
def test_the_init_container_fetches_what_was_resolved(guarded, trained, way, kind, tmp_path):
    made = trained[0]
    # MLflow's own downloader resolves the second one: since MLflow 3 a run's model lies with the logged model.
    source = made.source if kind == "logged model" else f"runs:/{made.runId}/model"
    credentials = secret(tmp_path / "secret", guarded.ca, **WAYS[way])

    code, said, output = fetch(guarded, credentials, source, made.digest, tmp_path)

    assert (code, json.loads(said)) == (0, {"digest": made.digest}), said
    assert not [text for text in (PASSWORD, TOKEN) if text in output]


@pytest.mark.parametrize(
    ("files", "with_ca", "words"),
    [(WAYS["basic"] | {"MLFLOW_TRACKING_PASSWORD": "a guess"}, True, "401"), (WAYS["basic"], False, "certificate")],
    ids=["a wrong password", "an authority that is not trusted"],
)
def test_an_init_container_that_is_not_let_in_says_so_and_is_tried_again(
    guarded, trained, files, with_ca, words, tmp_path
):
    credentials = secret(tmp_path / "secret", guarded.ca if with_ca else None, **files)
    code, said, _ = fetch(guarded, credentials, trained[0].source, trained[0].digest, tmp_path)
    assert (code, words in said.lower()) == (69, True), said


def test_a_training_that_is_not_let_in_says_so_and_registers_nothing(guarded, metrics_csv, tmp_path):
    done = train(guarded, secret(tmp_path / "secret", guarded.ca, MLFLOW_TRACKING_TOKEN="another"), metrics_csv)
    assert (done.returncode, done.stdout) == (69, "")
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("way", WAYS)
def test_the_command_line_moves_an_alias_with_the_caller_s_own_credentials(guarded, way):
    command = [BIN / "kubectl-anomaly", "promote-version", MODEL, "2", "--alias", f"of-{way}"]
    environment = {name: value.strip() for name, value in WAYS[way].items()} | {"MLFLOW_TRACKING_URI": guarded.uri}

    trusting = bare_environment(**environment, MLFLOW_TRACKING_SERVER_CERT_PATH=str(guarded.ca))
    done = subprocess.run(command, env=trusting, capture_output=True, text=True, check=False)
    assert done.stdout == f"{MODEL}: alias of-{way} moved from nowhere to version 2\n", done.stderr

    refused = subprocess.run(command, env=bare_environment(**environment), capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "certificate verify failed" in refused.stderr

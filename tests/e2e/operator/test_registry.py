"""The registry adapter against a real MLflow server, and against servers that misbehave."""

import asyncio

import pytest
from mlflow import MlflowClient

from anomaly_operator.adapters.registry import Registry
from anomaly_operator.domain.model import Resolved, Unresolved
from anomaly_operator.domain.spec import ModelSpec

pytestmark = pytest.mark.e2e

PATIENCE = 60
"""Seconds that a server may take which has just started."""


@pytest.fixture
async def registry():
    async with Registry(timeout=PATIENCE) as one:
        yield one


@pytest.fixture
def registered(mlflow_server, model_name):
    """A registered model with two versions: 1 without tags, 2 with them."""
    client = MlflowClient(mlflow_server.uri)
    experiment = client.create_experiment(model_name)
    client.create_registered_model(model_name)
    for tags in ({}, {"anomalymodel.dev/digest": "sha256:ab", "anomalymodel.dev/contamination": "0.2"}):
        run = client.create_run(experiment)
        client.log_param(run.info.run_id, "contamination", "0.15")
        client.create_model_version(model_name, f"runs:/{run.info.run_id}/model", run.info.run_id, tags=tags)
    return client, model_name


async def test_an_alias_is_resolved_to_its_version_with_what_is_known_about_it(registry, mlflow_server, registered):
    client, name = registered
    client.set_registered_model_alias(name, "champion", "2")
    found = await registry.resolve(mlflow_server.uri, ModelSpec(name=name, alias="champion"), "alias champion")
    assert isinstance(found, Resolved)
    assert (found.version, found.digest, found.contamination) == ("2", "sha256:ab", 0.2)
    assert found.source.startswith(("runs:/", "models:/"))
    client.set_registered_model_alias(name, "champion", "1")
    found = await registry.resolve(mlflow_server.uri, ModelSpec(name=name, alias="champion"), "alias champion")
    assert (found.version, found.digest) == ("1", None)
    # Without a tag the run's parameter counts.
    assert found.contamination == 0.15


async def test_a_version_and_a_stage_are_resolved(registry, mlflow_server, registered):
    client, name = registered
    found = await registry.resolve(mlflow_server.uri, ModelSpec(name=name, version="1"), "version 1")
    assert found.version == "1"
    client.transition_model_version_stage(name, "2", "Production")
    found = await registry.resolve(mlflow_server.uri, ModelSpec(name=name, stage="Production"), "stage Production")
    assert found.version == "2"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"alias": "nobody"}, "nobody"),
        ({"version": "9"}, "9"),
        ({"stage": "Staging"}, "no version in stage Staging"),
    ],
)
async def test_what_does_not_exist_is_said_in_the_registry_s_words(registry, mlflow_server, registered, spec, words):
    found = await registry.resolve(mlflow_server.uri, ModelSpec(name=registered[1], **spec), "it")
    assert isinstance(found, Unresolved)
    assert found.reason == "NotFound"
    assert words in found.message


async def test_an_unknown_model_is_not_found(registry, mlflow_server):
    found = await registry.resolve(mlflow_server.uri, ModelSpec(name="nothing", alias="champion"), "alias champion")
    assert (found.reason, "nothing" in found.message) == ("NotFound", True)


async def test_a_version_is_tagged(registry, mlflow_server, registered):
    client, name = registered
    await registry.set_version_tag(
        mlflow_server.uri, name, "1", "anomalymodel.dev/history.ns.m", '{"outcome":"Promoted"}'
    )
    assert client.get_model_version(name, "1").tags["anomalymodel.dev/history.ns.m"] == '{"outcome":"Promoted"}'


async def hang(reader, _):
    await reader.read()
    await asyncio.Event().wait()


async def drip(_, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


async def close(_, writer):
    writer.close()


def answering(text):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(text.encode())
        await writer.drain()
        writer.close()

    return answer


REDIRECT = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
HTML = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"
DENIED = "HTTP/1.1 403 Forbidden\r\nContent-Length: 19\r\n\r\nInvalid Host header"


@pytest.mark.parametrize(
    ("behaviour", "seconds", "reason", "words"),
    [
        (hang, 0.3, "Unreachable", "did not answer within 0.3 s"),
        (drip, 0.3, "Unreachable", "did not answer within 0.3 s"),
        (close, PATIENCE, "Unreachable", "http://127.0.0.1"),
        (answering(REDIRECT), PATIENCE, "Unreachable", "answered 302"),
        (answering(HTML), PATIENCE, "Unreachable", "answered 200"),
        (answering(DENIED), PATIENCE, "Forbidden", "Invalid Host header"),
    ],
    ids=["hangs", "drips", "closes", "redirects", "answers with a page", "denies"],
)
async def test_a_server_that_misbehaves_is_given_up_in_time(behaviour, seconds, reason, words):
    server = await asyncio.start_server(behaviour, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with Registry(timeout=seconds) as registry:
            found = await registry.resolve(f"http://127.0.0.1:{port}", ModelSpec(name="m", alias="a"), "alias a")
    finally:
        server.close()
    assert isinstance(found, Unresolved)
    assert found.reason == reason
    assert words in found.message


async def test_credentials_are_read_at_every_use(tmp_path):
    seen = []

    async def answer(reader, writer):
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    uri = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        async with Registry(tmp_path) as registry:
            (tmp_path / "MLFLOW_TRACKING_TOKEN").write_text("first\n")
            found = await registry.resolve(uri, ModelSpec(name="m", alias="a"), "alias a")
            (tmp_path / "MLFLOW_TRACKING_TOKEN").write_text("second\n")
            await registry.resolve(uri, ModelSpec(name="m", alias="a"), "alias a")
    finally:
        server.close()
    assert found.reason == "Forbidden"
    assert [b"Bearer first" in seen[0], b"Bearer second" in seen[1]] == [True, True]

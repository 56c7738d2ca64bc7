"""Clients of other servers, unmodified: each in the environment that the benchmark makes for its own server."""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.plugins.detector_pod import FEATURES, NORMAL, ODD

pytestmark = pytest.mark.e2e

CLIENTS = Path(__file__).parent / "clients"


def python_of(peer):
    sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
    try:
        from rig import environments  # noqa: PLC0415 - the benchmarks' folder is no package
    finally:
        sys.path.pop(0)
    if (python := environments.existing(peer)) is None:
        pytest.skip(f"no environment of {peer}: .venv/bin/python benchmarks/rig/environments.py {peer} makes it")
    return python


async def said_by(peer, detector):
    """Run a client in its environment and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        python_of(peer),
        CLIENTS / f"{peer}_client.py",
        detector.url(8080),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()
    return json.loads(stdout.splitlines()[-1])


async def test_kserve_s_rest_client(detector):
    said = await said_by("kserve", detector)
    assert (said["live"], said["ready"], said["modelReady"]) == (True, True, True)
    assert said["id"] == "k-1"
    assert said["binary"]["label"] == [1, 0]
    assert said["json"] == said["binary"]
    assert "network_mbps" in said["refused"]


async def test_mlserver_s_codecs_and_types(detector):
    said = await said_by("mlserver", detector)
    assert said["numpy"]["label"] == [1, 0]
    assert said["pandas"] == said["numpy"]
    assert (said["server"], said["model"]) == ("anomaly-detector", "cpu-watch")


async def test_mlflow_s_scoring_client(detector):
    import pandas as pd  # noqa: PLC0415 - takes seconds to import
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient  # noqa: PLC0415 - takes seconds to import

    client = ScoringServerClient(detector.address, 8080)
    await asyncio.to_thread(client.ping)
    assert await asyncio.to_thread(client.get_version) == "3"
    frame = pd.DataFrame([ODD, NORMAL], columns=list(FEATURES))
    for data in (frame, frame.to_numpy(), frame.to_numpy().tolist()):
        answer = await asyncio.to_thread(client.invoke, data)
        assert np.ravel(answer.get_predictions()).tolist() == [-1, 1]

"""Real models, the real detector as a process, and another color for it to talk to."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.plugins.detector_pod import Detector, OtherColor, running, save_model


@pytest.fixture(scope="session")
def forest_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415 - takes seconds to import

    return save_model(tmp_path_factory.mktemp("models") / "forest", StandardScaler())


@pytest.fixture(scope="session")
def box_cox_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that fails on rows that hold 0."""
    from sklearn.preprocessing import PowerTransformer  # noqa: PLC0415 - takes seconds to import

    return save_model(tmp_path_factory.mktemp("models") / "box-cox", PowerTransformer(method="box-cox"))


@pytest.fixture(scope="session")
def admin_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
async def other_color() -> AsyncIterator[OtherColor]:
    other = OtherColor()
    await other.start()
    yield other
    await other.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as one:
        yield one


@pytest.fixture
def prepared(tmp_path: Path, forest_folder: Path, admin_key: Ed25519PrivateKey) -> Detector:
    """A detector that a test may still set up before it starts."""
    return Detector(tmp_path, forest_folder, admin_key)


@pytest.fixture
async def detector(prepared: Detector) -> AsyncIterator[Detector]:
    async with running(prepared):
        yield prepared

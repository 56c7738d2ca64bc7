"""From the cache to a model that serves: what is damaged there is made anew, what is left behind goes."""

import asyncio
import os
import shutil
import time
from dataclasses import replace

import pytest
from tests.plugins.detector_pod import ODD, save_model, training_rows

from anomaly_detector import bundle, fetch
from anomaly_detector.cache import STALE_SECONDS, Cache
from anomaly_detector.config import Config
from anomaly_detector.dataplane import DataPlane, Model
from anomaly_detector.loading import RefusedError, UnavailableError, flatten, load, warm_up
from anomaly_detector.protocols import Contract, Query
from anomaly_detector.settings import Artifact, read_fetch_settings

DIGEST = "sha256:" + "a" * 64


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache with a flattened model, and the model's digest."""
    folder = tmp_path_factory.mktemp("cache")
    model = save_model(tmp_path_factory.mktemp("models") / "forest")
    digest = bundle.digest(model)
    shutil.copytree(model, Cache(folder).model(digest))
    asyncio.run(flatten(Cache(folder), digest, allow_pickle=False))
    return folder, digest


@pytest.fixture
def stored(filled, tmp_path, pod):
    """The settings of a pod with a cache of its own, and that cache's flattened model."""
    folder, digest = filled
    shutil.copytree(folder, tmp_path / "cache")
    artifact = Artifact(source="models:/m-1", digest=digest, allow_pickle=False, cache_dir=tmp_path / "cache")
    return replace(pod.settings, artifact=artifact), Cache(artifact.cache_dir).flat(digest)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("meta.json", b""),
        ("meta.json", b"{}"),
        ("forest.npz", b""),
        ("forest.npz", b"PK\x03\x04"),
        ("forest.npz", None),
    ],
)
async def test_a_damaged_flat_model_is_made_anew_once_and_serves(stored, file, content):
    settings, flat = stored
    before = (flat / file).read_bytes()
    (flat / file).unlink() if content is None else (flat / file).write_bytes(content)
    plane = await load(settings, Config(), "b" * 16)
    assert (await plane.answer(Query(rows=training_rows()[:3]))).scores.shape == (3,)
    assert len((flat / file).read_bytes()) == len(before)
    assert not list(flat.parent.glob(".tmp-*"))


async def test_fetch_makes_a_damaged_flat_model_anew_without_a_registry(stored, tmp_path, monkeypatch):
    settings, flat = stored
    (flat / "meta.json").write_bytes(b"")
    monkeypatch.setenv("ANOMALY_TERMINATION_LOG", str(tmp_path / "said"))
    assert await fetch.run(fetching(settings)) == 0
    assert settings.artifact.digest in (tmp_path / "said").read_text()
    assert (flat / "meta.json").stat().st_size


def fetching(settings):
    return read_fetch_settings(
        {
            "ANOMALY_MODEL": "m",
            "ANOMALY_NAMESPACE": "ml",
            "ANOMALY_SOURCE": settings.artifact.source,
            "ANOMALY_DIGEST": settings.artifact.digest,
            "ANOMALY_CACHE_DIR": str(settings.artifact.cache_dir),
            "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
        }
    )


def test_what_killed_fetches_left_goes_and_what_others_work_in_stays(stored):
    settings, flat = stored
    cache = Cache(settings.artifact.cache_dir)
    left, used = flat.parent / ".tmp-left", flat.parent / ".tmp-used"
    for folder in (left, used):
        (folder / "model").mkdir(parents=True)
    long_ago = time.time() - STALE_SECONDS - 60
    os.utime(left, (long_ago, long_ago))
    asyncio.run(fetch.fetch(fetching(settings)))
    assert (left.exists(), used.exists(), cache.holds(settings.artifact.digest)) == (False, True, True)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 72, b"\xff", b"sha256:12\n"], ids=["empty", "zeros", "no text", "half"]
)
def test_a_damaged_note_of_a_digest_is_none_and_costs_nothing_else(stored, content):
    settings, flat = stored
    cache = Cache(settings.artifact.cache_dir)
    cache.remember("models:/m-1", settings.artifact.digest)
    assert cache.digest_of("models:/m-1") == settings.artifact.digest
    next((flat.parent / "sources").iterdir()).write_bytes(content)
    assert cache.digest_of("models:/m-1") is None
    assert cache.holds(settings.artifact.digest)


async def test_a_model_that_can_never_be_flattened_is_refused_and_leaves_the_cache_as_it_was(tmp_path):
    cache = Cache(tmp_path)
    cache.model(DIGEST).mkdir()
    with pytest.raises(RefusedError, match="no MLmodel file"):
        await flatten(cache, DIGEST, allow_pickle=False)
    assert [path.name for path in tmp_path.iterdir()] == [cache.model(DIGEST).name]


async def test_an_unexpected_fault_of_fetch_leaves_its_last_words(stored, tmp_path, monkeypatch):
    settings, _ = stored
    artifact = replace(settings.artifact, cache_dir=tmp_path / "said\0")
    monkeypatch.setenv("ANOMALY_TERMINATION_LOG", str(tmp_path / "said"))
    assert await fetch.run(replace(fetching(settings), artifact=artifact)) == fetch.EXIT_UNAVAILABLE
    assert (tmp_path / "said").read_text().startswith("unavailable: ValueError: ")


class Counting:
    """A model that notes what it was asked, and takes no zeros."""

    features, threshold, kind = ("a",), 100.0, "double"
    accepts_missing = accepts_infinite = True

    def __init__(self):
        self.asked = []

    def score(self, rows):
        self.asked.append(len(rows))
        if not rows.all():
            raise ValueError("no zeros")
        return rows.sum(axis=1)


async def test_before_a_pod_is_ready_its_model_has_scored_what_it_knows_one_by_one_and_together(stored):
    settings, _ = stored
    plane = await load(settings, Config(), "b" * 16)
    answer = await plane.answer(Query(rows=training_rows()[:1] * 0 + ODD))
    assert int(answer.ids[0].rpartition("-")[2], 16) > 1, "anomalies of the reference were scored before"
    assert plane.explainer is not None


async def test_a_model_that_cannot_be_warmed_up_serves_all_the_same():
    model = Counting()
    contract = Contract(model="m", version="1", features=model.features)
    plane = DataPlane(Model(scorer=model, bundle=None, contract=contract), boot_id="b" * 16, timeout=30)
    await warm_up(plane)
    assert model.asked == [1]
    answer = await plane.answer(Query(rows=training_rows()[:2, :1]))
    assert len(answer.scores) == 2


async def test_a_pod_whose_artifact_nobody_brought_says_what_to_do(stored):
    settings, flat = stored
    shutil.rmtree(flat.parent)
    with pytest.raises(UnavailableError, match="run `fetch`"):
        await load(settings, Config(), "b" * 16)

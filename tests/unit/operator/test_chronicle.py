import asyncio
import json
from types import SimpleNamespace

import pytest

from anomaly_operator.adapters.metrics import Metrics
from anomaly_operator.domain.records import Evidence, HistoryEntry
from anomaly_operator.runtime.background import Background
from anomaly_operator.runtime.chronicle import Chronicle

URI = "http://registry"
SPEC = SimpleNamespace(model=SimpleNamespace(tracking_uri=None, name="m"))
VIEW = SimpleNamespace(desired=SimpleNamespace(spec=SPEC))


class TagStore:
    """A registry in memory that keeps tags."""

    def __init__(self):
        self.tags = {}
        self.tagged = asyncio.Event()

    async def set_version_tag(self, uri, name, version, key, value):
        self.tags[uri, name, version, key] = value
        self.tagged.set()


@pytest.mark.parametrize("words", [10, 600, 6000])
async def test_a_version_s_tag_is_json_with_the_hash_however_long_the_words_are(words):
    store, background = TagStore(), Background()
    chronicle = Chronicle(store, background, Metrics(), allowed=(URI,), default_uri=URI)
    evidence = tuple(Evidence(metric="errorRate", value=0.5, limit=0.01, text="x" * words) for _ in range(20))
    entry = HistoryEntry(
        revision="r", version="3", outcome="Aborted", reason="ErrorRateExceeded", message="y" * words,
        evidence=evidence, ended_at=1.0, hash="0123",
    )  # fmt: skip
    chronicle.publish(("ns", "am"), VIEW, entry)
    await store.tagged.wait()
    value = store.tags[URI, "m", "3", "anomalymodel.dev/history.ns.am"]
    assert len(value) <= 5000
    assert json.loads(value)["hash"] == "0123"
    assert json.loads(value)["reason"] == "ErrorRateExceeded"
    await background.stop()

"""What the registry is told of decisions and retrainings, however often it is away."""

import asyncio
import json
from types import SimpleNamespace

import pytest

from anomaly_operator.adapters.metrics import Metrics
from anomaly_operator.adapters.registry import RegistryError
from anomaly_operator.domain import history, registry_tags
from anomaly_operator.domain.records import HistoryEntry, Retraining, Status
from anomaly_operator.runtime.background import Background
from anomaly_operator.runtime.chronicle import Chronicle
from anomaly_operator.runtime.memory import Memory
from anomaly_operator.runtime.workqueue import Priority, WorkQueue

URI, KEY = "http://registry", ("ns", "am")


class TagStore:
    """A registry in memory: versions 1 and 2 of one model."""

    def __init__(self):
        self.runs = {"1": "run-1", "2": "run-2"}
        self.tags = {"1": {}, "2": {}}
        self.model_tags = {}
        self.problem = None

    async def version_tags(self, _uri, _name, version):
        self._answer(version)
        return dict(self.tags[version]), self.runs[version]

    async def set_version_tag(self, _uri, _name, version, key, value):
        self._answer(version)
        self.tags[version][key] = value

    async def set_model_tag(self, _uri, _name, key, value):
        self._answer()
        self.model_tags[key] = value

    def _answer(self, version="1"):
        if self.problem or version not in self.tags:
            raise RegistryError(self.problem or "NotFound", "no")

    def decisions(self, version):
        return [json.loads(text)["outcome"] for text in self.tags[version].values()]


class Kept:
    """A chronicle with one model that it keeps."""

    def __init__(self):
        self.store, self.background, self.queue = TagStore(), Background(), WorkQueue()
        self.chronicle = Chronicle(
            self.store, self.background, self.queue, Metrics(), allowed=(URI,), default_uri=URI + "/"
        )
        self.memory, self.status = Memory("uid-1"), Status()

    def decide(self, version, outcome="Promoted", *, run="", at=1.0):
        entry = HistoryEntry(
            revision=f"r{version}", version=version, run_id=run, outcome=outcome, reason="Why", ended_at=at
        )
        self.status = history.add(self.status, entry, limit=10)

    async def look(self):
        """Look at the model; returns when the registry has been told, or was not there."""
        spec = SimpleNamespace(model=SimpleNamespace(tracking_uri=None, name="m"))
        observed = SimpleNamespace(status=self.status, deleting=False)
        view = SimpleNamespace(
            observed=observed, desired=SimpleNamespace(spec=spec, unreachable=None), memory=self.memory
        )
        self.chronicle.keep(KEY, view)
        await asyncio.gather(*self.background._tasks.values())


@pytest.fixture
async def kept():
    one = Kept()
    yield one
    await one.background.stop()


async def test_each_decision_is_a_tag_of_its_version(kept):
    kept.decide("1")
    kept.decide("2", at=2.0)
    kept.decide("2", "RolledBack", at=3.0)
    await kept.look()
    assert (kept.store.decisions("1"), sorted(kept.store.decisions("2"))) == (["Promoted"], ["Promoted", "RolledBack"])
    said = [json.loads(text) for text in kept.store.tags["2"].values()]
    assert {(one["namespace"], one["anomalyModel"], one["uid"]) for one in said} == {("ns", "am", "uid-1")}


async def test_what_was_decided_while_the_registry_was_away_is_told_when_it_is_back(kept):
    kept.store.problem = "Unreachable"
    kept.decide("1")
    await kept.look()
    again, _ = await kept.queue.get(only=Priority.ROUTINE)
    assert again == KEY
    assert kept.store.tags["1"] == {}
    kept.decide("2", at=2.0)
    kept.store.problem = None
    await kept.look()
    assert (kept.store.decisions("1"), kept.store.decisions("2")) == (["Promoted"], ["Promoted"])


async def test_a_tag_that_somebody_changed_is_not_put_right(kept):
    kept.decide("1")
    await kept.look()
    (tag,) = kept.store.tags["1"]
    kept.store.tags["1"][tag] = "something else"
    kept.memory = Memory("uid-1")  # as after a restart
    await kept.look()
    assert kept.store.tags["1"] == {tag: "something else"}


@pytest.mark.parametrize("problem", ["Forbidden", "NotFound"])
async def test_a_registry_that_refuses_is_not_asked_at_every_look(kept, problem):
    kept.store.problem = problem
    kept.decide("1")
    await kept.look()
    kept.store.problem = None
    await kept.look()
    assert kept.store.tags["1"] == {}


async def test_a_version_of_another_model_that_bears_the_number_is_left_alone(kept):
    kept.decide("1", run="run-of-another-model")
    kept.decide("2", run="run-2", at=2.0)
    await kept.look()
    assert (kept.store.tags["1"], kept.store.decisions("2")) == ({}, ["Promoted"])


async def test_retrainings_are_a_tag_of_the_model_that_is_kept_current(kept):
    for outcome in ("Running", "Failed"):
        kept.status = Status(
            retrainings=(Retraining(job="j", trigger="Drift", started_at=1.0, outcome=outcome, message="no rows"),)
        )
        await kept.look()
        (told,) = json.loads(kept.store.model_tags[registry_tags.retrainings_key(*KEY)])
        assert (told["job"], told["outcome"]) == ("j", outcome)

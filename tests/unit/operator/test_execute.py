"""What is carried out when an object of a name of ours is there already."""

from types import SimpleNamespace

import pytest

from anomaly_operator.adapters.kube import ConflictError, InvalidError
from anomaly_operator.adapters.metrics import Metrics
from anomaly_operator.domain.actions import CreateRevision, StartJob
from anomaly_operator.runtime.cache import Cache
from anomaly_operator.runtime.execute import Executor

VIEW = SimpleNamespace(observed=SimpleNamespace(uid="ours"))


class Fence:
    def holds(self):
        return True

    def seconds_left(self):
        return 5.0


class Taken:
    """An API server where the name is taken; notes what is written."""

    def __init__(self, body, owner):
        owners = [{"uid": owner, "controller": True}] if owner else []
        metadata = body["metadata"] | {"uid": "u", "resourceVersion": "7", "ownerReferences": owners}
        self.body, self.written = body | {"metadata": metadata}, []

    async def create(self, kind, *_, **__):
        if kind == self.body["kind"]:
            raise ConflictError("exists", status=409, reason="AlreadyExists")
        self.written.append(kind)
        return self.body

    async def get(self, *_, **__):
        return self.body

    async def merge_patch(self, kind, *_, **__):
        self.written.append(kind)
        return self.body


def manifest(kind):
    return {"kind": kind, "metadata": {"name": "cpu-watch-1", "namespace": "ns", "labels": {"l": "v"}}}


ACTIONS = [
    CreateRevision(manifest=manifest("ControllerRevision")),
    StartJob(manifest=manifest("Job"), pods=(("p", "u", "i"),)),
]


def executor(kube):
    prober = SimpleNamespace(windows=lambda _: "{}")
    return Executor(kube, Cache(), prober, None, None, Metrics(), fence=Fence(), identity="one")


@pytest.mark.parametrize("action", ACTIONS, ids=["a revision", "a Job"])
@pytest.mark.parametrize("owner", ["theirs", None])
async def test_an_object_of_somebody_else_is_named_and_left_alone(action, owner):
    kube = Taken(action.manifest, owner)
    with pytest.raises(InvalidError, match="cpu-watch-1 belongs to somebody else"):
        await executor(kube).execute(("ns", "cpu-watch"), VIEW, action, 0.0)
    assert kube.written == []


async def test_a_job_of_ours_that_was_left_suspended_is_given_its_secret_and_begins():
    kube = Taken(ACTIONS[1].manifest, "ours")
    await executor(kube).execute(("ns", "cpu-watch"), VIEW, ACTIONS[1], 0.0)
    assert kube.written == ["Secret", "Job"]

import asyncio

import pytest

from anomaly_operator.adapters.metrics import Metrics
from anomaly_operator.domain.model import Resolved, Unresolved
from anomaly_operator.domain.spec import ModelSpec
from anomaly_operator.runtime.memory import Memory
from anomaly_operator.runtime.resolving import Resolver
from anomaly_operator.runtime.workqueue import WorkQueue

pytestmark = pytest.mark.looptime

KEY = ("ns", "m")
URI = "http://registry"
MODEL = ModelSpec(name="m", alias="champion", poll_interval=30.0)


class ScriptedRegistry:
    """A registry in memory: answers what it is told to, after as long as it is told to."""

    def __init__(self):
        self.answer = resolved("1")
        self.seconds = 0.0
        self.asked = []

    async def resolve(self, *_):
        self.asked.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.seconds)
        return self.answer


def resolved(version):
    return Resolved(reference="alias champion", model="m", version=version)


def unresolved(reason):
    return Unresolved(reference="alias champion", model="m", reason=reason, message="words")


@pytest.fixture
def registry():
    return ScriptedRegistry()


@pytest.fixture
async def resolver(registry):
    queue = WorkQueue()
    one = Resolver(registry, queue, Metrics(), allowed=(URI,), default_uri=URI)
    one.queue = queue
    yield one
    one.pause()


async def looked_at(resolver):
    key, _ = await resolver.queue.get()
    resolver.queue.done(key)
    return key


async def test_a_new_model_is_asked_for_at_once_and_then_at_its_interval(resolver, registry):
    resolver.want(KEY, MODEL, "", Memory("u"))
    await asyncio.sleep(100)
    assert registry.asked[0] == 0
    gaps = [b - a for a, b in zip(registry.asked, registry.asked[1:], strict=False)]
    assert len(gaps) == 3
    assert all(27 <= gap <= 33 for gap in gaps)


async def test_an_answer_that_changes_has_the_model_looked_at_and_one_that_does_not_has_not(resolver, registry):
    memory = Memory("u")
    resolver.want(KEY, MODEL, "", memory)
    assert await looked_at(resolver) == KEY
    assert memory.resolution == resolved("1")
    await asyncio.sleep(100)
    assert resolver.queue.depth() == 0
    registry.answer = resolved("2")
    await looked_at(resolver)
    assert memory.resolution == resolved("2")


async def test_a_webhook_is_followed_at_once_also_while_an_older_question_is_open(resolver, registry):
    memory = Memory("u")
    registry.seconds = 3.0
    resolver.want(KEY, MODEL, "", memory)
    await asyncio.sleep(1)
    resolver.want(KEY, MODEL, "stamped", memory)
    await asyncio.sleep(10)
    assert registry.asked == [0, 3]


async def test_a_registry_that_is_down_leaves_the_last_answer_in_force_and_says_so(resolver, registry):
    memory = Memory("u")
    resolver.want(KEY, MODEL, "", memory)
    await looked_at(resolver)
    registry.answer = unresolved("Unreachable")
    await looked_at(resolver)
    assert (memory.resolution, memory.unreachable) == (resolved("1"), "words")
    registry.answer = resolved("1")
    await looked_at(resolver)
    assert memory.unreachable is None


async def test_an_alias_that_is_gone_is_told(resolver, registry):
    memory = Memory("u")
    resolver.want(KEY, MODEL, "", memory)
    await looked_at(resolver)
    registry.answer = unresolved("NotFound")
    await looked_at(resolver)
    assert memory.resolution == unresolved("NotFound")


async def test_an_answer_to_an_earlier_question_is_not_taken_for_one_to_the_present(resolver, registry):
    memory = Memory("u")
    registry.seconds = 5.0
    resolver.want(KEY, MODEL, "", memory)
    await asyncio.sleep(1)
    resolver.want(KEY, ModelSpec(name="m", version="7"), "", memory)
    await asyncio.sleep(4.5)
    assert memory.resolution is None


async def test_only_listed_registries_are_asked(resolver, registry):
    memory = Memory("u")
    resolver.want(KEY, ModelSpec(name="m", alias="champion", tracking_uri="http://elsewhere"), "", memory)
    await looked_at(resolver)
    assert memory.resolution.reason == "NotAllowed"
    assert "http://elsewhere" in memory.resolution.message
    assert registry.asked == []


async def test_a_model_that_is_forgotten_or_a_replica_that_no_longer_leads_asks_no_more(resolver, registry):
    resolver.want(KEY, MODEL, "", Memory("u"))
    await asyncio.sleep(1)
    resolver.pause()
    await asyncio.sleep(100)
    assert len(registry.asked) == 1


async def test_one_registry_that_hangs_does_not_keep_others_from_being_asked(resolver, registry):
    registry.seconds = 5.0
    for n in range(40):
        resolver.want(("ns", f"m{n}"), ModelSpec(name=f"m{n}", alias="champion"), "", Memory("u"))
    await asyncio.sleep(15.5)
    assert len(registry.asked) == 40


async def test_models_that_follow_the_same_ask_once_for_all_and_all_hear_of_a_change(resolver, registry):
    memories = {("ns", f"m{n}"): Memory("u") for n in range(50)}
    registry.seconds = 1.0
    for key, memory in memories.items():
        resolver.want(key, MODEL, "", memory)
    await asyncio.sleep(10)
    assert registry.asked == [0, 1]  # the second for those that came while the first was under way
    registry.seconds = 0
    late = Memory("u")
    resolver.want(("ns", "late"), MODEL, "", late)
    await asyncio.sleep(0.5)
    assert registry.asked == [0, 1, 10]
    resolver.want(("ns", "later"), MODEL, "", memory := Memory("u"))
    assert (memory.resolution, len(registry.asked)) == (late.resolution, 3)
    registry.answer = resolved("2")
    await asyncio.sleep(33)
    assert len(registry.asked) == 4
    assert {memory.resolution.version for memory in memories.values()} == {"2"}
    assert resolver.queue.depth() == 52


async def test_a_model_that_is_forgotten_leaves_the_others_that_follow_the_same_asking(resolver, registry):
    first, second = Memory("u"), Memory("v")
    resolver.want(KEY, MODEL, "", first)
    resolver.want(("ns", "other"), MODEL, "", second)
    await asyncio.sleep(10)
    resolver.forget(KEY)
    registry.answer = resolved("2")
    await asyncio.sleep(40)
    assert (first.resolution, second.resolution) == (resolved("1"), resolved("2"))

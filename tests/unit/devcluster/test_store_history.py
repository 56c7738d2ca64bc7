"""Whatever the interleaving of writes and reads, each watcher sees a gap-free, ordered history."""

import asyncio

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_devcluster.api.authentication import ADMIN
from anomaly_devcluster.api.call import Call
from anomaly_devcluster.api.resources import Catalog
from anomaly_devcluster.api.watching import Watch
from anomaly_devcluster.store import CompactedError, ConflictError, Store

MAPS = Catalog().find("", "v1", "configmaps")
NAMES = ("a", "b", "c")


def body(name, label):
    return {"metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"w": label}}}


def write(store, name, label):
    """Create, replace or (label None) delete an object."""
    current = store.get("configmaps", ("ns", name))
    if label is not None:
        store.put("configmaps", ("ns", name), body(name, label), current)
    elif current is not None:
        store.delete("configmaps", current)


def watch(store, **query):
    call = Call(user=ADMIN, verb="watch", resource=MAPS, namespace="ns", query={"timeoutSeconds": "60", **query})
    return Watch(store, call)


class Follower:
    """A client that keeps what a watch tells it."""

    def __init__(self, store, **query):
        self._lines = watch(store, **query).lines()
        self._pending = None
        self.events = []

    async def read(self):
        """Take in everything that is there now."""
        while True:
            self._pending = self._pending or asyncio.ensure_future(anext(self._lines))
            for _ in range(4):  # the generator needs a turn or two of the loop, never the clock
                await asyncio.sleep(0)
            if not self._pending.done():
                return
            self.events += [orjson.loads(line) for line in self._pending.result().splitlines()]
            self._pending = None

    async def close(self):
        """Stop following."""
        if self._pending:
            self._pending.cancel()
            await asyncio.gather(self._pending, return_exceptions=True)
        await self._lines.aclose()

    def state(self):
        """Return the objects that the events leave, checking that each follows from the one before."""
        objects = {}
        revision = 0
        for event in self.events:
            metadata = event["object"]["metadata"]
            name = metadata["name"]
            assert (name in objects) == (event["type"] != "ADDED"), "an addition comes first, and only first"
            assert int(metadata["resourceVersion"]) > revision, "revisions grow"
            revision = int(metadata["resourceVersion"])
            if event["type"] == "DELETED":
                del objects[name]
            else:
                objects[name] = metadata["labels"]["w"]
        return objects


WRITE = st.tuples(st.sampled_from(NAMES), st.sampled_from(["0", "1", None]))
STEPS = st.lists(st.one_of(WRITE, st.sampled_from(["start", "read"])), min_size=1, max_size=40)


@settings(max_examples=150)
@given(steps=STEPS, selected=st.booleans())
def test_any_interleaving_of_writes_and_reads_leaves_each_watcher_with_the_truth(steps, selected):
    async def play():
        store = Store()
        query = {"labelSelector": "w=1"} if selected else {}
        followers = []
        for step in steps:
            if step == "start":
                # As a client does: a list, then a watch from the list's revision.
                follower = Follower(store, resourceVersion=str(store.revision), **query)
                entries = store.entries("configmaps")
                shown = [e.body for e in entries if not selected or e.body["metadata"]["labels"]["w"] == "1"]
                shown.sort(key=lambda b: int(b["metadata"]["resourceVersion"]))
                follower.events = [{"type": "ADDED", "object": shown_body} for shown_body in shown]
                followers.append(follower)
            elif step == "read":
                for follower in followers[:1]:
                    await follower.read()
            else:
                write(store, *step)
        truth = {
            e.key[1]: e.body["metadata"]["labels"]["w"]
            for e in store.entries("configmaps")
            if not selected or e.body["metadata"]["labels"]["w"] == "1"
        }
        for follower in followers:
            await follower.read()
            assert follower.state() == truth
            await follower.close()

    asyncio.run(play())


@settings(max_examples=50)
@given(writes=st.lists(WRITE, min_size=1, max_size=30), limit=st.integers(1, 10))
def test_a_watch_past_the_history_is_told_so_and_loses_nothing_in_silence(writes, limit):
    store = Store(history=limit)
    for item in writes:
        write(store, *item)
    log = store.log("configmaps")
    for revision in range(store.revision + 1):
        try:
            events = log.since(revision)
        except CompactedError:
            assert revision < log.compacted
        else:
            assert [e.revision for e in events] == list(range(max(revision, 1) + 1, store.revision + 1))


def test_only_one_of_two_writes_based_on_the_same_state_wins():
    store = Store()
    first = store.put("configmaps", ("ns", "a"), body("a", "0"), None)
    store.put("configmaps", ("ns", "a"), body("a", "1"), first)
    with pytest.raises(ConflictError):
        store.put("configmaps", ("ns", "a"), body("a", "2"), first)
    with pytest.raises(ConflictError):
        store.delete("configmaps", first)


async def test_a_compaction_ends_a_watch_with_expired():
    store = Store()
    follower = Follower(store, resourceVersion=str(store.revision))
    write(store, "a", "1")
    store.compact()
    event = orjson.loads(await anext(follower._lines))
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


async def test_watchers_of_one_resource_share_the_bytes():
    store = Store()
    watches = [watch(store, resourceVersion=str(store.revision)).lines() for _ in range(2)]
    write(store, "a", "1")
    [one], [two] = [[await anext(lines)] for lines in watches]
    assert one == two
    event = store.log("configmaps").since(1)[0]
    assert len(event.lines) == 1

"""Two electors on one Lease."""

import asyncio
import contextlib
import dataclasses
import itertools
import urllib.parse

import pytest

from anomaly_operator.adapters.kube import Kube, NotFoundError
from anomaly_operator.adapters.lease import NAME, Elector

pytestmark = pytest.mark.e2e

SECONDS = 2


class Replica:
    """An elector that runs, and the moments at which its leadership changed."""

    def __init__(self, kube, namespace, name, seconds):
        self.changes = []
        self.led = asyncio.Event()
        self.lost = asyncio.Event()
        self.stop = asyncio.Event()
        self.elector = Elector(kube, namespace, name, seconds=seconds, on_change=self._changed)
        self.tasks = [asyncio.create_task(self.elector.run(self.stop)), asyncio.create_task(self.elector.watch_fence())]

    def _changed(self, leading):
        self.changes.append((asyncio.get_running_loop().time(), leading))
        (self.led if leading else self.lost).set()

    async def end(self):
        self.stop.set()
        await self.tasks[0]

    async def die(self):
        for task in self.tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture
async def replica(kube, namespace):
    made = []

    def make(name, client=kube, seconds=SECONDS):
        made.append(Replica(client, namespace, name, seconds))
        return made[-1]

    yield make
    for one in made:
        await one.die()


async def test_one_of_two_leads_and_the_other_takes_over_when_it_is_released(replica, kube, namespace):
    first = replica("first", seconds=20)
    await first.led.wait()
    second = replica("second", seconds=20)
    lease = await kube.get("Lease", namespace, NAME)
    assert lease["spec"]["holderIdentity"] == "first"
    assert not second.elector.holds()
    await first.end()
    assert not first.elector.holds()
    await second.led.wait()
    assert second.elector.holds()
    # It did not wait for the end of the Lease.
    assert second.changes[0][0] - first.changes[-1][0] < 10


async def test_a_leader_that_dies_is_replaced_after_its_lease_and_not_before(replica):
    first = replica("first")
    await first.led.wait()
    second = replica("second")
    died = asyncio.get_running_loop().time()
    await first.die()
    await second.led.wait()
    fenced = first.elector._held_until
    assert second.changes[0][0] > fenced
    assert second.changes[0][0] - died < 10


class Cable:
    """A TCP connection to the API server that can be cut: from then on no byte passes, and no end either."""

    def __init__(self, server):
        self._target = urllib.parse.urlsplit(server)
        self._open = asyncio.Event()
        self._open.set()
        self._tasks = []

    async def __aenter__(self):
        self._listener = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return f"https://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *exception):
        self._listener.close()
        for task in self._tasks:
            task.cancel()

    def cut(self):
        self._open.clear()

    async def _connected(self, reader, writer):
        other_reader, other_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._tasks += [
            asyncio.create_task(self._pass(reader, other_writer)),
            asyncio.create_task(self._pass(other_reader, writer)),
        ]

    async def _pass(self, reader, writer):
        while data := await reader.read(65536):
            await self._open.wait()
            writer.write(data)
        writer.close()


async def test_a_leader_that_cannot_reach_the_api_server_is_fenced_before_another_leads(replica, kubeconfig):
    cable = Cable(kubeconfig.server)
    async with cable as server, Kube(dataclasses.replace(kubeconfig, server=server)) as own:
        first = replica("first", own)
        await first.led.wait()
        second = replica("second")
        cable.cut()
        await first.lost.wait()
        assert not first.elector.holds()
        await second.led.wait()
        assert second.changes[0][0] > first.changes[-1][0]
        await first.die()


async def test_never_do_two_lead_at_the_same_time(replica):
    replicas = [replica(name) for name in ("a", "b", "c")]
    overlaps = []

    async def observe():
        while True:
            holding = [r for r in replicas if r.elector.holds()]
            if len(holding) > 1:
                overlaps.append(holding)
            await asyncio.sleep(0.005)

    observing = asyncio.create_task(observe())
    for _ in range(2):
        await asyncio.wait([asyncio.create_task(r.led.wait()) for r in replicas], return_when=asyncio.FIRST_COMPLETED)
        leader = next(r for r in replicas if r.led.is_set())
        replicas.remove(leader)
        await leader.end()
    await replicas[0].led.wait()
    observing.cancel()
    assert overlaps == []
    spans = sorted(at for r in replicas for at, _ in r.changes)
    assert all(a <= b for a, b in itertools.pairwise(spans))


async def test_a_leader_of_which_a_part_died_gives_the_lease_back(replica, kube, namespace):
    first = replica("first", seconds=20)
    await first.led.wait()
    await first.die()
    await first.elector.release()
    assert not first.elector.holds()
    assert (await kube.get("Lease", namespace, NAME))["spec"]["holderIdentity"] == ""


async def test_a_lease_is_made_where_there_is_none(kube, namespace, replica):
    with pytest.raises(NotFoundError):
        await kube.get("Lease", namespace, NAME)
    await replica("only").led.wait()
    assert (await kube.get("Lease", namespace, NAME))["spec"]["leaseTransitions"] == 1

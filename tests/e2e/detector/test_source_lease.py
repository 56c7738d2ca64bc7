"""The Lease of a model's points at an API server, under the chart's role and admission policy."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from tests.plugins.detector_pod import until
from tests.plugins.installed_chart import ACCOUNT, RefusedError, call, mount_account

from anomaly_detector.kube import ApiServer
from anomaly_detector.source.lease import SourceLease
from anomaly_detector.source.rows import SECOND

pytestmark = pytest.mark.e2e

NAMESPACE = "points"
MODEL = "cpu-watch"
MODELS = f"/apis/anomalymodel.dev/v1alpha1/namespaces/{NAMESPACE}/anomalymodels"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{MODEL}-source"
START = 1_800_000_000 * SECOND + 7


@pytest.fixture(scope="module")
def admin(installed):
    installed.admit_detectors(NAMESPACE)
    return installed.admin()


@pytest.fixture
async def uid(installed, admin):
    """The UID of a model that is there for the test, and goes with its Lease."""
    with installed.model(NAMESPACE) as made:
        yield made
    await until(lambda: gone(admin), "the Lease is gone")


async def gone(admin):
    try:
        await asyncio.to_thread(call, admin, "GET", LEASE)
    except RefusedError as refused:
        return refused.code == 404
    return False


class Pod:
    """What a pod has to do with the Lease."""

    def __init__(self, api, name, uid, seconds):
        self.active = True
        self.lease = SourceLease(
            api, namespace=NAMESPACE, model=MODEL, pod=name, boot_id=f"boot-{name}", owner_uid=lambda: uid,
            wanted=lambda: self.active, seconds=seconds,
        )  # fmt: skip
        self.task = None

    def start(self):
        self.task = asyncio.create_task(self.lease.run())

    async def holds(self):
        return self.lease.holds()

    async def end(self):
        """End as a pod does that is asked to."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
async def pods(installed, admin, uid, tmp_path):
    """Return a context in which a pod looks for the Lease."""
    del admin
    api = ApiServer(installed.cluster.server, mount_account(installed.user(NAMESPACE, ACCOUNT), tmp_path))

    @asynccontextmanager
    async def started(name, seconds=3.0):
        pod = Pod(api, name, uid, seconds)
        pod.start()
        try:
            yield pod
        finally:
            await pod.end()

    yield started
    await api.close()


async def test_one_pod_holds_it_and_gives_it_back_with_the_position_when_it_ends(pods, admin, uid):
    async with pods("one") as one, pods("two") as two:

        async def held():
            return one.lease.holds() or two.lease.holds()

        await until(held, "a pod holds the Lease")
        holder, other = (one, two) if one.lease.holds() else (two, one)
        assert holder.lease.position is None
        assert await holder.lease.advance(START)
        assert not other.lease.holds()
        (owner,) = call(admin, "GET", LEASE)["metadata"]["ownerReferences"]
        assert owner["uid"] == uid
        await holder.end()
        await until(other.holds, "the other pod holds the Lease")
        assert other.lease.position == START
        assert not await holder.lease.advance(START + 1)


async def test_a_pod_that_is_no_longer_active_lets_go(pods):
    async with pods("one") as one:
        await until(one.holds, "it holds the Lease")
        async with pods("two") as two:
            one.active = False
            assert not one.lease.holds()
            await until(two.holds, "the pod that is active holds the Lease")


async def test_a_pod_that_died_is_followed_when_its_time_is_over_and_not_before(pods):
    async with pods("one") as one:
        await until(one.holds, "it holds the Lease")
        assert await one.lease.advance(START)
        one.task.cancel()
        one.lease.release = lambda: asyncio.sleep(0)  # it dies: nothing is given back
        await asyncio.gather(one.task, return_exceptions=True)
        overlap = []

        async def follows():
            overlap.append(one.lease.holds() and two.lease.holds())
            return two.lease.holds()

        async with pods("two") as two:
            await until(follows, "the other pod follows")
            assert two.lease.position == START
            assert not any(overlap)


async def test_a_change_by_somebody_else_costs_the_holder_a_moment_and_not_the_position(pods, admin):
    async with pods("one") as one:
        await until(one.holds, "it holds the Lease")
        assert await one.lease.advance(START)
        patch = {"metadata": {"labels": {"example.com/team": "platform"}}}
        call(admin, "PATCH", LEASE, patch, media="application/merge-patch+json")
        assert not await one.lease.advance(START + SECOND)
        await until(one.holds, "it holds the Lease again")
        assert one.lease.position == START
        assert await one.lease.advance(START + SECOND)
        assert call(admin, "GET", LEASE)["metadata"]["labels"]["example.com/team"] == "platform"


async def test_a_lease_that_was_deleted_begins_anew(pods, admin):
    async with pods("one") as one:
        await until(one.holds, "it holds the Lease")
        assert await one.lease.advance(START)
        call(admin, "DELETE", LEASE)

        async def anew():
            return one.lease.holds() and one.lease.position is None

        await until(anew, "it holds a new Lease")


async def test_it_goes_with_its_model(pods, admin, uid):
    del uid
    async with pods("one") as one:
        await until(one.holds, "it holds the Lease")
    call(admin, "DELETE", f"{MODELS}/{MODEL}")
    await until(lambda: gone(admin), "the Lease is gone")
    body = {"apiVersion": "anomalymodel.dev/v1alpha1", "kind": "AnomalyModel", "metadata": {"name": MODEL}}
    call(admin, "POST", MODELS, body | {"spec": {"model": {"name": "m", "alias": "champion"}}})

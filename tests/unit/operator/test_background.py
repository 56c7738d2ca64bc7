"""Work beside the queue."""

import asyncio

import pytest

from anomaly_operator.runtime.background import CONCURRENT, Background


@pytest.fixture
async def background():
    one = Background(limit=2 * CONCURRENT)
    yield one
    await one.stop()


@pytest.mark.parametrize("sort", ["event", "chronicle"])
async def test_pods_are_told_their_roles_while_other_work_waits(background, sort):
    told, never = asyncio.Event(), asyncio.Event()

    async def hang():
        await never.wait()

    async def tell():
        told.set()

    assert all(background.start((sort, n), hang()) for n in range(CONCURRENT + 1))
    assert background.start(("role", "pod"), tell())
    await told.wait()


async def test_one_name_is_worked_on_once_and_what_is_too_much_is_dropped_and_counted(background):
    never = asyncio.Event()

    async def hang():
        await never.wait()

    assert background.start(("role", 0), hang())
    assert not background.start(("role", 0), hang())
    assert background.dropped == 0
    assert all(background.start(("role", n), hang()) for n in range(1, 2 * CONCURRENT))
    assert not background.start(("role", -1), hang())
    assert background.dropped == 1

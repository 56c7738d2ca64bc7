import asyncio
import contextlib
import itertools
from collections import Counter

import looptime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_operator.runtime.workqueue import LONGEST_DELAY, Priority, WorkQueue

A, B, C = ("ns", "a"), ("ns", "b"), ("ns", "c")

pytestmark = pytest.mark.looptime


def now():
    return asyncio.get_running_loop().time()


async def take(queue, **more):
    return (await queue.get(**more))[0]


async def test_a_key_that_is_added_twice_is_handed_out_once():
    queue = WorkQueue()
    queue.add(A)
    queue.add(A)
    assert await take(queue) == A
    assert queue.depth() == 0


async def test_the_most_urgent_key_comes_first():
    queue = WorkQueue()
    queue.add(A, priority=Priority.ROUTINE)
    queue.add(B)
    queue.add(C, priority=Priority.URGENT)
    assert [await take(queue) for _ in range(3)] == [C, B, A]


async def test_a_key_that_waits_becomes_urgent_when_asked_for_urgently():
    queue = WorkQueue()
    queue.add(A, priority=Priority.ROUTINE)
    queue.add(B)
    queue.add(A, priority=Priority.URGENT)
    assert [await take(queue), await take(queue)] == [A, B]
    assert queue.depth() == 0


async def test_a_delayed_key_is_handed_out_when_it_is_due():
    queue = WorkQueue()
    queue.add(A, delay=30)
    assert await take(queue) == A
    assert now() == 30


async def test_the_earliest_of_several_times_counts():
    queue = WorkQueue()
    queue.add(A, delay=30)
    queue.add(A, delay=5)
    queue.add(A, delay=60)
    assert await take(queue) == A
    assert now() == 5


async def test_a_key_is_never_worked_on_twice_at_the_same_time():
    queue = WorkQueue()
    queue.add(A)
    await queue.get()
    queue.add(A, priority=Priority.URGENT)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10):
            await queue.get()
    queue.done(A)
    assert await take(queue) == A


async def test_an_urgent_request_for_a_key_in_work_can_be_seen():
    queue = WorkQueue()
    queue.add(A)
    await queue.get()
    assert not queue.urgent(A)
    queue.add(A, delay=5)
    assert not queue.urgent(A)
    queue.add(A, priority=Priority.URGENT)
    assert queue.urgent(A)


async def test_a_worker_for_urgent_keys_leaves_the_others():
    queue = WorkQueue()
    queue.add(A)
    waiting = asyncio.create_task(queue.get(only=Priority.URGENT))
    await asyncio.sleep(1)
    assert not waiting.done()
    queue.add(B, priority=Priority.URGENT)
    assert (await waiting)[0] == B
    assert await take(queue) == A


async def test_failures_are_retried_later_each_time_up_to_a_limit():
    queue = WorkQueue(jitter=lambda delay: delay)
    delays = [queue.retry(A) for _ in range(12)]
    assert delays[:4] == [0.2, 0.4, 0.8, 1.6]
    assert delays == sorted(delays)
    assert delays[-1] == LONGEST_DELAY


async def test_after_a_success_the_back_off_begins_anew():
    queue = WorkQueue(jitter=lambda delay: delay)
    queue.retry(A)
    queue.retry(A)
    queue.succeeded(A)
    assert queue.retry(A) == 0.2


async def test_a_server_that_says_when_to_come_back_is_heeded():
    queue = WorkQueue(jitter=lambda delay: delay)
    assert queue.retry(A, at_least=7) == 7


async def test_a_forgotten_key_is_not_handed_out():
    queue = WorkQueue()
    queue.add(A)
    queue.add(B, delay=1)
    queue.forget(A)
    assert await take(queue) == B


async def test_the_wait_of_the_oldest_key_is_known():
    queue = WorkQueue()
    queue.add(A, delay=3)
    queue.add(B)
    await asyncio.sleep(5)
    assert queue.depth() == 2
    assert queue.longest_wait() == 5
    assert await queue.get() == (B, 0)
    assert await queue.get() == (A, 3)


@given(
    st.lists(
        st.tuples(st.sampled_from([A, B, C]), st.sampled_from(list(Priority)), st.sampled_from([0, 0, 1, 5])),
        max_size=30,
    )
)
def test_every_key_that_was_asked_for_is_worked_on_and_none_twice_at_once(requests):
    async def scenario():
        queue = WorkQueue()
        last_asked, last_seen, working, moments = {}, {}, Counter(), itertools.count()

        async def worker():
            while True:
                key, _ = await queue.get()
                working[key] += 1
                assert working[key] == 1
                last_seen[key] = next(moments)
                await asyncio.sleep(0.001)
                working[key] -= 1
                queue.done(key)

        workers = [asyncio.create_task(worker()) for _ in range(3)]
        for key, priority, delay in requests:
            queue.add(key, priority=priority, delay=delay / 1000)
            last_asked[key] = next(moments)
            if delay:
                await asyncio.sleep(0)
        await asyncio.sleep(60)
        for task in workers:
            assert not task.done()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        assert queue.depth() == 0
        assert all(last_seen[key] > asked for key, asked in last_asked.items())

    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        runner.run(scenario())

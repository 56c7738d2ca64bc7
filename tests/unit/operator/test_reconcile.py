"""Workers share the loop with everything else: looks of routine never keep it for more than one look."""

import asyncio

from anomaly_operator.adapters.metrics import Metrics
from anomaly_operator.runtime.cache import Cache
from anomaly_operator.runtime.reconcile import WORKERS, Reconciler
from anomaly_operator.runtime.workqueue import Priority, WorkQueue


class Fence:
    def holds(self):
        return True


class Rounds:
    """Counts the rounds of the loop, and notes in which of them each model is looked at. Knows no model."""

    def __init__(self):
        self.now, self.looks = 0, {}
        self.ten, self.all = asyncio.Event(), asyncio.Event()
        self._next()

    def _next(self):
        self.now += 1
        self._handle = asyncio.get_running_loop().call_soon(self._next)

    def stop(self):
        self._handle.cancel()

    def view(self, key, *_):
        self.looks[key] = self.now
        if len(self.looks) == 10:
            self.ten.set()
        if len(self.looks) == 51:
            self.all.set()

    def forget(self, key):
        pass


async def test_looks_of_routine_leave_the_loop_a_round_each_and_urgent_ones_do_not_wait_for_them():
    queue, rounds = WorkQueue(), Rounds()
    reconciler = Reconciler(
        None, queue, Cache(), rounds, executor=None, resolver=rounds, metrics=Metrics(), fence=Fence()
    )
    workers = [asyncio.create_task(reconciler.work()) for _ in range(WORKERS)]
    workers.append(asyncio.create_task(reconciler.work(Priority.URGENT)))
    reconciler.lead(leading=True)
    for n in range(50):
        queue.add(("ns", f"m{n}"), priority=Priority.ROUTINE)
    await rounds.ten.wait()
    queue.add(("ns", "urgent"), priority=Priority.URGENT)
    asked = rounds.now
    await rounds.all.wait()
    rounds.stop()
    for worker in workers:
        worker.cancel()
    urgent = rounds.looks.pop(("ns", "urgent"))
    assert urgent - asked <= 3
    assert len(set(rounds.looks.values())) == 50

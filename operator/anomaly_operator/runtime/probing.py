"""Telling pods their roles and replaying reference rows at them, in the background; results go to the memory."""

import logging
import time
from collections.abc import Callable, Sequence

from anomaly_operator.adapters.probes import ProbeError, Probes, Target
from anomaly_operator.domain.actions import Replay, TellRole
from anomaly_operator.domain.model import ReplayResult, RoleOrder
from anomaly_operator.runtime.background import Background
from anomaly_operator.runtime.memory import Memory
from anomaly_operator.runtime.workqueue import Key, Priority, WorkQueue

log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds until a pod that could not be told its role is told again."""


class Prober:
    """Speak with pods without making the queue wait."""

    def __init__(self, probes: Probes, queue: WorkQueue, background: Background, fence: Callable[[], bool]) -> None:
        self._probes, self._queue, self._background, self._fence = probes, queue, background, fence

    def tell(self, key: Key, memory: Memory, action: TellRole, started_at: float | None) -> None:
        """Tell a pod its role; a success is remembered for this container only."""
        self._background.start(("role", action.uid), self._tell(key, memory, action, started_at))

    def replay(self, key: Key, memory: Memory, action: Replay) -> None:
        """Replay reference rows at pods; a pod where that runs is left alone."""
        results = memory.smoke_tests if action.purpose == "smoke" else memory.replays
        for name, uid, ip in action.pods:
            pod = Target(name, uid, ip)
            reference = Target(*action.reference) if action.reference else pod
            before = results.get(uid)
            work = self._replay(key, memory, action, pod, reference)
            if self._background.start((action.purpose, uid), work) and (before is None or before.done):
                results[uid] = ReplayResult(done=False, at=time.time())

    def windows(self, pods: Sequence[tuple[str, str, str]]) -> str:
        """Return what a training Job needs to read the rings of these pods (name, uid, ip), as JSON text."""
        return self._probes.windows([Target(*pod) for pod in pods])

    async def _tell(self, key: Key, memory: Memory, action: TellRole, started_at: float | None) -> None:
        if not self._fence():
            return
        order = RoleOrder(
            role=action.role,
            epoch=action.epoch,
            shadow_percent=action.shadow_percent,
            pass_through=action.pass_through,
        )
        try:
            await self._probes.tell_role(Target(action.pod, action.uid, action.ip), order)
        except ProbeError as error:
            # A pod that is starting does not listen yet; one that answers and refuses is worth a word.
            level = logging.WARNING if error.status else logging.DEBUG
            log.log(level, "a pod could not be told its role: %s", error, extra=_where(key))
            self._queue.add(key, priority=Priority.ROUTINE, delay=RETRY)
            return
        memory.acknowledged[action.uid, started_at] = order
        self._queue.add(key)

    async def _replay(self, key: Key, memory: Memory, action: Replay, pod: Target, reference: Target) -> None:
        result = await self._probes.replay(pod, reference, rows=action.rows, timeout=action.timeout)
        results = memory.smoke_tests if action.purpose == "smoke" else memory.replays
        results[pod.uid] = result
        if result.error:
            log.info("a replay was not carried out: %s", result.error, extra=_where(key))
        self._queue.add(key)


def _where(key: Key) -> dict[str, str]:
    return {"namespace": key[0], "model": key[1]}

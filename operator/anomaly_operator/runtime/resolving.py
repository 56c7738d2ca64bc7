"""Asking the registry which version a model names: at its poll interval, at once when something points to a change.

AnomalyModels whose `spec.model` is the same ask together: a thousand of them are one question every interval.
"""

import asyncio
import logging
import math
import random
from dataclasses import dataclass, field

from anomaly_operator.adapters.metrics import Metrics
from anomaly_operator.adapters.registry import Registry
from anomaly_operator.domain import revisions
from anomaly_operator.domain.model import Resolved, Unresolved
from anomaly_operator.domain.spec import ModelSpec
from anomaly_operator.runtime.memory import Memory
from anomaly_operator.runtime.workqueue import Key, WorkQueue

log = logging.getLogger(__name__)

CONCURRENT = 16
"""Questions at the same time, over all models."""
FRESH_SECONDS = 1.0
"""How old an answer to others may be that one who has only begun to ask takes: a new leader asks for all at once."""


@dataclass(slots=True)
class _Asker:
    """An AnomalyModel that wants to know."""

    nudge: str
    memory: Memory


@dataclass(slots=True)
class _Poll:
    """One question, and who wants to know the answer."""

    model: ModelSpec
    askers: dict[Key, _Asker] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None
    task: asyncio.Task[None] | None = None
    again: bool = False
    answer: Resolved | Unresolved | None = None
    """The newest."""
    asked_at: float = -math.inf
    """When it was asked for (loop time)."""


class Resolver:
    """Keep `Memory.resolution` of all models current."""

    def __init__(
        self,
        registry: Registry,
        queue: WorkQueue,
        metrics: Metrics,
        *,
        allowed: tuple[str, ...],
        default_uri: str,
    ) -> None:
        self._registry, self._queue, self._metrics = registry, queue, metrics
        self._allowed, self._default_uri = allowed, default_uri
        self._polls: dict[ModelSpec, _Poll] = {}
        self._asking: dict[Key, _Poll] = {}
        self._slots = asyncio.Semaphore(CONCURRENT)

    def want(self, key: Key, model: ModelSpec, nudge: str, memory: Memory) -> None:
        """Keep asking for the version that `model` names; at once if that is new, or `nudge` is another than before."""
        poll = self._asking.get(key)
        if poll is not None and poll.model == model and poll.askers[key].memory is memory:
            if poll.askers[key].nudge != nudge:
                poll.askers[key].nudge = nudge
                self._ask(poll)
            return
        self.forget(key)
        poll = self._asking[key] = self._polls.setdefault(model, _Poll(model))
        poll.askers[key] = _Asker(nudge, memory)
        if poll.answer is not None and asyncio.get_running_loop().time() - poll.asked_at <= FRESH_SECONDS:
            self._remember(key, memory, poll.answer)
        else:
            self._ask(poll)

    def forget(self, key: Key) -> None:
        """Stop asking for a model."""
        poll = self._asking.pop(key, None)
        if poll is None:
            return
        del poll.askers[key]
        if poll.askers:
            return
        del self._polls[poll.model]
        if poll.timer is not None:
            poll.timer.cancel()
        if poll.task is not None:
            poll.task.cancel()

    def pause(self) -> None:
        """Stop asking for all models, as a replica that does not lead."""
        for key in list(self._asking):
            self.forget(key)

    def _ask(self, poll: _Poll) -> None:
        if poll.timer is not None:
            poll.timer.cancel()
            poll.timer = None
        if poll.task is not None:
            poll.again = True
            return
        poll.task = asyncio.create_task(self._poll(poll))

    async def _poll(self, poll: _Poll) -> None:
        try:
            async with self._slots:
                asked_at = asyncio.get_running_loop().time()
                answer = await self._answer(poll.model)
            poll.answer, poll.asked_at = answer, asked_at
            for key, asker in poll.askers.items():
                self._remember(key, asker.memory, answer)
        finally:
            poll.task = None
            if poll.askers:
                self._schedule(poll)

    def _schedule(self, poll: _Poll) -> None:
        if poll.again:
            poll.again = False
            self._ask(poll)
            return
        delay = poll.model.poll_interval * random.uniform(0.9, 1.1)
        poll.timer = asyncio.get_running_loop().call_later(delay, self._ask, poll)

    async def _answer(self, model: ModelSpec) -> Resolved | Unresolved:
        uri, reference = (model.tracking_uri or self._default_uri).rstrip("/"), revisions.reference(model)
        if uri not in self._allowed:
            words = _not_allowed(uri, self._allowed)
            return Unresolved(reference=reference, model=model.name, reason="NotAllowed", message=words)
        answer = await self._registry.resolve(uri, model, reference)
        self._metrics.registry_requests.labels(answer.reason if isinstance(answer, Unresolved) else "Resolved").inc()
        return answer

    def _remember(self, key: Key, memory: Memory, answer: Resolved | Unresolved) -> None:
        before = (memory.resolution, memory.unreachable)
        known = memory.resolution
        silent = isinstance(answer, Unresolved) and answer.reason in ("Unreachable", "Forbidden")
        if (
            isinstance(answer, Unresolved)
            and silent
            and isinstance(known, Resolved)
            and (known.model, known.reference) == (answer.model, answer.reference)
        ):
            memory.unreachable = answer.message  # what it said before stays true until it says otherwise
        else:
            memory.resolution, memory.unreachable = answer, None
        if (memory.resolution, memory.unreachable) != before:
            log.info(
                "the registry answered: %s", memory.unreachable or answer, extra={"namespace": key[0], "model": key[1]}
            )
            self._queue.add(key)


def _not_allowed(uri: str, allowed: tuple[str, ...]) -> str:
    if not uri:
        return "spec.model.trackingUri is not set and the operator has no default: set it"
    return (
        f"spec.model.trackingUri {uri} is not one that the operator may ask ({', '.join(allowed) or 'none'}): use one"
        " of these, or have it added to registry.allowedTrackingUris of the chart"
    )

"""Asking the registry which version a model names: at its poll interval, at once when something points to a change."""

import asyncio
import logging
import random
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class _Question:
    model: ModelSpec
    reference: str
    nudge: str


@dataclass(slots=True)
class _Poll:
    question: _Question
    memory: Memory
    timer: asyncio.TimerHandle | None = None
    task: asyncio.Task[None] | None = None
    again: bool = False


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
        self._polls: dict[Key, _Poll] = {}
        self._slots = asyncio.Semaphore(CONCURRENT)

    def want(self, key: Key, model: ModelSpec, nudge: str, memory: Memory) -> None:
        """Keep asking for the version that `model` names; at once if that is new, or `nudge` is another than before."""
        question = _Question(model, revisions.reference(model), nudge)
        poll = self._polls.get(key)
        if poll is None or poll.memory is not memory:
            self.forget(key)
            poll = self._polls[key] = _Poll(question, memory)
            self._ask(key, poll)
        elif poll.question != question:
            poll.question = question
            self._ask(key, poll)

    def forget(self, key: Key) -> None:
        """Stop asking for a model."""
        poll = self._polls.pop(key, None)
        if poll is not None and poll.timer is not None:
            poll.timer.cancel()
        if poll is not None and poll.task is not None:
            poll.task.cancel()

    def pause(self) -> None:
        """Stop asking for all models, as a replica that does not lead."""
        for key in list(self._polls):
            self.forget(key)

    def _ask(self, key: Key, poll: _Poll) -> None:
        if poll.timer is not None:
            poll.timer.cancel()
            poll.timer = None
        if poll.task is not None:
            poll.again = True
            return
        poll.task = asyncio.create_task(self._poll(key, poll))

    async def _poll(self, key: Key, poll: _Poll) -> None:
        question = poll.question
        try:
            async with self._slots:
                answer = await self._answer(question)
            if self._polls.get(key) is poll and poll.question.model == question.model:
                self._remember(key, poll.memory, answer)
        finally:
            poll.task = None
            if self._polls.get(key) is poll:
                self._schedule(key, poll)

    def _schedule(self, key: Key, poll: _Poll) -> None:
        if poll.again:
            poll.again = False
            self._ask(key, poll)
            return
        delay = poll.question.model.poll_interval * random.uniform(0.9, 1.1)
        poll.timer = asyncio.get_running_loop().call_later(delay, self._ask, key, poll)

    async def _answer(self, question: _Question) -> Resolved | Unresolved:
        uri = (question.model.tracking_uri or self._default_uri).rstrip("/")
        if uri not in self._allowed:
            return Unresolved(
                reference=question.reference,
                model=question.model.name,
                reason="NotAllowed",
                message=_not_allowed(uri, self._allowed),
            )
        answer = await self._registry.resolve(uri, question.model, question.reference)
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

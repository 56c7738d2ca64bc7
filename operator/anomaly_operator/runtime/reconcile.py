"""One look at a model: get, guard, gather, ask, act, schedule."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator

from anomaly_operator.adapters.kube import ConflictError, ForbiddenError, InvalidError, Kube, KubeError, NotFoundError
from anomaly_operator.adapters.metrics import Metrics
from anomaly_operator.domain import names
from anomaly_operator.domain.actions import EmitEvent, SwitchTraffic
from anomaly_operator.domain.plan import Plan, plan
from anomaly_operator.runtime.cache import Cache
from anomaly_operator.runtime.execute import Executor, Fence, FencedError
from anomaly_operator.runtime.observe import Observer, View
from anomaly_operator.runtime.resolving import Resolver
from anomaly_operator.runtime.workqueue import Key, Priority, WorkQueue

log = logging.getLogger(__name__)

WORKERS = 8
URGENT_WORKERS = 2
"""Workers that take nothing but what may be a rollback, so that it never waits behind slow routine."""


FENCED_DELAY = 0.2
"""Seconds until a replica that has just lost the Lease notices, or is leading again."""

STRANGERS_DELAY = 5.0
"""Seconds until objects that bear a name of ours, but belong to others, are looked for again."""


TERMINATING_DELAY = 10.0
"""Seconds until a model is looked at again whose namespace is on its way out, unless something changes before."""


class Reconciler:
    """Drain the queue while this replica leads."""

    def __init__(
        self,
        kube: Kube,
        queue: WorkQueue,
        cache: Cache,
        observer: Observer,
        executor: Executor,
        resolver: Resolver,
        metrics: Metrics,
        *,
        fence: Fence,
    ) -> None:
        self._kube, self._queue, self._cache = kube, queue, cache
        self._observer, self._executor, self._resolver, self._metrics = observer, executor, resolver, metrics
        self._fence = fence
        self._leading = asyncio.Event()
        self._turns = asyncio.Lock()

    def lead(self, leading: bool) -> None:  # noqa: FBT001 - called back with the one thing that changed
        """Begin or cease to work; a new leader looks at everything, first at what may have to be rolled back."""
        if not leading:
            self._leading.clear()
            self._resolver.pause()
            return
        self._leading.set()
        for body in self._cache.models():
            key = (body["metadata"]["namespace"], body["metadata"]["name"])
            self._queue.add(key, priority=Priority.URGENT if self._cache.alarming(key) else Priority.NORMAL)

    async def work(self, only: Priority = Priority.ROUTINE) -> None:
        """Take keys of at least the priority `only` and look at them, for ever."""
        while True:
            await self._leading.wait()
            async with self._turn() if only is Priority.ROUTINE else contextlib.nullcontext():
                key, since = await self._queue.get(only=only)
            began = asyncio.get_running_loop().time()
            try:
                outcome = await self._guarded(key, since)
            finally:
                self._queue.done(key)
            self._metrics.reconciles.labels(outcome).inc()
            self._metrics.reconcile_seconds.observe(asyncio.get_running_loop().time() - began)
            # A look that finds nothing to do waits for nothing; the Lease and the watches must have their turn.
            await asyncio.sleep(0)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Let the loop have one look of routine a round, and whatever else has come up in between.

        A look keeps the loop up to its first request; only the round after it the next worker may take a key.
        """
        await self._turns.acquire()
        try:
            yield
        finally:
            asyncio.get_running_loop().call_soon(self._turns.release)

    async def _guarded(self, key: Key, since: float) -> str:
        """Look at a model; whatever goes wrong is logged and tried again later."""
        try:
            await self._reconcile(key, since)
        except FencedError:
            self._queue.add(key, delay=FENCED_DELAY)
            return "fenced"
        except ConflictError as error:
            log.info("somebody else was first, looking again: %s", error, extra=_where(key))
            self._queue.retry(key)
            return "conflict"
        except KubeError as error:
            if error.is_namespace_terminating:
                self._queue.retry(key, at_least=TERMINATING_DELAY)
                log.debug("the namespace is on its way out: %s", error, extra=_where(key))
                return "terminating"
            delay = self._queue.retry(key, at_least=error.retry_after or 0)
            log.warning("the API server said no, trying again in %.1f s: %s", delay, error, extra=_where(key))
            return "error"
        except Exception:
            delay = self._queue.retry(key)
            log.exception("a look at a model failed, trying again in %.1f s", delay, extra=_where(key))
            return "failed"
        self._queue.succeeded(key)
        return "done"

    async def _reconcile(self, key: Key, since: float) -> None:
        if not self._fence.holds():
            raise FencedError
        view = self._observer.view(key, time.time())
        if view is None:
            self._forget(key)
            return
        self._ask_registry(key, view)
        planned = self._plan(view)
        switches = [action for action in planned.actions if isinstance(action, SwitchTraffic)]
        if any(not switch.rollback or view.observed.service is None for switch in switches):
            view = await self._live_view(key) or view
            planned = self._plan(view)
        await self._act(key, view, planned, since)
        self._executor.tell_registry(key, view)
        await self._look_for_strangers(key, view)

    async def _look_for_strangers(self, key: Key, view: View) -> None:
        """See whether objects of others that bear our names are still there: no watch tells. Raises KubeError."""
        strangers = [which for which, child in view.observed.children.items() if child.owner_uid != view.observed.uid]
        for kind, name in strangers:
            try:
                self._cache.put(kind, await self._kube.get(kind, key[0], name))
            except NotFoundError:
                self._cache.drop(kind, key[0], name)
                self._queue.add(key)
        if strangers:
            self._queue.add(key, priority=Priority.ROUTINE, delay=STRANGERS_DELAY)

    @staticmethod
    def _plan(view: View) -> Plan:
        return plan(view.observed, view.desired, time.time())

    async def _act(self, key: Key, view: View, planned: Plan, since: float) -> None:
        for action in planned.actions:
            if self._queue.urgent(key):
                return  # what is left is asked for again, after what is more urgent
            try:
                await self._executor.execute(key, view, action, since)
            except (ForbiddenError, InvalidError) as error:
                if not error.is_namespace_terminating:
                    await self._tell_people(key, view, type(action).__name__, error, since)
                raise
        if planned.requeue_after is not None:
            self._queue.add(key, priority=Priority.ROUTINE, delay=planned.requeue_after)

    async def _live_view(self, key: Key) -> View | None:
        """Read the users' Service and the pods anew, as precedes giving users to another color; raises KubeError."""
        namespace, name = key
        labels = f"{names.MODEL_LABEL}={name}"
        service, (pods, version) = await asyncio.gather(
            self._service(namespace, name), self._kube.list("Pod", namespace, labels=labels)
        )
        if service is not None:
            self._cache.put("Service", service)
        self._cache.replace_members("Pod", key, pods, version)
        return self._observer.view(key, time.time())

    async def _service(self, namespace: str, name: str) -> dict[str, object] | None:
        try:
            return await self._kube.get("Service", namespace, name)
        except NotFoundError:
            return None

    def _ask_registry(self, key: Key, view: View) -> None:
        """Keep the registry's answer for this model coming."""
        if view.observed.deleting:
            return
        annotations = view.body["metadata"].get("annotations") or {}
        self._resolver.want(key, view.desired.spec.model, annotations.get(names.REGISTRY_EVENT, ""), view.memory)

    async def _tell_people(self, key: Key, view: View, action: str, error: KubeError, since: float) -> None:
        """Write an Event about what the API server refuses: it will not go away by itself."""
        event = EmitEvent(
            type="Warning",
            reason="Refused",
            message=f"{action}: {error}",
            key=f"refused/{view.observed.generation}/{action}/{error}",
            action=action,
        )
        await self._executor.execute(key, view, event, since)

    def _forget(self, key: Key) -> None:
        self._observer.forget(key)
        self._resolver.forget(key)
        self._queue.forget(key)


def _where(key: Key) -> dict[str, str]:
    return {"namespace": key[0], "model": key[1]}

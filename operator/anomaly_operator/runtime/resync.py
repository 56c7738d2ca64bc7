"""LIST everything now and then: heal what a watch has missed, and notice watches that are dead."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from anomaly_operator.adapters.kube import ForbiddenError, Kube, KubeError, NotFoundError
from anomaly_operator.adapters.metrics import Metrics
from anomaly_operator.runtime.cache import Body, Cache
from anomaly_operator.runtime.workqueue import Key

log = logging.getLogger(__name__)

PERIOD = 120.0
GRACE = 3.0
"""Seconds in which a watch brings what a LIST has shown."""
DEAD_AFTER = 3
"""Resyncs in a row in which a watch brought nothing of what had changed."""


class Resync:
    """Compare the cache with the API server."""

    def __init__(
        self,
        kube: Kube,
        cache: Cache,
        metrics: Metrics,
        *,
        kinds: Sequence[str],
        selector: Callable[[str], str | None],
        namespaces: tuple[str, ...],
        on_concern: Callable[[Key], None],
    ) -> None:
        self._kube, self._cache, self._metrics = kube, cache, metrics
        self._kinds, self._selector = kinds, selector
        self._namespaces: tuple[str | None, ...] = namespaces or (None,)
        self._on_concern = on_concern
        self._silent: dict[str, int] = {}
        self._done_at: float | None = None

    @property
    def synced(self) -> bool:
        """Return whether everything has been listed once."""
        return self._done_at is not None

    def check(self) -> str | None:
        """Return which watches are dead: changes reached us by LIST only, again and again."""
        dead = [kind for kind, times in self._silent.items() if times >= DEAD_AFTER]
        return f"the watches of {', '.join(dead)} bring nothing" if dead else None

    async def first(self) -> None:
        """Fill the cache; retries until the API server answers for every kind."""
        while True:
            try:
                for kind in self._kinds:
                    await self.sync(kind, grace=0)
            except (KubeError, TimeoutError) as error:
                log.warning("cannot list yet, trying again: %s", error)
                await asyncio.sleep(1)
            else:
                self._done_at = time.monotonic()
                return

    async def run(self) -> None:
        """Resync for ever."""
        while True:
            for kind in self._kinds:
                await asyncio.sleep(PERIOD / len(self._kinds))
                try:
                    await self.sync(kind)
                except KubeError as error:
                    log.warning("resync of %s failed: %s", kind, error)

    async def sync(self, kind: str, *, grace: float = GRACE) -> None:
        """LIST a kind, give its watch time to bring the same, then take what it did not bring; raises KubeError."""
        for namespace in self._namespaces:
            bodies, version = await self._list(kind, namespace)
            await asyncio.sleep(grace)
            if grace:
                self._judge(kind, self._cache.missed(kind, bodies))
            for key in self._cache.replace(kind, bodies, version, namespace):
                self._on_concern(key)

    async def _list(self, kind: str, namespace: str | None) -> tuple[list[Body], str]:
        try:
            keep = partial(self._cache.lean, kind)
            return await self._kube.list(kind, namespace, labels=self._selector(kind), keep=keep)
        except NotFoundError as error:
            raise KubeError(f"{error}; is the CustomResourceDefinition installed?") from None
        except ForbiddenError as error:
            raise KubeError(f"{error}; is the operator's ClusterRole bound to its ServiceAccount?") from None

    def _judge(self, kind: str, missed: int) -> None:
        self._silent[kind] = self._silent.get(kind, 0) + 1 if missed else 0
        if missed:
            self._metrics.watch_missed.labels(kind).inc(missed)
            log.warning("the watch of %s has missed %d changes; they are taken from the list", kind, missed)

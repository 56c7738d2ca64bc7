"""Record in MLflow, period by period, which features made users' rows anomalous: beside everything else.

It has a task, a session and time limits of its own, asks one model after the other, and only models where nothing is
under way: no look at a model, and no rollback, ever waits for it.
"""

import asyncio
import logging
import math
import time
from typing import NamedTuple

from anomaly_operator.adapters.probes import ProbeError, Probes, Target
from anomaly_operator.adapters.registry import RegistryError
from anomaly_operator.adapters.runs import Run, Runs, Served
from anomaly_operator.domain import importance
from anomaly_operator.domain.importance import Period
from anomaly_operator.domain.model import Pod
from anomaly_operator.domain.records import TrackStatus
from anomaly_operator.runtime.cache import Body, Cache
from anomaly_operator.runtime.execute import Fence
from anomaly_operator.runtime.observe import Observer, View
from anomaly_operator.runtime.workqueue import Key

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
SHORTEST_INTERVAL = 1.0
TIME_LIMIT = 60.0
"""Seconds that one model may take."""
RETRY_SECONDS = 300.0
"""Until a model is tried again whose pods or registry did not answer."""


class _Rest(NamedTuple):
    """Until when a model need not be looked at."""

    until: float
    version: str | None
    """Of the body that it holds for; None: of any."""


class Recorder:
    """Look at all models now and then, while this replica leads."""

    def __init__(
        self,
        runs: Runs,
        probes: Probes,
        cache: Cache,
        observer: Observer,
        *,
        fence: Fence,
        allowed: tuple[str, ...],
        default_uri: str,
    ) -> None:
        self._runs, self._probes, self._cache, self._observer = runs, probes, cache, observer
        self._fence, self._allowed, self._default_uri = fence, allowed, default_uri
        self._recorded: dict[tuple[Key, str, str], int] = {}
        """Number of the newest recorded period by model, UID and version: MLflow says it after a restart."""
        self._rests: dict[Key, _Rest] = {}
        """A model where nothing is due costs nothing: a thousand views a second would leave the loop no time."""

    async def run(self) -> None:
        """Record what is due, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            bodies = {(b["metadata"]["namespace"], b["metadata"]["name"]): b for b in self._cache.models()}
            now = time.time()
            for key, body in bodies.items():
                if self._fence.holds() and not self._rests_still(key, body, now):
                    await self._look(key, body["metadata"]["resourceVersion"])
                    await asyncio.sleep(0)  # the loop belongs to others, too
            self._recorded = {known: number for known, number in self._recorded.items() if known[0] in bodies}
            self._rests = {key: rest for key, rest in self._rests.items() if key in bodies}

    def _rests_still(self, key: Key, body: Body, now: float) -> bool:
        rest = self._rests.get(key)
        if rest is None or now >= rest.until:
            return False
        return rest.version is None or rest.version == body["metadata"]["resourceVersion"]

    async def _look(self, key: Key, version: str) -> None:
        """Record what is due of a model, and note when to look again: earlier if it changes from `version`."""
        now = time.time()
        try:
            async with asyncio.timeout(TIME_LIMIT):
                self._rests[key] = _Rest(await self._record(key, now), version)
        except (RegistryError, ProbeError, TimeoutError) as error:
            self._rests[key] = _Rest(now + RETRY_SECONDS, None)
            log.warning("not recorded in MLflow: %s", error or "no answer in time", extra=_where(key))
        except Exception:
            self._rests[key] = _Rest(now + RETRY_SECONDS, None)
            log.exception("not recorded in MLflow", extra=_where(key))

    async def _record(self, key: Key, now: float) -> float:
        """Record the period that is due; return when there may be another. Raises RegistryError, ProbeError."""
        view = self._observer.view(key, now)
        active = None if view is None else view.observed.status.active
        if view is None or active is None or not self._may(view):
            return math.inf
        known = (key, view.observed.uid, active.version)
        length = max(SHORTEST_INTERVAL, view.desired.spec.explanations.recording.interval)
        period = importance.due(now, length, since=active.since, recorded=self._recorded.get(known))
        if period is not None:
            served, uri = _served(key, view, active), self._uri(view)
            run = await self._runs.find(uri, served)
            recorded = None if run is None else run.recorded
            if importance.due(now, length, since=active.since, recorded=recorded) is not None:
                await self._write(uri, served, run, period, _pods(view, active))
            self._recorded[known] = period.number
        return importance.ends(now, length)

    def _may(self, view: View) -> bool:
        """Say whether this model is to be recorded, and nothing more urgent is under way."""
        explanations = view.desired.spec.explanations
        wanted = explanations.enabled and explanations.recording.enabled and not view.observed.deleting
        return wanted and view.observed.status.phase == "Healthy" and self._uri(view) in self._allowed

    def _uri(self, view: View) -> str:
        return (view.desired.spec.model.tracking_uri or self._default_uri).rstrip("/")

    async def _write(self, uri: str, served: Served, run: Run | None, period: Period, pods: list[Pod]) -> None:
        """Ask the pods, and record what they saw, if anything; at least one pod must answer."""
        answers, last = {}, None
        for pod in pods:
            try:
                target = Target(pod.name, pod.uid, pod.ip)
                answers[pod.name] = await self._probes.importance(target, period.start, period.end)
            except ProbeError as error:
                last = error
        if last is not None and not answers:
            raise last
        found = importance.merge(answers)
        if not found.rows or not self._fence.holds():
            return
        run = run or await self._runs.create(uri, served, period.start)
        if run.recorded is None:
            await self._runs.link(uri, served, run)
        await self._runs.record(uri, run, period, found)
        log.info("recorded in MLflow", extra={"namespace": served.namespace, "model": served.name, "run": run.run_id})


def _served(key: Key, view: View, active: TrackStatus) -> Served:
    revision = view.observed.revisions.get(active.revision)
    return Served(
        namespace=key[0],
        name=key[1],
        model=view.desired.spec.model.name,
        version=active.version,
        run_id=active.run_id,
        source=revision.source if revision else "",
    )


def _pods(view: View, active: TrackStatus) -> list[Pod]:
    return [pod for pod in view.observed.tracks[active.color].pods if pod.ready and pod.ip]


def _where(key: Key) -> dict[str, str]:
    return {"namespace": key[0], "model": key[1]}

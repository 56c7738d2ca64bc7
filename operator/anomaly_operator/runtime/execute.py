"""Carry out a plan: one method per action, the Lease's fence before every write.

An error ends the plan, and nothing is done instead: what an API error could not tell us never changes a selector.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from anomaly_operator.adapters import events
from anomaly_operator.adapters.kube import ConflictError, InvalidError, Kube, KubeError, NotFoundError
from anomaly_operator.adapters.metrics import Metrics
from anomaly_operator.domain import actions, codec, names, parse, reasons
from anomaly_operator.domain.actions import Action
from anomaly_operator.runtime.background import Background
from anomaly_operator.runtime.cache import Body, Cache
from anomaly_operator.runtime.chronicle import Chronicle
from anomaly_operator.runtime.observe import View
from anomaly_operator.runtime.probing import Prober
from anomaly_operator.runtime.workqueue import Key

log = logging.getLogger(__name__)

BEST_EFFORT = (actions.TellRole, actions.Replay, actions.EmitEvent, actions.PublishDecision)


class FencedError(Exception):
    """This replica may not write any more."""


class Fence(Protocol):
    """Whether this replica may write."""

    def holds(self) -> bool:
        """Return whether it may write now."""

    def seconds_left(self) -> float:
        """Return how long a write that begins now may take."""


class Executor:
    """Carry out actions for one model at a time."""

    def __init__(
        self,
        kube: Kube,
        cache: Cache,
        prober: Prober,
        chronicle: Chronicle,
        background: Background,
        metrics: Metrics,
        *,
        fence: Fence,
        identity: str,
    ) -> None:
        self._kube, self._cache, self._prober, self._chronicle = kube, cache, prober, chronicle
        self._background, self._metrics = background, metrics
        self._fence, self._identity = fence, identity

    async def execute(self, key: Key, view: View, action: Action, since: float) -> None:
        """Carry out one action; `since` is when what caused it was received (loop time).

        Raises FencedError, KubeError.
        """
        kind = type(action).__name__
        if isinstance(action, BEST_EFFORT):
            self._start(key, view, action)
            self._metrics.actions.labels(kind, "started").inc()
            return
        try:
            await self._write(view, action, since)
        except KubeError as error:
            self._metrics.actions.labels(kind, type(error).__name__).inc()
            raise
        self._metrics.actions.labels(kind, "done").inc()

    def tell_registry(self, key: Key, view: View) -> None:
        """Have the registry hold what status remembers, in the background."""
        self._chronicle.keep(key, view)

    async def _write(self, view: View, action: Action, since: float) -> None:
        match action:
            case actions.SwitchTraffic():
                await self._switch_traffic(view, action, since)
            case actions.ApplyChild():
                await self._apply_child(view, action)
            case actions.CreateRevision():
                await self._create(view, dict(action.manifest))
            case actions.StartJob():
                await self._start_job(view, action)
            case actions.Scale():
                await self._scale(view, action)
            case actions.Delete():
                await self._delete(view, action)
            case actions.WriteStatus():
                await self._write_status(view, action)

    async def _switch_traffic(self, view: View, action: actions.SwitchTraffic, since: float) -> None:
        manifest = _plain(action.manifest)
        if action.resource_version is not None:
            manifest["metadata"]["resourceVersion"] = action.resource_version
        answer = await self._fenced(lambda seconds: self._kube.apply(manifest, seconds=seconds))
        took = asyncio.get_running_loop().time() - since
        self._metrics.switch_seconds.labels(str(action.rollback).lower()).observe(took)
        self._note_applied(view, answer)

    async def _apply_child(self, view: View, action: actions.ApplyChild) -> None:
        manifest = _plain(action.manifest)
        kind, metadata = manifest["kind"], manifest["metadata"]
        if self._cache.get(kind, metadata["namespace"], metadata["name"]) is None:
            await self._refuse_foreign(view, kind, metadata)
        answer = await self._fenced(lambda seconds: self._kube.apply(manifest, seconds=seconds))
        self._note_applied(view, answer)

    def _note_applied(self, view: View, answer: Body) -> None:
        """Remember how an object looks after we applied it: what differs later was changed by somebody else."""
        self._cache.put(answer["kind"], answer)
        child = parse.child(answer)
        view.memory.applied[child.kind, child.name] = (child.spec_hash, child.fingerprint)

    async def _refuse_foreign(self, view: View, kind: str, metadata: dict[str, Any]) -> None:
        """Look for an object that bears the name already but not our label: applying by force would adopt it."""
        try:
            found = await self._kube.get(kind, metadata["namespace"], metadata["name"])
        except NotFoundError:
            return
        if parse.child(found).owner_uid != view.observed.uid:
            self._cache.put(kind, found)
            raise ConflictError(f"{kind} {metadata['name']} belongs to somebody else", status=409, reason="NameTaken")

    async def _create(self, view: View, manifest: Body) -> None:
        """Create an object unless it is there already. Raises InvalidError if that is somebody else's."""
        manifest = _plain(manifest)
        kind, metadata = manifest["kind"], manifest["metadata"]
        try:
            answer = await self._fenced(
                lambda seconds: self._kube.create(kind, metadata["namespace"], manifest, seconds=seconds)
            )
        except ConflictError:
            answer = await self._kube.get(kind, metadata["namespace"], metadata["name"])
            if parse.child(answer).owner_uid != view.observed.uid:
                words = f"{kind} {metadata['name']} belongs to somebody else: delete or rename it"
                raise InvalidError(words, status=409, reason="NameTaken") from None
        self._cache.put(kind, answer)

    async def _start_job(self, view: View, action: actions.StartJob) -> None:
        """Create a Job; if it reads pods, then their Secret, owned by the Job, and only then let it begin.

        Killed in between, the Job is found suspended and all of this is done again.
        """
        await self._create(view, dict(action.manifest))
        if not action.pods:
            return
        namespace, name = action.manifest["metadata"]["namespace"], action.manifest["metadata"]["name"]
        job = self._cache.get("Job", namespace, name)
        if job is None:
            return  # gone already
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"]}
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": dict(action.manifest["metadata"]["labels"]),
                "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": False}],
            },
            "immutable": True,
            "stringData": {"pods.json": self._prober.windows(action.pods)},
        }
        with contextlib.suppress(ConflictError):  # it is there already
            await self._fenced(lambda seconds: self._kube.create("Secret", namespace, secret, seconds=seconds))
        resumed = await self._fenced(
            lambda _: self._kube.merge_patch("Job", namespace, name, {"spec": {"suspend": False}})
        )
        self._cache.put("Job", resumed)

    async def _scale(self, view: View, action: actions.Scale) -> None:
        namespace = view.observed.namespace
        await self._fenced(
            lambda seconds: self._kube.scale(
                "Deployment", namespace, action.deployment, action.replicas, seconds=seconds
            )
        )
        # The answer is a Scale; the next plan is to see the Deployment as it is now.
        self._cache.put("Deployment", await self._kube.get("Deployment", namespace, action.deployment))

    async def _delete(self, view: View, action: actions.Delete) -> None:
        namespace = view.observed.namespace
        known = self._cache.get(action.kind, namespace, action.name)
        uid = known["metadata"]["uid"] if known else None
        await self._fenced(
            lambda seconds: self._kube.delete(action.kind, namespace, action.name, uid=uid, seconds=seconds)
        )

    async def _write_status(self, view: View, action: actions.WriteStatus) -> None:
        observed = view.observed
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            # With the UID, so that a model deleted and made anew is not given the status of the old one.
            "metadata": {"name": observed.name, "namespace": observed.namespace, "uid": observed.uid},
            "status": codec.to_json(action.status),
        }
        answer = await self._fenced(lambda seconds: self._kube.apply(body, subresource="status", seconds=seconds))
        self._cache.put(names.KIND, answer)

    async def _fenced(self, write: Callable[[float], Awaitable[Any]]) -> Any:
        """Write while the Lease is held; the request ends before the Lease could be somebody else's."""
        if not self._fence.holds():
            raise FencedError
        return await write(min(5.0, self._fence.seconds_left()))

    def _start(self, key: Key, view: View, action: Action) -> None:
        match action:
            case actions.TellRole():
                pods = (pod for track in view.observed.tracks.values() for pod in track.pods)
                started_at = next((pod.started_at for pod in pods if pod.uid == action.uid), None)
                self._prober.tell(key, view.memory, action, started_at)
            case actions.Replay():
                self._prober.replay(key, view.memory, action)
            case actions.EmitEvent():
                if action.key not in view.memory.told:
                    self._background.start(("event", key, action.key), self._emit(view, action))
            case actions.PublishDecision():
                # Status says later that it was told; until that could be written, this process knows.
                if f"log/{action.entry.hash}" not in view.memory.told:
                    self._chronicle.publish(key, action.entry)
                    view.memory.note_told(f"log/{action.entry.hash}")

    async def _emit(self, view: View, action: actions.EmitEvent) -> None:
        if not self._fence.holds() or action.key in view.memory.told:
            return
        pods = (pod for track in view.observed.tracks.values() for pod in track.pods)
        uid = next((pod.uid for pod in pods if pod.name == action.pod), None)
        try:
            await events.emit(self._kube, view.body, action, instance=self._identity, pod_uid=uid)
        except KubeError as error:
            level = logging.DEBUG if error.is_namespace_terminating else logging.WARNING
            log.log(level, "an Event could not be written: %s", error)
            return
        self._metrics.malformed.inc(action.reason == reasons.MALFORMED_ANNOTATION)
        view.memory.note_told(action.key)


def _plain(value: Any) -> Any:
    """Return a copy made of dicts and lists only: manifests may hold read-only mappings and tuples."""
    if hasattr(value, "items"):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value

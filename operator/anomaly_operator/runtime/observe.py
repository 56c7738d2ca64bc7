"""Build what one plan sees: from the cache of newest bodies and the volatile memory. No input or output here."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from anomaly_operator.domain import availability, codec, jobs, names, parse
from anomaly_operator.domain.fields import SpecError
from anomaly_operator.domain.jobs import Job
from anomaly_operator.domain.model import Child, Desired, Observed, Pod, PodSettings, Revision, Track
from anomaly_operator.domain.records import COLORS, Color, Status
from anomaly_operator.domain.spec import ModelSpec, Spec
from anomaly_operator.runtime.cache import Body, Cache
from anomaly_operator.runtime.memory import Memories, Memory
from anomaly_operator.runtime.workqueue import Key

CHILD_KINDS = (
    "Service", "Deployment", "ConfigMap", "ServiceAccount", "RoleBinding", "HorizontalPodAutoscaler",
    "PodDisruptionBudget", "NetworkPolicy",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """What one plan sees, and the memory that its outcome goes to."""

    body: Body
    observed: Observed
    desired: Desired
    memory: Memory


class Observer:
    """Build views of models."""

    def __init__(self, cache: Cache, memories: Memories, settings: PodSettings) -> None:
        self._cache, self._memories, self._settings = cache, memories, settings
        self.policy_in_place: bool | None = None

    def view(self, key: Key, now: float) -> View | None:
        """Return what is known about a model, None if there is no such model."""
        body = self._cache.get(names.KIND, *key)
        if body is None:
            return None
        memory = self._memories.of(key, body["metadata"]["uid"])
        observed = self._observed(key, body, memory, now)
        return View(body, observed, self._desired(body, memory), memory)

    def forget(self, key: Key) -> None:
        """Drop what is kept about a model that is gone."""
        self._memories.forget(key)

    def _observed(self, key: Key, body: Body, memory: Memory, now: float) -> Observed:
        metadata = body["metadata"]
        command, malformed = parse.command(metadata.get("annotations"))
        status = self._cache.parsed(body, _status)
        _tidy(memory, status)
        service = self._cache.get("Service", *key)
        return Observed(
            name=metadata["name"],
            namespace=metadata["namespace"],
            uid=metadata["uid"],
            generation=metadata.get("generation", 0),
            deleting=metadata.get("deletionTimestamp") is not None,
            command=command,
            malformed=malformed,
            status=status,
            service=None if service is None else self._cache.parsed(service, parse.users_service),
            tracks=self._tracks(key, memory, now),
            revisions=self._revisions(key, metadata["uid"]),
            children=self._children(key),
            applied=dict(memory.applied),
            smoke_tests=dict(memory.smoke_tests),
            replays=dict(memory.replays),
            jobs=self._jobs(key),
            policy_in_place=self.policy_in_place,
        )

    def _tracks(self, key: Key, memory: Memory, now: float) -> dict[Color, Track]:
        pods = [pod for body in self._cache.of_model("Pod", key) if (pod := self._pod(body, memory)) is not None]
        _forget_all_but({pod.uid for pod in pods}, memory)
        tracks: dict[Color, Track] = {}
        for color in COLORS:
            deployment = self._cache.get("Deployment", key[0], names.track(key[1], color))
            tracks[color] = Track(
                color=color,
                deployment=None if deployment is None else self._cache.parsed(deployment, parse.deployment),
                pods=tuple(sorted((pod for pod in pods if pod.color == color), key=lambda pod: pod.name)),
            )
        memory.shortages = availability.watch(memory.shortages, tracks, now)
        return {color: availability.applied(track, memory.shortages[color]) for color, track in tracks.items()}

    def _pod(self, body: Body, memory: Memory) -> Pod | None:
        pod = self._cache.parsed(body, parse.pod)
        if pod is None:
            return None
        acknowledged = memory.acknowledged.get((pod.uid, pod.started_at))
        return dataclasses.replace(pod, report_received=self._cache.received(pod.uid), acknowledged=acknowledged)

    def _revisions(self, key: Key, uid: str) -> dict[str, Revision]:
        revisions = {}
        for body in self._cache.of_model("ControllerRevision", key):
            revision = self._cache.parsed(body, parse.revision)
            if revision is not None and self._cache.parsed(body, parse.child).owner_uid == uid:
                revisions[revision.name] = revision
        return revisions

    def _children(self, key: Key) -> dict[tuple[str, str], Child]:
        """Return everything that bears a name of ours, also if somebody else made it, and all that bears our label."""
        namespace, name = key
        ours = (name, *(names.track(name, color) for color in COLORS), names.preview(name), names.detector(name))
        bodies: list[Body] = []
        for kind in CHILD_KINDS:
            named = (self._cache.get(kind, namespace, each) for each in ours)
            bodies += [body for body in named if body is not None]
            bodies += self._cache.of_model(kind, key)
        bodies += self._cache.of_model("ControllerRevision", key)
        children = [self._cache.parsed(body, parse.child) for body in bodies]
        return {(child.kind, child.name): child for child in children}

    def _jobs(self, key: Key) -> tuple[Job, ...]:
        pods = list(self._cache.of_model("Pod", key))
        jobs = [_job(body, pods) for body in self._cache.of_model("Job", key)]
        return tuple(sorted(jobs, key=lambda job: (job.created, job.name)))

    def _desired(self, body: Body, memory: Memory) -> Desired:
        generation = body["metadata"].get("generation", 0)
        if generation != memory.generation:
            memory.generation, memory.spec_error = generation, None
            try:
                memory.spec = Spec.parse(body.get("spec") or {})
            except SpecError as error:
                memory.spec_error = str(error)
        spec = memory.spec if memory.spec is not None else _fallback(body)
        return Desired(
            spec=spec,
            spec_error=memory.spec_error,
            resolution=memory.resolution,
            unreachable=memory.unreachable,
            settings=self._settings,
        )


def _status(body: Body) -> Status:
    return codec.status_from_json(body.get("status"))


def _tidy(memory: Memory, status: Status) -> None:
    """Drop results that are about an earlier candidate."""
    candidate = status.candidate.revision if status.candidate else None
    if candidate != memory.candidate:
        memory.candidate = candidate
        memory.replays.clear()
        memory.smoke_tests.clear()  # also for the same revision: another try is another test


def _forget_all_but(uids: set[str], memory: Memory) -> None:
    """Drop what is remembered of pods that are gone."""
    for container in [container for container in memory.acknowledged if container[0] not in uids]:
        del memory.acknowledged[container]


def _fallback(body: Body) -> Spec:
    """Return defaults for a spec that has never parsed here: what runs is guarded on with them."""
    model: Any = (body.get("spec") or {}).get("model")
    name = model.get("name") if isinstance(model, dict) else None
    return Spec(model=ModelSpec(name=name if isinstance(name, str) else body["metadata"]["name"]))


def _job(body: Body, pods: Iterable[Body]) -> Job:
    """Read a Job with what its newest pod says of it."""
    name, said = body["metadata"]["name"], dict[str, Any]()
    for pod in sorted(pods, key=lambda pod: pod["metadata"].get("creationTimestamp") or ""):
        labels = pod["metadata"].get("labels") or {}
        if name in (labels.get("batch.kubernetes.io/job-name"), labels.get("job-name")):
            said = jobs.said_by(pod) or said
    return jobs.job(body, said)

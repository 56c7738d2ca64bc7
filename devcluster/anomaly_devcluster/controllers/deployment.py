"""Bring a Deployment's pods from one template to the next, one ReplicaSet a template."""

import hashlib
import json
import time

from anomaly_devcluster.client import DEPLOYMENTS, PODS, REPLICA_SETS, Object
from anomaly_devcluster.controllers.base import Controller, being_deleted, owner_reference
from anomaly_devcluster.controllers.deployment_status import status_of
from anomaly_devcluster.controllers.rolling import Limits, Size, grown, shrunk
from anomaly_devcluster.informer import Key, controller_of, key_of
from anomaly_devcluster.pods import is_finished

HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
_SIZES = ("deployment.kubernetes.io/desired-replicas", "deployment.kubernetes.io/max-replicas")
_NOT_COPIED = {"kubectl.kubernetes.io/last-applied-configuration", REVISION, *_SIZES}
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class DeploymentController(Controller):
    """Make ReplicaSets, size them, count their pods in status."""

    def watch(self) -> None:
        """Follow Deployments and their ReplicaSets; pods only for Recreate, which waits until old ones are gone."""
        self.deployments = self.on_objects(DEPLOYMENTS)
        self.sets = self.on_children(REPLICA_SETS, "Deployment")
        self.pods = self.informers(PODS)
        self.pods.on_change(self._pod_changed)

    def _pod_changed(self, kind: str, pod: Object) -> None:
        owner = controller_of(pod)
        if kind == "DELETED" and owner and owner["kind"] == "ReplicaSet":
            body = self.sets.get(pod["metadata"]["namespace"], owner["name"])
            deployment = controller_of(body) if body else None
            if deployment:
                self.enqueue((pod["metadata"]["namespace"], deployment["name"]))

    async def reconcile(self, key: Key) -> float | None:
        """Take the next step of one Deployment's rollout."""
        body = self.deployments.get(*key)
        if body is None:
            return None
        sets = sorted(await self.claim(body, REPLICA_SETS, self.sets), key=_age)
        new = next((s for s in sets if _template(s) == _template(body)), None)
        if not being_deleted(body):
            old = [s for s in sets if s is not new]
            paused = body["spec"].get("paused", False)
            if not paused and (new is not None or not await self._must_wait_for_recreate(body, old)):
                new = await self._new_set(body, new, sets)
            await self._resize(body, new, old, paused=paused)
            await self._forget_history(body, new, old)
            sets = self.sets.owned_by(body)
            new = next((s for s in sets if new and s["metadata"]["uid"] == new["metadata"]["uid"]), None)
        status, again = status_of(body, new, sets, time.time())
        await self.write_status(DEPLOYMENTS, self.deployments, self.deployments.get(*key) or body, status)
        return again

    async def _must_wait_for_recreate(self, body: Object, old: list[Object]) -> bool:
        if body["spec"].get("strategy", {}).get("type") != "Recreate":
            return False
        for replica_set in old:
            await self._set_size(body, replica_set, 0)
        uids = {replica_set["metadata"]["uid"] for replica_set in old}
        pods = self.pods.namespaced(body["metadata"]["namespace"])
        return any(
            not is_finished(pod) and any(r["uid"] in uids for r in pod["metadata"].get("ownerReferences") or [])
            for pod in pods
        )

    async def _new_set(self, body: Object, new: Object | None, sets: list[Object]) -> Object:
        """Return the ReplicaSet of the current template with the newest revision, creating it if there is none."""
        newest = max((_revision(s) for s in sets if s is not new), default=0)
        if new is None:
            new = await self._create(body, newest + 1)
        elif _revision(new) <= newest:
            new = await self._annotate(new, {REVISION: str(newest + 1)})
        if (body["metadata"].get("annotations") or {}).get(REVISION) != str(_revision(new)):
            change = {"metadata": {"annotations": {REVISION: str(_revision(new))}}}
            # Through the status: an annotation that is written otherwise counts as a new generation.
            self.deployments.record(await self.client.patch(DEPLOYMENTS, body, change, "status"))
        return new

    async def _create(self, body: Object, revision: int) -> Object:
        template = body["spec"]["template"]
        suffix = template_hash(template)
        labels = (template["metadata"].get("labels") or {}) | {HASH: suffix}
        selector = body["spec"]["selector"]
        annotations = body["metadata"].get("annotations") or {}
        copied = {key: value for key, value in annotations.items() if key not in _NOT_COPIED}
        created = await self.client.create(
            REPLICA_SETS,
            {
                "metadata": {
                    "name": f"{body['metadata']['name']}-{suffix}",
                    "namespace": body["metadata"]["namespace"],
                    "labels": labels,
                    "annotations": copied | {REVISION: str(revision)} | self._sizes(body),
                    "ownerReferences": [owner_reference(body)],
                },
                "spec": {
                    "replicas": 0,
                    "minReadySeconds": body["spec"].get("minReadySeconds", 0),
                    "selector": {**selector, "matchLabels": (selector.get("matchLabels") or {}) | {HASH: suffix}},
                    "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
                },
            },
        )
        self.sets.record(created)
        return created

    async def _resize(self, body: Object, new: Object | None, old: list[Object], *, paused: bool) -> None:
        replicas = body["spec"].get("replicas", 1)
        active = [s for s in [*old, *([new] if new else [])] if _wanted(s)]
        if paused:
            if len(active) == 1:
                await self._set_size(body, active[0], replicas)
            return
        if new is None:
            return
        if body["spec"].get("strategy", {}).get("type") == "Recreate":
            await self._set_size(body, new, replicas)
            return
        limits = Limits.of(body)
        current, others = _size(new), [_size(s) for s in old]
        if (size := grown(replicas, limits, current, others)) != current.wanted:
            new = await self._set_size(body, new, size)
            current = _size(new)
        shrink = shrunk(replicas, limits, current, others)
        for replica_set in old:
            if (name := replica_set["metadata"]["name"]) in shrink:
                await self._set_size(body, replica_set, shrink[name])

    async def _set_size(self, body: Object, replica_set: Object, size: int) -> Object:
        known = _wanted(replica_set)
        if known == size:
            return replica_set
        change = {"spec": {"replicas": size}, "metadata": {"annotations": self._sizes(body)}}
        changed = await self.client.patch(REPLICA_SETS, replica_set, change)
        self.sets.record(changed)
        way = "up" if size > known else "down"
        name = replica_set["metadata"]["name"]
        self.events.normal(body, "ScalingReplicaSet", f"Scaled {way} replica set {name} from {known} to {size}")
        return changed

    async def _annotate(self, replica_set: Object, annotations: dict[str, str]) -> Object:
        changed = await self.client.patch(REPLICA_SETS, replica_set, {"metadata": {"annotations": annotations}})
        self.sets.record(changed)
        return changed

    async def _forget_history(self, body: Object, new: Object | None, old: list[Object]) -> None:
        idle = [s for s in old if not _wanted(s) and not s.get("status", {}).get("replicas") and not being_deleted(s)]
        limit = body["spec"].get("revisionHistoryLimit", 10)
        if new is None:
            return
        for replica_set in sorted(idle, key=_revision)[: max(0, len(idle) - limit)]:
            await self.client.delete(REPLICA_SETS, replica_set)

    @staticmethod
    def _sizes(body: Object) -> dict[str, str]:
        replicas = body["spec"].get("replicas", 1)
        return dict(zip(_SIZES, (str(replicas), str(replicas + Limits.of(body).surge)), strict=True))


def template_hash(template: Object) -> str:
    """Return a name part for a pod template: ten letters that spell no words."""
    text = json.dumps(template, sort_keys=True)
    digest = hashlib.sha256(text.encode()).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:10])


def _template(body: Object) -> Object:
    template: Object = body["spec"]["template"]
    metadata = {key: value for key, value in template.get("metadata", {}).items() if key != "creationTimestamp"}
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != HASH}
    return {**template, "metadata": {**metadata, "labels": labels}}


def _size(body: Object) -> Size:
    return Size(body["metadata"]["name"], _wanted(body), body.get("status", {}).get("availableReplicas", 0))


def _wanted(body: Object) -> int:
    wanted: int = body["spec"].get("replicas", 1)
    return wanted


def _revision(body: Object) -> int:
    return int((body["metadata"].get("annotations") or {}).get(REVISION, "0"))


def _age(body: Object) -> tuple[str, str]:
    return body["metadata"]["creationTimestamp"], key_of(body)[1]

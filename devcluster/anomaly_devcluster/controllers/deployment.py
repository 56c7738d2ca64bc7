"""Bring a Deployment's pods from one template to the next, one ReplicaSet a template."""

import hashlib
import json
import time

from anomaly_devcluster.client import DEPLOYMENTS, REPLICA_SETS, Object
from anomaly_devcluster.controllers.base import Controller, being_deleted, owner_reference
from anomaly_devcluster.controllers.deployment_status import status_of
from anomaly_devcluster.controllers.rolling import Limits, Size, grown, shrunk
from anomaly_devcluster.informer import Key, key_of

HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
_NOT_COPIED = {"kubectl.kubernetes.io/last-applied-configuration", REVISION}
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class DeploymentController(Controller):
    """Make ReplicaSets, size them, count their pods in status."""

    def watch(self) -> None:
        """Follow Deployments and their ReplicaSets."""
        self.deployments = self.on_objects(DEPLOYMENTS)
        self.sets = self.on_children(REPLICA_SETS, "Deployment")

    async def reconcile(self, key: Key) -> float | None:
        """Take the next step of one Deployment's rollout."""
        body = self.deployments.get(*key)
        if body is None:
            return None
        sets = sorted(await self.claim(body, self.sets), key=_age)
        new = next((s for s in sets if _template(s) == _template(body)), None)
        if not being_deleted(body):
            old = [s for s in sets if s is not new]
            new = await self._new_set(body, new, old)
            await self._resize(body, new, old)
            await self._forget_history(body, old)
            sets = self.sets.owned_by(body)
            new = next((s for s in sets if s["metadata"]["uid"] == new["metadata"]["uid"]), None)
        status, again = status_of(body, new, sets, time.time())
        await self.write_status(self.deployments, self.deployments.get(*key) or body, status)
        return again

    async def _new_set(self, body: Object, new: Object | None, old: list[Object]) -> Object:
        """Return the ReplicaSet of the current template with the newest revision, creating it if there is none."""
        newest = max(map(_revision, old), default=0)
        if new is None:
            new = await self._create(body, newest + 1)
        elif _revision(new) <= newest:
            new = await self.sets.patch(new, {"metadata": {"annotations": {REVISION: str(newest + 1)}}})
        if (body["metadata"].get("annotations") or {}).get(REVISION) != str(_revision(new)):
            change = {"metadata": {"annotations": {REVISION: str(_revision(new))}}}
            # Through the status: an annotation that is written otherwise counts as a new generation.
            await self.deployments.patch(body, change, "status")
        return new

    async def _create(self, body: Object, revision: int) -> Object:
        template = body["spec"]["template"]
        suffix = template_hash(template)
        labels = (template["metadata"].get("labels") or {}) | {HASH: suffix}
        selector = body["spec"]["selector"]
        annotations = body["metadata"].get("annotations") or {}
        copied = {key: value for key, value in annotations.items() if key not in _NOT_COPIED}
        metadata = {
            "name": f"{body['metadata']['name']}-{suffix}",
            "namespace": body["metadata"]["namespace"],
            "labels": labels,
            "annotations": copied | {REVISION: str(revision)},
            "ownerReferences": [owner_reference(body)],
        }
        spec = {
            "replicas": 0,
            "minReadySeconds": body["spec"].get("minReadySeconds", 0),
            "selector": {**selector, "matchLabels": (selector.get("matchLabels") or {}) | {HASH: suffix}},
            "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
        }
        return await self.sets.create({"metadata": metadata, "spec": spec})

    async def _resize(self, body: Object, new: Object, old: list[Object]) -> None:
        replicas, limits = body["spec"].get("replicas", 1), Limits.of(body)
        others = [_size(s) for s in old]
        new = await self._set_size(body, new, grown(replicas, limits, _size(new), others))
        shrink = shrunk(replicas, limits, _size(new), others)
        for replica_set in old:
            await self._set_size(body, replica_set, shrink.get(replica_set["metadata"]["name"], _wanted(replica_set)))

    async def _set_size(self, body: Object, replica_set: Object, size: int) -> Object:
        known = _wanted(replica_set)
        if known == size:
            return replica_set
        way = "up" if size > known else "down"
        name = replica_set["metadata"]["name"]
        self.events.normal(body, "ScalingReplicaSet", f"Scaled {way} replica set {name} from {known} to {size}")
        return await self.sets.patch(replica_set, {"spec": {"replicas": size}})

    async def _forget_history(self, body: Object, old: list[Object]) -> None:
        idle = [s for s in old if not _wanted(s) and not s.get("status", {}).get("replicas") and not being_deleted(s)]
        limit = body["spec"].get("revisionHistoryLimit", 10)
        for replica_set in sorted(idle, key=_revision)[: max(0, len(idle) - limit)]:
            await self.client.delete(REPLICA_SETS, replica_set)


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

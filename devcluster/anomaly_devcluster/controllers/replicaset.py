"""Keep as many pods as a ReplicaSet asks for."""

import time

from anomaly_devcluster import clock
from anomaly_devcluster.api.selectors import matches_selector
from anomaly_devcluster.client import PODS, REPLICA_SETS, ApiError, Object
from anomaly_devcluster.controllers import base
from anomaly_devcluster.controllers.base import Controller, being_deleted, gather_all, pod_of
from anomaly_devcluster.informer import Key, key_of
from anomaly_devcluster.pods import available_in, condition, is_active, is_ready

_BURST = 100
"""Pods created or deleted in one step."""


class ReplicaSetController(Controller):
    """Create and delete pods, count them in status."""

    def watch(self) -> None:
        """Follow ReplicaSets, their pods, and pods that nobody controls."""
        self.sets = self.on_objects(REPLICA_SETS)
        self.pods = self.on_children(PODS, "ReplicaSet")
        self.pods.on_change(self._orphan_changed)

    def _orphan_changed(self, _: str, pod: Object) -> None:
        if not pod["metadata"].get("ownerReferences"):
            labels = pod["metadata"].get("labels")
            for body in self.sets.namespaced(pod["metadata"]["namespace"]):
                if matches_selector(body["spec"].get("selector"), labels):
                    self.enqueue(key_of(body))

    async def reconcile(self, key: Key) -> float | None:
        """Scale one ReplicaSet."""
        body = self.sets.get(*key)
        if body is None:
            return None
        pods = [pod for pod in await self.claim(body, self.pods) if is_active(pod)]
        failure: ApiError | None = None
        if not being_deleted(body):
            try:
                await self._scale(body, pods)
            except ApiError as error:
                failure = error
            pods = [pod for pod in self.pods.owned_by(body) if is_active(pod)]
        again = await self._write_status(body, pods, failure)
        if failure is not None:
            raise failure
        return again

    async def _scale(self, body: Object, pods: list[Object]) -> None:
        missing = body["spec"].get("replicas", 1) - len(pods)
        if missing > 0:
            await gather_all([self._create(body) for _ in range(min(missing, _BURST))])
        elif missing < 0:
            victims = sorted(pods, key=deletion_rank)[: min(-missing, _BURST)]
            await gather_all([self._delete(body, pod) for pod in victims])

    async def _create(self, body: Object) -> None:
        try:
            created = await self.pods.create(pod_of(body))
        except ApiError as error:
            self.events.warning(body, "FailedCreate", f"Error creating: {error.message}")
            raise
        self.events.normal(body, "SuccessfulCreate", f"Created pod: {created['metadata']['name']}")

    async def _delete(self, body: Object, pod: Object) -> None:
        answer = await self.client.delete(PODS, pod)
        if answer and answer.get("metadata", {}).get("deletionTimestamp"):
            self.pods.record(answer)
        self.events.normal(body, "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")

    async def _write_status(self, body: Object, pods: list[Object], failure: ApiError | None) -> float | None:
        labels = body["spec"]["template"]["metadata"].get("labels") or {}
        waits = [available_in(pod, body["spec"].get("minReadySeconds", 0), time.time()) for pod in pods]
        conditions = [c for c in body.get("status", {}).get("conditions", []) if c["type"] != "ReplicaFailure"]
        if failure is not None:
            failed = base.condition("ReplicaFailure", "True", "FailedCreate", failure.message)
            conditions = base.set_condition(conditions, failed)
        status = {
            "replicas": len(pods),
            "fullyLabeledReplicas": sum(
                matches_selector({"matchLabels": labels}, pod["metadata"].get("labels")) for pod in pods
            ),
            "readyReplicas": sum(map(is_ready, pods)),
            "availableReplicas": sum(wait == 0 for wait in waits),
            "observedGeneration": body["metadata"].get("generation", 0),
            "conditions": conditions,
        }
        await self.write_status(self.sets, body, status)
        return min((wait for wait in waits if wait), default=None)


def deletion_rank(pod: Object) -> tuple[bool, bool, bool, float, float, str]:
    """Order pods for deletion: not running, not ready, cheap and new ones first, as Kubernetes does."""
    cost = (pod["metadata"].get("annotations") or {}).get("controller.kubernetes.io/pod-deletion-cost", "0")
    ready = condition(pod, "Ready") or {}
    ready_since = clock.parse(ready["lastTransitionTime"]) if ready.get("lastTransitionTime") else 0.0
    return (
        bool(pod["spec"].get("nodeName")),
        pod.get("status", {}).get("phase") == "Running",
        is_ready(pod),
        float(cost) if cost.lstrip("-").isdigit() else 0.0,
        -ready_since,
        pod["metadata"]["name"],
    )

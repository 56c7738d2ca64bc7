"""Say in each PodDisruptionBudget how many pods may be evicted now; the eviction itself is the API server's part."""

import math

from anomaly_devcluster.client import DISRUPTION_BUDGETS, PODS, REPLICA_SETS, Object
from anomaly_devcluster.controllers.base import Controller, condition, set_condition, share
from anomaly_devcluster.informer import Key, controller_of
from anomaly_devcluster.pods import is_active, is_ready


class DisruptionController(Controller):
    """Count healthy pods."""

    def watch(self) -> None:
        """Follow budgets and pods, and ReplicaSets for how many pods are expected."""
        self.budgets = self.on_objects(DISRUPTION_BUDGETS)
        self.sets = self.on_neighbours(REPLICA_SETS, self.budgets)
        self.pods = self.on_neighbours(PODS, self.budgets)

    async def reconcile(self, key: Key) -> float | None:
        """Write the status of one budget."""
        budget = self.budgets.get(*key)
        if budget is None:
            return None
        spec = budget["spec"]
        pods = [pod for pod in self.pods.selected(key[0], spec.get("selector")) if is_active(pod)]
        expected = self._expected(pods)
        desired = desired_healthy(spec, expected, len(pods))
        healthy = sum(map(is_ready, pods))
        allowed = max(0, healthy - desired)
        generation = budget["metadata"].get("generation", 0)
        held = ("True", "SufficientPods") if allowed else ("False", "InsufficientPods")
        enough = condition("DisruptionAllowed", *held) | {"observedGeneration": generation}
        status = {
            "observedGeneration": generation,
            "expectedPods": expected,
            "currentHealthy": healthy,
            "desiredHealthy": desired,
            "disruptionsAllowed": allowed,
            "conditions": set_condition(budget.get("status", {}).get("conditions") or [], enough),
        }
        before = {name: value for name, value in (budget.get("status") or {}).items() if name != "disruptedPods"}
        if before != status:
            await self.budgets.update({**budget, "status": status}, "status")
        return None

    def _expected(self, pods: list[Object]) -> int:
        owners: dict[str, int] = {}
        alone = 0
        for pod in pods:
            owner = controller_of(pod)
            body = self.sets.get(pod["metadata"]["namespace"], owner["name"]) if owner else None
            if owner is None or body is None:
                alone += 1
            else:
                owners[owner["uid"]] = body["spec"].get("replicas", 1)
        return alone + sum(owners.values())


def desired_healthy(spec: Object, expected: int, pods: int) -> int:
    """Return how many pods must stay healthy: percentages are of the expected pods, rounded up."""
    if (least := spec.get("minAvailable")) is not None:
        return math.ceil(share(least, expected))
    if (most := spec.get("maxUnavailable")) is not None:
        return max(0, expected - math.ceil(share(most, expected)))
    return pods

"""Scale a workload by what its pods really use of the processor."""

import math
import time

from anomaly_devcluster import clock
from anomaly_devcluster.api.quantities import parse_quantity
from anomaly_devcluster.client import AUTOSCALERS, PODS, Object
from anomaly_devcluster.controllers.base import Controller, condition, set_condition
from anomaly_devcluster.controllers.usage import Usage
from anomaly_devcluster.informer import Key
from anomaly_devcluster.pods import is_active, is_ready

_TOLERANCE = 0.1
_MEMORY_SECONDS = 3600


class AutoscalerController(Controller):
    """Reconcile each HorizontalPodAutoscaler every few seconds, as Kubernetes does (there: 15)."""

    period: float = 15
    usage: Usage

    def watch(self) -> None:
        """Follow autoscalers and pods."""
        self.autoscalers = self.on_objects(AUTOSCALERS)
        self.pods = self.informers(PODS)
        self._recommended: dict[Key, list[tuple[float, int]]] = {}  # lately, newest last: when, and how many replicas
        self.usage = Usage(self.client)

    async def reconcile(self, key: Key) -> float | None:
        """Scale the target of one autoscaler."""
        body = self.autoscalers.get(*key)
        if body is None:
            self._recommended.pop(key, None)
            return None
        target = body["spec"]["scaleTargetRef"]
        path = await self._scale_path(key[0], target)
        scale = await self.client.request("GET", path)
        current = scale["spec"].get("replicas", 0)
        wanted, metrics, problem = await self._recommend(body, scale, current)
        status: Object = {"currentReplicas": scale["status"].get("replicas", current), "currentMetrics": metrics}
        conditions = body.get("status", {}).get("conditions") or []
        scaling = condition("ScalingActive", "False" if problem else "True", *(problem or ("ValidMetricFound", "")))
        conditions = set_condition(conditions, scaling)
        desired = current
        if wanted is not None:
            desired, limited = self._bounded(key, body, current, wanted)
            able = condition("AbleToScale", "True", "ReadyForNewScale", "recommended size matches current size")
            conditions = set_condition(conditions, able)
            conditions = set_condition(conditions, limited)
        if desired != current:
            await self.client.request("PUT", path, {**scale, "spec": {**scale["spec"], "replicas": desired}})
            status["lastScaleTime"] = clock.now()
            self.events.normal(body, "SuccessfulRescale", f"New size: {desired}; reason: observed use of resources")
        else:
            status["lastScaleTime"] = body.get("status", {}).get("lastScaleTime")
        status |= {"desiredReplicas": desired, "conditions": conditions}
        await self.write_status(AUTOSCALERS, self.autoscalers, body, status)
        return self.period

    async def _scale_path(self, namespace: str, target: Object) -> str:
        version = target.get("apiVersion", "apps/v1")
        prefix = f"/apis/{version}" if "/" in version else f"/api/{version}"
        resources = (await self.client.request("GET", prefix))["resources"]
        plural = next((r["name"] for r in resources if r["kind"] == target["kind"] and "/" not in r["name"]), None)
        if plural is None:
            raise OSError(f"scaleTargetRef: {version} has no kind {target['kind']}")
        return f"{prefix}/namespaces/{namespace}/{plural}/{target['name']}/scale"

    async def _recommend(
        self, body: Object, scale: Object, current: int
    ) -> tuple[int | None, list[Object], tuple[str, str] | None]:
        """Return the size that the metrics ask for, their values, and what is wrong with them: reason and message."""
        if current == 0:
            return None, [], ("ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
        labels = dict(part.split("=", 1) for part in (scale["status"].get("selector") or "").split(",") if "=" in part)
        namespace = body["metadata"]["namespace"]
        pods = [p for p in self.pods.selected(namespace, (labels and {"matchLabels": labels}) or None) if is_active(p)]
        used = await self.usage.read()
        wanted: list[int] = []
        values: list[Object] = []
        for metric in body["spec"].get("metrics") or []:
            resource = metric.get("resource") if metric["type"] == "Resource" else None
            if resource is None or resource["name"] not in ("cpu", "memory"):
                return None, [], ("InvalidMetricSourceType", "devcluster scales by the resources cpu and memory only")
            measured = [
                (amount, pod)
                for pod in pods
                if is_ready(pod) and (amount := used.get(pod["metadata"]["uid"], {}).get(resource["name"])) is not None
            ]
            if not measured:
                return None, [], ("FailedGetResourceMetric", "no pod of the target has reported its use yet")
            try:
                ratio, value = _ratio(resource, measured)
            except LookupError as error:
                return None, [], ("FailedGetResourceMetric", str(error.args[0]))
            values.append({"type": "Resource", "resource": {"name": resource["name"], "current": value}})
            wanted.append(current if abs(ratio - 1) <= _TOLERANCE else math.ceil(ratio * len(measured)))
        return (max(wanted), values, None) if wanted else (None, [], ("InvalidMetricSourceType", "no metrics"))

    def _bounded(self, key: Key, body: Object, current: int, wanted: int) -> tuple[int, Object]:
        """Apply the stabilization window, the pace and the bounds; return the size and the ScalingLimited condition."""
        spec, now = body["spec"], time.time()
        behavior = spec.get("behavior") or {}
        known = self._recommended.get(key, [(now, current)])
        known = self._recommended[key] = [(at, n) for at, n in known if now - at < _MEMORY_SECONDS] + [(now, wanted)]
        down = (behavior.get("scaleDown") or {}).get("stabilizationWindowSeconds", 300)
        up = (behavior.get("scaleUp") or {}).get("stabilizationWindowSeconds", 0)
        size = current
        if wanted > current:
            size = max(current, min(n for at, n in known if at == now or now - at < up))
            size = min(size, max(2 * current, current + 4))
        elif wanted < current:
            size = min(current, max(n for at, n in known if at == now or now - at < down))
        least, most = spec.get("minReplicas", 1), spec["maxReplicas"]
        if size < least:
            message = "the desired replica count is less than the minimum replica count"
            return least, condition("ScalingLimited", "True", "TooFewReplicas", message)
        if size > most:
            message = "the desired replica count is more than the maximum replica count"
            return most, condition("ScalingLimited", "True", "TooManyReplicas", message)
        message = "the desired count is within the acceptable range"
        return size, condition("ScalingLimited", "False", "DesiredWithinRange", message)


def _ratio(resource: Object, measured: list[tuple[float, Object]]) -> tuple[float, Object]:
    """Return use over target and the current value; raises LookupError when a pod requests nothing."""
    name, target = resource["name"], resource["target"]
    total = sum(amount for amount, _ in measured)
    average = total / len(measured)
    value: Object = {"averageValue": f"{average * 1000:.0f}m" if name == "cpu" else f"{average:.0f}"}
    if target["type"] == "AverageValue":
        return average / float(parse_quantity(target["averageValue"])), value
    requested = 0.0
    for _, pod in measured:
        for container in pod["spec"]["containers"]:
            request = ((container.get("resources") or {}).get("requests") or {}).get(name)
            if request is None:
                pod_name = pod["metadata"]["name"]
                raise LookupError(f"missing request for {name} in container {container['name']} of Pod {pod_name}")
            requested += float(parse_quantity(request))
    percent = 100 * total / requested
    return percent / target["averageUtilization"], {**value, "averageUtilization": round(percent)}

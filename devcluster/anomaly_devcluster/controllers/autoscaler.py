"""Scale a workload by what its pods really use of the processor."""

import math
import time

from anomaly_devcluster import clock
from anomaly_devcluster.api.quantities import parse_quantity
from anomaly_devcluster.client import AUTOSCALERS, NODES, PODS, Client, Object
from anomaly_devcluster.controllers.base import Controller, condition, set_condition
from anomaly_devcluster.informer import Key
from anomaly_devcluster.pods import is_active, is_ready

_TOLERANCE = 0.1
_MEMORY_SECONDS = 3600
_LIMITED = {
    "TooFewReplicas": "the desired replica count is less than the minimum replica count",
    "TooManyReplicas": "the desired replica count is more than the maximum replica count",
    "DesiredWithinRange": "the desired count is within the acceptable range",
}


_SHORTEST_SECONDS = 1.0
_Cores = dict[str, float | None]
"""By the pod's UID, over the time since the last reading; None at first."""


class _NoRecommendationError(Exception):
    """Say in a reason and a message why the metrics ask for no size."""


class AutoscalerController(Controller):
    """Reconcile each HorizontalPodAutoscaler every few seconds, as Kubernetes does (there: 15)."""

    period: float = 15

    def watch(self) -> None:
        """Follow autoscalers and pods."""
        self.autoscalers = self.on_objects(AUTOSCALERS)
        self.pods = self.informers(PODS)
        self._recommended: dict[Key, list[tuple[float, int]]] = {}  # lately, newest last: when, and how many replicas
        self._usage = _Usage(self.client)

    async def reconcile(self, key: Key) -> float | None:
        """Scale the target of one autoscaler."""
        body = self.autoscalers.get(*key)
        if body is None:
            self._recommended.pop(key, None)
            return None
        path = await self._scale_path(key[0], body["spec"]["scaleTargetRef"])
        scale = await self.client.request("GET", path)
        desired = current = scale["spec"].get("replicas", 0)
        before = body.get("status", {})
        status: Object = {"currentReplicas": scale["status"].get("replicas", current)}
        status["lastScaleTime"] = before.get("lastScaleTime")
        try:
            wanted, metric = await self._recommend(body, scale)
            desired, reason = self._bounded(key, body, current, wanted)
            status["currentMetrics"] = [metric]
            limited = "False" if reason == "DesiredWithinRange" else "True"
            told = [
                condition("ScalingActive", "True", "ValidMetricFound"),
                condition("AbleToScale", "True", "ReadyForNewScale", "recommended size matches current size"),
                condition("ScalingLimited", limited, reason, _LIMITED[reason]),
            ]
        except _NoRecommendationError as error:
            told = [condition("ScalingActive", "False", *error.args)]
        if desired != current:
            await self.client.request("PUT", path, {**scale, "spec": {**scale["spec"], "replicas": desired}})
            status["lastScaleTime"] = clock.now()
            self.events.normal(body, "SuccessfulRescale", f"New size: {desired}; reason: observed use of resources")
        conditions = before.get("conditions") or []
        for each in told:
            conditions = set_condition(conditions, each)
        status |= {"desiredReplicas": desired, "conditions": conditions}
        await self.write_status(self.autoscalers, body, status)
        return self.period

    async def _scale_path(self, namespace: str, target: Object) -> str:
        version = target.get("apiVersion", "apps/v1")
        prefix = f"/apis/{version}" if "/" in version else f"/api/{version}"
        resources = (await self.client.request("GET", prefix))["resources"]
        plural = next((r["name"] for r in resources if r["kind"] == target["kind"] and "/" not in r["name"]), None)
        if plural is None:
            raise OSError(f"scaleTargetRef: {version} has no kind {target['kind']}")
        return f"{prefix}/namespaces/{namespace}/{plural}/{target['name']}/scale"

    async def _recommend(self, body: Object, scale: Object) -> tuple[int, Object]:
        """Return the size that the metric asks for, and its value; raises _NoRecommendationError."""
        current = scale["spec"].get("replicas", 0)
        if current == 0:
            why = "scaling is disabled since the replica count of the target is zero"
            raise _NoRecommendationError("ScalingDisabled", why)
        metrics = body["spec"].get("metrics") or []
        resource = metrics[0].get("resource") or {} if len(metrics) == 1 else {}
        if resource.get("name") != "cpu" or "averageUtilization" not in resource["target"]:
            why = "devcluster scales by the utilization of the resource cpu only"
            raise _NoRecommendationError("InvalidMetricSourceType", why)
        labels = dict(part.split("=", 1) for part in (scale["status"].get("selector") or "").split(",") if "=" in part)
        behind = self.pods.selected(body["metadata"]["namespace"], (labels and {"matchLabels": labels}) or None)
        used = await self._usage.read()
        pods = [p for p in behind if is_active(p) and is_ready(p) and used.get(p["metadata"]["uid"]) is not None]
        if not pods:
            raise _NoRecommendationError("FailedGetResourceMetric", "no pod of the target has reported its use yet")
        total = sum(used[pod["metadata"]["uid"]] or 0 for pod in pods)
        percent = 100 * total / sum(map(_requested, pods))
        ratio = percent / resource["target"]["averageUtilization"]
        value = {"averageValue": f"{1000 * total / len(pods):.0f}m", "averageUtilization": round(percent)}
        wanted = current if abs(ratio - 1) <= _TOLERANCE else math.ceil(ratio * len(pods))
        return wanted, {"type": "Resource", "resource": {"name": "cpu", "current": value}}

    def _bounded(self, key: Key, body: Object, current: int, wanted: int) -> tuple[int, str]:
        """Apply the stabilization window, the pace and the bounds; return the size and what limited it."""
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
        if least <= size <= most:
            return size, "DesiredWithinRange"
        return (least, "TooFewReplicas") if size < least else (most, "TooManyReplicas")


def _requested(pod: Object) -> float:
    """Return the cores that a pod requests; raises _NoRecommendationError if it does not say."""
    requested = 0.0
    for container in pod["spec"]["containers"]:
        request = ((container.get("resources") or {}).get("requests") or {}).get("cpu")
        if request is None:
            why = f"missing request for cpu in container {container['name']} of Pod {pod['metadata']['name']}"
            raise _NoRecommendationError("FailedGetResourceMetric", why)
        requested += float(parse_quantity(request))
    return requested


class _Usage:
    """Turn the processor time that nodes count into cores."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._seconds: dict[str, tuple[float, float]] = {}
        self._newest: _Cores = {}
        self._read_at = 0.0

    async def read(self) -> _Cores:
        """Return what each pod uses; raises OSError or aiohttp.ClientError when a node does not answer."""
        if time.monotonic() - self._read_at < _SHORTEST_SECONDS:
            return self._newest
        self._read_at = time.monotonic()
        newest: _Cores = {}
        for node in (await self._client.list(NODES))["items"]:
            status = node.get("status", {})
            addresses = [a["address"] for a in status.get("addresses") or [] if a["type"] == "InternalIP"]
            port = status.get("daemonEndpoints", {}).get("kubeletEndpoint", {}).get("Port")
            if addresses and port:
                summary = await self._client.request("GET", f"https://{addresses[0]}:{port}/stats/summary")
                for pod in summary["pods"]:
                    newest[pod["podRef"]["uid"]] = self._cores(pod)
        self._newest = newest
        return newest

    def _cores(self, pod: Object) -> float | None:
        uid, used = pod["podRef"]["uid"], [container["cpu"] for container in pod["containers"]]
        seconds: float = sum(u["usageCoreNanoSeconds"] for u in used) / 1e9
        at = max(clock.parse(u["time"]) for u in used)
        before = self._seconds.get(uid)
        self._seconds[uid] = at, seconds
        if before is None or at <= before[0] or seconds < before[1]:
            return None
        return (seconds - before[1]) / (at - before[0])

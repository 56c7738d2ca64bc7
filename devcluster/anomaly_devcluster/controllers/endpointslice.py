"""Publish which pods stand behind a Service, for people and clients that ask; the service proxy does not need it."""

import logging

from anomaly_devcluster.client import ENDPOINT_SLICES, PODS, SERVICES, UNPROCESSABLE, ApiError, Object
from anomaly_devcluster.controllers.base import Controller, being_deleted, owner_reference
from anomaly_devcluster.informer import Key, controller_uid, key_of
from anomaly_devcluster.pods import is_finished, is_ready, target_port

MANAGER = "endpointslice-controller.k8s.io"
_log = logging.getLogger(__name__)


class EndpointSliceController(Controller):
    """Keep one EndpointSlice a Service with a selector."""

    def watch(self) -> None:
        """Follow Services, pods and the slices themselves."""
        self.services = self.on_objects(SERVICES)
        self.slices = self.on_children(ENDPOINT_SLICES, "Service")
        self.pods = self.on_neighbours(PODS, self.services)
        self._refused = False

    async def reconcile(self, key: Key) -> float | None:
        """Write the slice of one Service."""
        service = self.services.get(*key)
        if service is None or being_deleted(service) or not service["spec"].get("selector") or self._refused:
            return None
        selector = {"matchLabels": service["spec"]["selector"]}
        behind = self.pods.selected(key[0], selector)
        pods = [pod for pod in behind if pod.get("status", {}).get("podIP") and not is_finished(pod)]
        wanted = {
            "addressType": "IPv4",
            "endpoints": [_endpoint(pod) for pod in sorted(pods, key=key_of)],
            "ports": _ports(service, pods),
        }
        try:
            await self._write(service, wanted)
        except ApiError as error:
            if error.code != UNPROCESSABLE:
                raise
            self._refused = True
            _log.info("EndpointSlices are not written: %s", error.message)
        return None

    async def _write(self, service: Object, wanted: Object) -> None:
        uid, name = service["metadata"]["uid"], service["metadata"]["name"]
        known = next(
            (s for s in self.slices.namespaced(service["metadata"]["namespace"]) if controller_uid(s) == uid), None
        )
        if known is None:
            labels = {"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": MANAGER}
            metadata = {
                "generateName": f"{name}-",
                "namespace": service["metadata"]["namespace"],
                "labels": (service["metadata"].get("labels") or {}) | labels,
                "ownerReferences": [owner_reference(service)],
            }
            await self.slices.create({"metadata": metadata, **wanted})
        elif any((known.get(name) or []) != value for name, value in wanted.items()):
            await self.slices.update({**known, **wanted})


def _endpoint(pod: Object) -> Object:
    ready, terminating = is_ready(pod), being_deleted(pod)
    reference = {"kind": "Pod"} | {key: pod["metadata"][key] for key in ("name", "namespace", "uid")}
    return {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": ready and not terminating, "serving": ready, "terminating": terminating},
        "nodeName": pod["spec"].get("nodeName"),
        "targetRef": reference,
    }


def _ports(service: Object, pods: list[Object]) -> list[Object]:
    """Return the slice's ports; a named target port is resolved in the first pod that declares it."""
    ports = []
    for port in service["spec"].get("ports") or []:
        numbers = [number for pod in pods if (number := target_port(pod, port))]
        if numbers:
            entry = {"name": port.get("name", ""), "port": numbers[0], "protocol": port.get("protocol", "TCP")}
            ports.append(entry)
    return ports

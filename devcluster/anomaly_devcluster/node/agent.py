"""The node: takes pods that wait for one, runs them, tells the API how they are."""

import asyncio
import logging
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from anomaly_devcluster.addresses import PodAddresses, node_address, pod_block, service_address
from anomaly_devcluster.client import (
    CONFIG_MAPS,
    CONFLICT,
    FAILURES,
    NOT_FOUND,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    VOLUME_CLAIMS,
    ApiError,
    Client,
    Object,
)
from anomaly_devcluster.events import EventRecorder
from anomaly_devcluster.informer import Informers, Key, key_of
from anomaly_devcluster.node import registration
from anomaly_devcluster.node.container import Backoff
from anomaly_devcluster.node.environment import service_variables
from anomaly_devcluster.node.images import ImageTable
from anomaly_devcluster.node.pod import Pod
from anomaly_devcluster.state import RUN_MARK

NAME = "devcluster"
_BIND_RETRY_SECONDS = 0.5
_INHERITED = (RUN_MARK, "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "USER", "LD_LIBRARY_PATH")
_log = logging.getLogger(__name__)


class Node:
    """Every pod of the cluster runs here."""

    def __init__(self, client: Client, informers: Informers, folder: Path, slot: int, backoff: Backoff) -> None:
        self.client = client
        self.folder = folder
        self.backoff = backoff
        self.slot = slot
        self.address = node_address(slot)
        self.addresses = PodAddresses(pod_block(slot))
        self.images = ImageTable(folder / "images.json")
        self.events = EventRecorder(client, "kubelet")
        self.pods: dict[str, Pod] = {}
        """By UID."""
        self.capacity = {
            "cpu": float(os.cpu_count() or 1),
            "memory": float(psutil.virtual_memory().total),
            "ephemeral-storage": float(psutil.disk_usage(str(folder)).total),
            "pods": 1000.0,
        }
        self._objects = {"ConfigMap": informers(CONFIG_MAPS), "Secret": informers(SECRETS)}
        self._services = informers(SERVICES)
        self._claims = informers(VOLUME_CLAIMS)
        self._known = informers(PODS)
        self._binding: set[str] = set()
        self._informers = informers

    async def run(self) -> None:
        """Register, then run pods until cancelled."""
        await self._informers.synced()
        self_reported = registration.Registration(self.client, NAME, self.address, self.capacity)
        await self_reported.register()
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self.events.run())
            tasks.create_task(self_reported.keep())
            for informer in self._objects.values():
                informer.on_change(self._configuration_changed)
            self._claims.on_change(self._claim_changed)
            self._known.on_change(self._pod_changed)

    def lookup(self, kind: str, namespace: str, name: str) -> Object | None:
        """Return a ConfigMap or Secret."""
        return self._objects[kind].get(namespace, name)

    async def issue_token(self, pod: Object, audience: str | None, seconds: int) -> Object:
        """Ask for a token of the pod's service account, bound to the pod; return the TokenRequest's status."""
        metadata = pod["metadata"]
        account = pod["spec"].get("serviceAccountName") or "default"
        bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        audiences = [audience] if audience else []
        wanted = {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": bound}
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": wanted}
        path = SERVICE_ACCOUNTS.path(metadata["namespace"], account, "token")
        status: Object = (await self.client.request("POST", path, request))["status"]
        return status

    def base_environment(self, pod: Object) -> dict[str, str]:
        """Return what every process of a pod finds: the node's own basics and where Services are."""
        api = urlsplit(self.client.access.server)
        host, port = str(api.hostname), str(api.port)
        base = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        base["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
        base["PYTHONUNBUFFERED"] = "1"
        if pod["spec"].get("enableServiceLinks", True):
            base |= service_variables(
                [
                    (service, service_address(service["spec"]["clusterIP"], self.slot))
                    for service in self._services.namespaced(pod["metadata"]["namespace"])
                    if service["spec"].get("clusterIP") not in (None, "", "None")
                ]
            )
        return base | {
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": port,
            "KUBERNETES_SERVICE_PORT_HTTPS": port,
            "KUBERNETES_PORT": f"tcp://{host}:{port}",
        }

    def _pod_changed(self, kind: str, body: Object) -> None:
        uid = body["metadata"]["uid"]
        pod = self.pods.get(uid)
        if kind == "DELETED":
            if pod is not None:
                pod.vanished()
        elif not body["spec"].get("nodeName"):
            if uid not in self._binding:
                self._binding.add(uid)
                self._tasks.create_task(self._bind(body))
        elif body["spec"]["nodeName"] == NAME:
            if pod is not None:
                pod.update(body)
            elif body.get("status", {}).get("phase") not in ("Succeeded", "Failed") or (
                "deletionTimestamp" in body["metadata"]
            ):
                self._tasks.create_task(self._run(body))

    async def _run(self, body: Object) -> None:
        uid = body["metadata"]["uid"]
        if uid in self.pods:
            return
        pod = self.pods[uid] = Pod(self, body)
        if "deletionTimestamp" in body["metadata"]:
            pod.update(body)
        try:
            await pod.run()
        except Exception:  # noqa: BLE001 - one pod that nobody foresaw must not stop the others
            _log.exception("pod %s", key_of(body))
        finally:
            del self.pods[uid]

    async def _bind(self, body: Object) -> None:
        """Give the pod to this node; say in an Event, and try again, when the node is not what it asks for."""
        metadata = {key: body["metadata"][key] for key in ("name", "namespace", "uid")}
        target = {"apiVersion": "v1", "kind": "Node", "name": NAME}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target}
        told = False
        while self._waits_for_node(body):
            problem = self._unschedulable(body)
            if problem and not told:
                self.events.warning(body, "FailedScheduling", f"0/1 nodes are available: {problem}")
            told = bool(problem)
            try:
                if not problem:
                    await self.client.request("POST", PODS.path_of(body, "binding"), binding)
                    break
            except FAILURES as error:
                if isinstance(error, ApiError) and error.code in (NOT_FOUND, CONFLICT):
                    break
                _log.warning("binding of pod %s: %s", key_of(body), error)
            await asyncio.sleep(_BIND_RETRY_SECONDS)
        self._binding.discard(metadata["uid"])

    def _waits_for_node(self, body: Object) -> bool:
        known = self._known.get(*key_of(body))
        if known is None or known["metadata"]["uid"] != body["metadata"]["uid"]:
            return False
        return not known["spec"].get("nodeName") and "deletionTimestamp" not in known["metadata"]

    def _unschedulable(self, body: Object) -> str | None:
        labels = registration.labels(NAME)
        wanted = body["spec"].get("nodeSelector") or {}
        if any(labels.get(key) != value for key, value in wanted.items()):
            return "1 node(s) didn't match Pod's node affinity/selector."
        for volume in body["spec"].get("volumes") or []:
            claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if claim and self._claims.get(body["metadata"]["namespace"], claim) is None:
                return f'persistentvolumeclaim "{claim}" not found.'
        return None

    def _configuration_changed(self, _: str, body: Object) -> None:
        for pod in list(self.pods.values()):
            if pod.body["metadata"]["namespace"] == body["metadata"]["namespace"]:
                pod.volumes_changed()

    def _claim_changed(self, kind: str, claim: Object) -> None:
        if kind != "DELETED" and claim.get("status", {}).get("phase") != "Bound":
            self._tasks.create_task(self._bind_claim(claim))

    async def _bind_claim(self, claim: Object) -> None:
        storage = (claim["spec"].get("resources", {}).get("requests") or {}).get("storage", "0")
        modes = claim["spec"].get("accessModes", [])
        status = {"phase": "Bound", "accessModes": modes, "capacity": {"storage": storage}}
        try:
            await self.client.patch(VOLUME_CLAIMS, claim, {"status": status}, "status")
        except FAILURES as error:
            _log.warning("claim %s: %s", key_of(claim), error)

    def pod_by_name(self, key: Key) -> Pod | None:
        """Return the newest pod of this namespace and name."""
        return next((pod for pod in reversed(self.pods.values()) if key_of(pod.body) == key), None)

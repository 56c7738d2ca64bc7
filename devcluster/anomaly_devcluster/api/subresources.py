"""Scale, logs, eviction, binding, tokens of service accounts, and the end of a namespace."""

import ssl
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import aiohttp

from anomaly_devcluster import clock
from anomaly_devcluster.api import wire
from anomaly_devcluster.api.authentication import ISSUER, Authenticator
from anomaly_devcluster.api.call import Answer, Call
from anomaly_devcluster.api.deleting import Deleter, Options, success
from anomaly_devcluster.api.errors import Cause, StatusError, bad_request, conflict, invalid, not_emulated, not_found
from anomaly_devcluster.api.jsonpath import first
from anomaly_devcluster.api.objects import read_object, read_typed
from anomaly_devcluster.api.reading import named
from anomaly_devcluster.api.resources import Catalog
from anomaly_devcluster.api.selectors import matches_selector, selector_text
from anomaly_devcluster.api.writing import Writer, patched
from anomaly_devcluster.store import Entry, Store

Object = dict[str, Any]
BUDGETS = "poddisruptionbudgets.policy"


class Subresources:
    """Answer what lies below an object, except status."""

    def __init__(
        self, store: Store, catalog: Catalog, authenticator: Authenticator, writer: Writer, deleter: Deleter
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._authenticator = authenticator
        self._writer = writer
        self._deleter = deleter
        self._session: aiohttp.ClientSession | None = None
        self.authority = ""
        """By which the certificates of nodes are verified, PEM."""

    async def close(self) -> None:
        """Close connections to nodes."""
        if self._session:
            await self._session.close()

    async def answer(self, call: Call) -> Answer | AsyncIterator[bytes]:
        """Answer a request; logs come in pieces. Raises StatusError."""
        if call.verb not in call.resource.subresources[call.subresource].verbs:
            raise StatusError(
                405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
            )
        entry = named(self._store, call)
        if call.subresource == "log":
            return await self._log(call, entry)
        answers = {
            "scale": self._scale,
            "eviction": self._evict,
            "binding": self._bind,
            "token": self._token,
            "finalize": self._finalize,
        }
        return answers[call.subresource](call, entry)

    def _scale(self, call: Call, entry: Entry) -> Answer:
        shown = scale_of(call, entry)
        if call.verb == "get":
            return Answer.of(shown)
        body = call.read()
        changed = read_typed(body if call.verb == "update" else patched(call, shown, body), "Scale")
        metadata = changed.get("metadata") or {}
        if (revision := metadata.get("resourceVersion")) and revision != str(entry.revision):
            raise conflict(call.resource.group, call.resource.plural, call.name)
        replicas = changed.get("spec", {}).get("replicas", 0)
        if replicas < 0:
            cause = Cause.invalid("spec.replicas", replicas, "must be greater than or equal to 0")
            raise invalid("autoscaling", "Scale", call.name, [cause])
        new = entry.copy()
        path = (call.resource.scale.get("specReplicasPath") or ".spec.replicas").strip(".").split(".")
        at = new
        for part in path[:-1]:
            at = at.setdefault(part, {})
        at[path[-1]] = replicas
        return Answer.of(scale_of(call, self._writer.change(call, entry, new)))

    async def _log(self, call: Call, entry: Entry) -> AsyncIterator[bytes]:
        """Pass on what the node's own server answers, as a kubelet's would be."""
        spec = entry.body["spec"]
        names = [c["name"] for c in [*spec.get("initContainers", ()), *spec["containers"]]]
        container = call.query.get("container") or (
            spec["containers"][0]["name"] if len(spec["containers"]) == 1 else ""
        )
        if not container:
            listed = " ".join(c["name"] for c in spec["containers"])
            raise bad_request(f"a container name must be specified for pod {call.name}, choose one of: [{listed}]")
        if container not in names:
            raise bad_request(f"container {container} is not valid for pod {call.name}")
        node = self._store.get("nodes", ("", spec.get("nodeName", "")))
        if node is None:
            raise bad_request(f"pod {call.name} does not have a host assigned")
        status = node.body.get("status", {})
        port = status.get("daemonEndpoints", {}).get("kubeletEndpoint", {}).get("Port")
        address = next((a["address"] for a in status.get("addresses") or () if a["type"] == "InternalIP"), None)
        if not port or not address:
            raise StatusError(503, "ServiceUnavailable", f"node {node.key[1]} does not say where its logs are served")
        query = urlencode({k: v for k, v in call.query.items() if k != "container"})
        url = f"https://{address}:{port}/containerLogs/{call.namespace}/{call.name}/{container}?{query}"
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=self.authority))
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers={"Authorization": f"Bearer {self._authenticator.admin_token}"},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            )
        try:
            response = await self._session.get(url)
        except aiohttp.ClientError as error:
            raise StatusError(500, "InternalError", f"Internal error occurred: Get {url!r}: {error}") from None
        if response.status != 200:  # noqa: PLR2004 - HTTP's OK
            text = (await response.text()).strip()
            response.release()
            reason = "NotFound" if response.status == 404 else "BadRequest"  # noqa: PLR2004 - HTTP's not found
            raise StatusError(response.status, reason, text or f"the node answered {response.status}")
        return _chunks(response)

    def _evict(self, call: Call, entry: Entry) -> Answer:
        """Delete a pod unless a disruption budget forbids it."""
        labels = entry.body["metadata"].get("labels") or {}
        counted = entry.body.get("status", {}).get("phase") not in ("Pending", "Succeeded", "Failed") and (
            "deletionTimestamp" not in entry.body["metadata"]
        )
        for budget in self._store.entries(BUDGETS, call.namespace):
            if not counted or not matches_selector(budget.body["spec"].get("selector"), labels):
                continue
            allowed = budget.body.get("status", {}).get("disruptionsAllowed", 0)
            if allowed <= 0:
                name = budget.key[1]
                cause = {"reason": "DisruptionBudget", "message": f"The disruption budget {name} does not allow it now"}
                message = "Cannot evict pod as it would violate the pod's disruption budget."
                raise StatusError(429, "TooManyRequests", message, {"causes": [cause]}, {"Retry-After": "10"})
            if not call.dry_run:
                changed = budget.copy()
                changed["status"]["disruptionsAllowed"] = allowed - 1
                changed["status"].setdefault("disruptedPods", {})[call.name] = clock.now()
                self._store.put(BUDGETS, budget.key, changed, budget)
        body = read_typed(call.read() if call.body.strip() else {}, "Eviction")
        self._deleter.remove(call, entry, Options.of(call, body.get("deleteOptions") or {}))
        return Answer(201, success())

    def _bind(self, call: Call, entry: Entry) -> Answer:
        target = read_typed(call.read(), "Binding").get("target", {}).get("name", "")
        body = entry.copy()
        if body["spec"].get("nodeName"):
            raise conflict(
                "", "pods", call.name, f"pod {call.name} is already assigned to node {body['spec']['nodeName']!r}"
            )
        body["spec"]["nodeName"] = target
        conditions = body["status"].setdefault("conditions", [])
        if not any(c["type"] == "PodScheduled" for c in conditions):
            conditions.append({"type": "PodScheduled", "status": "True", "lastTransitionTime": clock.now()})
        self._store.put("pods", entry.key, body, entry)
        return Answer(201, success())

    def _token(self, call: Call, entry: Entry) -> Answer:
        body = read_typed(call.read() if call.body.strip() else {}, "TokenRequest")
        spec = body.get("spec") or {}
        seconds = spec.get("expirationSeconds") or 3600
        bound: Object = {}
        if reference := spec.get("boundObjectRef"):
            if reference.get("kind") not in ("Pod", "Secret"):
                raise not_emulated(f"tokens bound to a {reference.get('kind')}")
            plural = f"{reference['kind'].lower()}s"
            owner = self._store.get(plural, (call.namespace, reference.get("name", "")))
            if owner is None:
                raise not_found("", plural, reference.get("name", ""))
            if plural == "pods" and owner.body["spec"].get("serviceAccountName") != call.name:
                other = "to pod running with different serviceaccount name."
                raise bad_request(f'cannot bind token for serviceaccount "{call.name}" {other}')
            uid = owner.body["metadata"]["uid"]
            if reference.get("uid") and reference["uid"] != uid:
                raise conflict("", plural, reference["name"], "the UID in the bound object reference does not match")
            bound = {reference["kind"].lower(): {"name": reference["name"], "uid": uid}}
        audiences = spec.get("audiences") or [ISSUER]
        token = self._authenticator.issue(call.namespace, entry.body, seconds=seconds, audiences=audiences, bound=bound)
        status = {"token": token, "expirationTimestamp": clock.now(seconds)}
        shown = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1"}
        metadata = {"name": call.name, "namespace": call.namespace, "creationTimestamp": clock.now()}
        return Answer.of(
            {**shown, "metadata": metadata, "spec": {**spec, "audiences": audiences}, "status": status}, 201
        )

    def _finalize(self, call: Call, entry: Entry) -> Answer:
        """Replace a namespace's finalizers; the last one away ends it."""
        wanted = read_object(call, call.read()).get("spec", {}).get("finalizers", [])
        body = entry.copy()
        body["spec"]["finalizers"] = wanted
        updated = self._store.put("namespaces", entry.key, body, entry)
        metadata = body["metadata"]
        if metadata.get("deletionTimestamp") and not wanted and not metadata.get("finalizers"):
            self._store.delete("namespaces", updated)
        return Answer(200, wire.full(call.resource, updated))


async def _chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.content.iter_any():
            yield chunk
    except aiohttp.ClientError:
        return  # the node went away; what there was has been passed on
    finally:
        response.close()


def scale_of(call: Call, entry: Entry) -> Object:
    """Return an object's Scale."""
    body, paths = entry.body, call.resource.scale
    metadata = body["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status: Object = {"replicas": first(body, paths.get("statusReplicasPath") or ".status.replicas") or 0}
    if call.resource.custom:
        selector = first(body, paths["labelSelectorPath"]) if paths.get("labelSelectorPath") else None
    else:
        selector = selector_text(body["spec"].get("selector") or {})
    if selector:
        status["selector"] = selector
    replicas = first(body, paths.get("specReplicasPath") or ".spec.replicas") or 0
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: metadata[name] for name in kept if name in metadata},
        "spec": {"replicas": replicas},
        "status": status,
    }

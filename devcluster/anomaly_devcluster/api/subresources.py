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
from anomaly_devcluster.api.errors import (
    Cause,
    StatusError,
    bad_request,
    conflict,
    invalid,
    not_allowed,
    not_emulated,
    not_found,
)
from anomaly_devcluster.api.jsonpath import first
from anomaly_devcluster.api.objects import read_object, read_typed
from anomaly_devcluster.api.reading import named
from anomaly_devcluster.api.resources import Catalog
from anomaly_devcluster.api.selectors import matches_selector, selector_text
from anomaly_devcluster.api.writing import Writer, finished, patched
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
            raise not_allowed()
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
        replicas = changed.get("spec", {}).get("replicas", 0)
        if replicas < 0:
            cause = Cause.invalid("spec.replicas", replicas, "must be greater than or equal to 0")
            raise invalid("autoscaling", "Scale", call.name, [cause])
        new = entry.copy()
        new["metadata"]["resourceVersion"] = (changed.get("metadata") or {}).get("resourceVersion")
        *path, last = (call.resource.scale.get("specReplicasPath") or ".spec.replicas").strip(".").split(".")
        at = new
        for part in path:
            at = at.setdefault(part, {})
        at[last] = replicas
        return Answer.of(scale_of(call, self._writer.change(call, entry, new)))

    async def _log(self, call: Call, entry: Entry) -> AsyncIterator[bytes]:
        """Pass on what the node's own server answers, as a kubelet's would be."""
        spec = entry.body["spec"]
        main = [c["name"] for c in spec["containers"]]
        container = call.query.get("container") or (main[0] if len(main) == 1 else "")
        if not container:
            listed = " ".join(main)
            raise bad_request(f"a container name must be specified for pod {call.name}, choose one of: [{listed}]")
        if container not in [*main, *(c["name"] for c in spec.get("initContainers") or ())]:
            raise bad_request(f"container {container} is not valid for pod {call.name}")
        node = self._store.get("nodes", ("", spec.get("nodeName", "")))
        if node is None:
            raise bad_request(f"pod {call.name} does not have a host assigned")
        address = first(node.body, '.status.addresses[?(@.type=="InternalIP")].address')
        port = first(node.body, ".status.daemonEndpoints.kubeletEndpoint.Port")
        query = urlencode({k: v for k, v in call.query.items() if k != "container"})
        url = f"https://{address}:{port}/containerLogs/{call.namespace}/{call.name}/{container}?{query}"
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=self.authority))
            headers = {"Authorization": f"Bearer {self._authenticator.admin_token}"}
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
            self._session = aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout)
        try:
            response = await self._session.get(url)
        except (aiohttp.ClientError, ValueError) as error:
            raise StatusError(500, "InternalError", f"Internal error occurred: Get {url!r}: {error}") from None
        if not response.ok:
            text = (await response.text()).strip()
            reason = "NotFound" if response.status == 404 else "BadRequest"  # noqa: PLR2004 - HTTP's not found
            raise StatusError(response.status, reason, text or f"the node answered {response.status}")
        return _chunks(response)

    def _evict(self, call: Call, entry: Entry) -> Answer:
        """Delete a pod unless a disruption budget forbids it."""
        metadata, phase = entry.body["metadata"], entry.body.get("status", {}).get("phase")
        counted = phase not in ("Pending", "Succeeded", "Failed") and "deletionTimestamp" not in metadata
        budgets = self._store.entries(BUDGETS, call.namespace) if counted else []
        for budget in budgets:
            if not matches_selector(budget.body["spec"].get("selector"), metadata.get("labels")):
                continue
            changed = budget.copy()
            status = changed.setdefault("status", {})
            status["disruptionsAllowed"] = status.get("disruptionsAllowed", 0) - 1
            status.setdefault("disruptedPods", {})[call.name] = clock.now()
            if status["disruptionsAllowed"] < 0:
                why = f"The disruption budget {budget.key[1]} does not allow it now"
                details = {"causes": [{"reason": "DisruptionBudget", "message": why}]}
                message = "Cannot evict pod as it would violate the pod's disruption budget."
                raise StatusError(429, "TooManyRequests", message, details, {"Retry-After": "10"})
            if not call.dry_run:
                self._store.put(BUDGETS, budget.key, changed, budget)
        body = read_typed(call.read() if call.body.strip() else {}, "Eviction")
        self._deleter.remove(call, entry, Options.of(call, body.get("deleteOptions") or {}))
        return success(201)

    def _bind(self, call: Call, entry: Entry) -> Answer:
        target = read_typed(call.read(), "Binding").get("target", {}).get("name", "")
        body = entry.copy()
        if node := body["spec"].get("nodeName"):
            raise conflict("", "pods", call.name, f"pod {call.name} is already assigned to node {node!r}")
        body["spec"]["nodeName"] = target
        scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": clock.now()}
        others = [c for c in body["status"].get("conditions") or () if c["type"] != "PodScheduled"]
        body["status"]["conditions"] = [*others, scheduled]
        self._store.put("pods", entry.key, body, entry)
        return success(201)

    def _token(self, call: Call, entry: Entry) -> Answer:
        body = read_typed(call.read() if call.body.strip() else {}, "TokenRequest")
        spec = body.get("spec") or {}
        seconds = spec.get("expirationSeconds") or 3600
        bound: Object = {}
        if reference := spec.get("boundObjectRef"):
            if reference.get("kind") != "Pod":
                raise not_emulated(f"tokens bound to a {reference.get('kind')}")
            pod = reference.get("name", "")
            owner = self._store.get("pods", (call.namespace, pod))
            if owner is None:
                raise not_found("", "pods", pod)
            if owner.body["spec"].get("serviceAccountName") != call.name:
                other = "to pod running with different serviceaccount name."
                raise bad_request(f'cannot bind token for serviceaccount "{call.name}" {other}')
            uid = owner.body["metadata"]["uid"]
            if reference.get("uid") not in (None, uid):
                raise conflict("", "pods", pod, "the UID in the bound object reference does not match")
            bound = {"pod": {"name": pod, "uid": uid}}
        audiences = spec.get("audiences") or [ISSUER]
        token = self._authenticator.issue(call.namespace, entry.body, seconds=seconds, audiences=audiences, bound=bound)
        metadata = {"name": call.name, "namespace": call.namespace, "creationTimestamp": clock.now()}
        head = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": metadata}
        status = {"token": token, "expirationTimestamp": clock.now(seconds)}
        return Answer.of({**head, "spec": {**spec, "audiences": audiences}, "status": status}, 201)

    def _finalize(self, call: Call, entry: Entry) -> Answer:
        """Replace a namespace's finalizers; the last one away ends it."""
        body = entry.copy()
        body["spec"]["finalizers"] = read_object(call, call.read()).get("spec", {}).get("finalizers", [])
        updated = self._store.put("namespaces", entry.key, body, entry)
        if finished(call.resource, body):
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
    selector: Any = paths.get("labelSelectorPath") and first(body, paths["labelSelectorPath"])
    if not call.resource.custom:
        selector = selector_text(body["spec"].get("selector") or {})
    if selector:
        status["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: metadata[name] for name in kept if name in metadata},
        "spec": {"replicas": first(body, paths.get("specReplicasPath") or ".spec.replicas") or 0},
        "status": status,
    }

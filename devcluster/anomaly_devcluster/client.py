"""A small asynchronous client of the Kubernetes API: plain objects, errors with the server's own words."""

import asyncio
import base64
import contextlib
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson
import yaml

Object = dict[str, Any]

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
NOT_FOUND = 404
CONFLICT = 409
GONE = 410
UNPROCESSABLE = 422


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object and where the API serves it."""

    version: str
    """`v1` or `group/version`."""
    plural: str
    kind: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the URL path of the collection, one object or one of its subresources."""
        parts = ["/apis" if "/" in self.version else "/api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)

    def path_of(self, body: Object, subresource: str | None = None) -> str:
        """Return the path of the object that `body` is."""
        metadata = body["metadata"]
        return self.path(metadata.get("namespace"), metadata["name"], subresource)


PODS = Resource("v1", "pods", "Pod")
SERVICES = Resource("v1", "services", "Service")
NODES = Resource("v1", "nodes", "Node", namespaced=False)
NAMESPACES = Resource("v1", "namespaces", "Namespace", namespaced=False)
CONFIG_MAPS = Resource("v1", "configmaps", "ConfigMap")
SECRETS = Resource("v1", "secrets", "Secret")
SERVICE_ACCOUNTS = Resource("v1", "serviceaccounts", "ServiceAccount")
VOLUME_CLAIMS = Resource("v1", "persistentvolumeclaims", "PersistentVolumeClaim")
EVENTS = Resource("v1", "events", "Event")
DEPLOYMENTS = Resource("apps/v1", "deployments", "Deployment")
REPLICA_SETS = Resource("apps/v1", "replicasets", "ReplicaSet")
JOBS = Resource("batch/v1", "jobs", "Job")
ENDPOINT_SLICES = Resource("discovery.k8s.io/v1", "endpointslices", "EndpointSlice")
AUTOSCALERS = Resource("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
DISRUPTION_BUDGETS = Resource("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget")
DEFINITIONS = Resource(
    "apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)


class ApiError(Exception):
    """What the API answered instead of doing what was asked."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message


FAILURES = (ApiError, aiohttp.ClientError, OSError)
"""What any request may raise: a refusal, or no answer at all."""


@dataclass(frozen=True)
class Access:
    """Where an API server is and as whom to talk to it, as a kubeconfig's current context says."""

    server: str
    authority: str
    """PEM of the certificate authority."""
    token: str | None
    context: ssl.SSLContext

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Self:
        """Read the current context.

        Raises KeyError, StopIteration or OSError when the file is none.
        """
        config = yaml.safe_load(path.read_text())
        current = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
        cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == current["cluster"])
        user = next(u["user"] for u in config["users"] if u["name"] == current["user"])
        authority = _pem(cluster, "certificate-authority") or ""
        context = ssl.create_default_context(cadata=authority)
        certificate, key = _pem(user, "client-certificate"), _pem(user, "client-key")
        if certificate and key:
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as both:  # load_cert_chain takes paths only
                both.write(certificate + "\n" + key)
                both.flush()
                context.load_cert_chain(both.name)
        return cls(cluster["server"].rstrip("/"), authority, user.get("token"), context)


def _pem(section: Mapping[str, str], name: str) -> str | None:
    if data := section.get(f"{name}-data"):
        return base64.b64decode(data).decode()
    return Path(section[name]).read_text() if name in section else None


class Client:
    """Talk to one API server; use as an asynchronous context manager."""

    def __init__(self, access: Access, manager: str) -> None:
        self.access = access
        self._headers = {"User-Agent": f"devcluster/{manager}"}
        if access.token:
            self._headers["Authorization"] = f"Bearer {access.token}"
        self._manager = manager

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            base_url=self.access.server,
            headers=self._headers,
            connector=aiohttp.TCPConnector(ssl=self.access.context, limit=0),
            timeout=aiohttp.ClientTimeout(total=30),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        """Send one request and return the answer's object.

        Raises ApiError for any answer but 2xx, aiohttp.ClientError or TimeoutError when there is none.
        """
        query = dict(params or {})
        if method in ("POST", "PUT", "PATCH"):
            query["fieldManager"] = f"devcluster-{self._manager}"
        data = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": content_type} if data else None
        async with self._session.request(method, path, data=data, params=query, headers=headers) as response:
            content = await response.read()
            if response.status >= 300:  # noqa: PLR2004 - everything but 2xx
                raise _error(response.status, content)
            answer: Object = orjson.loads(content)
            return answer

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        """Read one object."""
        return await self.request("GET", resource.path(namespace, name))

    async def list(self, resource: Resource, namespace: str | None = None, **params: str) -> Object:
        """Read a whole collection, as a List object."""
        return await self.request("GET", resource.path(namespace), params=params)

    async def create(self, resource: Resource, body: Object) -> Object:
        """Create an object, given without its kind, in the namespace that it names."""
        whole = {"apiVersion": resource.version, "kind": resource.kind, **body}
        return await self.request("POST", resource.path(body["metadata"].get("namespace")), whole)

    async def update(self, resource: Resource, body: Object, subresource: str | None = None) -> Object:
        """Replace an object; 409 if it changed since it was read."""
        return await self.request("PUT", resource.path_of(body, subresource), body)

    async def patch(self, resource: Resource, body: Object, change: Any, subresource: str | None = None) -> Object:
        """Merge `change` into the object that `body` is; a list of operations is a JSON patch."""
        content_type = JSON_PATCH if isinstance(change, list) else MERGE
        return await self.request("PATCH", resource.path_of(body, subresource), change, content_type=content_type)

    async def delete(
        self, resource: Resource, body: Object, *, grace: int | None = None, policy: str | None = None
    ) -> Object | None:
        """Delete exactly this object (by UID); return None if it is gone already."""
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1"}
        options["preconditions"] = {"uid": body["metadata"]["uid"]}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        if policy:
            options["propagationPolicy"] = policy
        try:
            return await self.request("DELETE", resource.path_of(body), options)
        except ApiError as error:
            if error.code in (NOT_FOUND, CONFLICT):
                return None
            raise

    async def watch(self, resource: Resource, version: str) -> AsyncIterator[tuple[str, Object]]:
        """Yield events after `version` until the server ends the watch; raises ApiError(410) past the history."""
        params = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": "300"}
        # A connection that went dead without a word must not leave the watcher blind for long.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=90)
        async with self._session.get(resource.path(), params=params, timeout=timeout) as response:
            if response.status >= 300:  # noqa: PLR2004 - everything but 2xx
                raise _error(response.status, await response.read())
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = orjson.loads(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise ApiError(status.get("code", 500), status.get("reason", ""), status.get("message", ""))
                    yield event["type"], event["object"]


def _error(code: int, content: bytes) -> ApiError:
    try:
        status = json.loads(content)
        return ApiError(code, status.get("reason", ""), status.get("message", ""))
    except (ValueError, AttributeError):
        return ApiError(code, "", content.decode(errors="replace")[:500])


async def wait_ready(client: Client, seconds: float = 30) -> None:
    """Wait until the server has its first namespace; raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(*FAILURES):
                await client.get(NAMESPACES, None, "default")
                return
            await asyncio.sleep(0.02)

"""The API server: a thin asynchronous client that speaks plain dicts and answers with typed errors."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import aiohttp

from anomaly_operator.adapters.kubeconfig import KubeConfig, KubeConfigError

FIELD_MANAGER = "anomaly-operator"
TIMEOUT = 5.0
"""Seconds that one request may take, unless the caller says less."""
PAGE = 50
"""Objects of a LIST that are read at once: fifty pods are 0.8 MB, and parsing them keeps the loop."""

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object and where the API server keeps it."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the URL path of the collection or of one object."""
        root = "/api/v1" if self.api_version == "v1" else f"/apis/{self.api_version}"
        inside = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return (
            f"{root}{inside}/{self.plural}" + (f"/{name}" if name else "") + (f"/{subresource}" if subresource else "")
        )


RESOURCES: Mapping[str, Resource] = {
    resource.kind: resource
    for resource in (
        Resource("anomalymodel.dev/v1alpha1", "AnomalyModel", "anomalymodels"),
        Resource("v1", "Pod", "pods"),
        Resource("v1", "Service", "services"),
        Resource("v1", "ServiceAccount", "serviceaccounts"),
        Resource("v1", "ConfigMap", "configmaps"),
        Resource("v1", "Secret", "secrets"),
        Resource("apps/v1", "Deployment", "deployments"),
        Resource("apps/v1", "ReplicaSet", "replicasets"),
        Resource("apps/v1", "ControllerRevision", "controllerrevisions"),
        Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
        Resource("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
        Resource("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
        Resource("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
        Resource("batch/v1", "Job", "jobs"),
        Resource("coordination.k8s.io/v1", "Lease", "leases"),
        Resource("events.k8s.io/v1", "Event", "events"),
        Resource(
            "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies",
            namespaced=False,
        ),
        Resource(
            "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings",
            namespaced=False,
        ),
        Resource("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False),
    )
}  # fmt: skip


class KubeError(Exception):
    """The API server refused or did not answer."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        reason: str = "",
        retry_after: float | None = None,
        causes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        self.causes = causes

    @property
    def is_namespace_terminating(self) -> bool:
        """Return whether nothing can be made because the namespace is on its way out."""
        return "NamespaceTerminating" in self.causes


class NotFoundError(KubeError):
    """The object is not there (404)."""


class ConflictError(KubeError):
    """Somebody else was first, or it exists already (409)."""


class ForbiddenError(KubeError):
    """We may not (401, 403)."""


class InvalidError(KubeError):
    """What we sent is not acceptable (400, 413, 415, 422)."""


class UnavailableError(KubeError):
    """No answer, or an answer that says later (429, 5xx, timeouts, refused connections)."""


_ERRORS: Mapping[int, type[KubeError]] = {
    404: NotFoundError, 409: ConflictError, 401: ForbiddenError, 403: ForbiddenError,
    400: InvalidError, 413: InvalidError, 415: InvalidError, 422: InvalidError,
}  # fmt: skip


class Kube:
    """Speak with one API server; use as an asynchronous context manager."""

    def __init__(self, config: KubeConfig) -> None:
        self._config = config
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._config.ssl_context() or True, limit=0, keepalive_timeout=30)
        self._session = aiohttp.ClientSession(connector=connector, headers={"User-Agent": FIELD_MANAGER})
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, kind: str, namespace: str | None, name: str, *, seconds: float = TIMEOUT) -> Body:
        """Return one object; raises NotFoundError, UnavailableError, ..."""
        return await self._request("GET", RESOURCES[kind].path(namespace, name), seconds=seconds)

    async def list(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        keep: Callable[[Body], Body] | None = None,
    ) -> tuple[list[Body], str]:
        """Return all objects of a kind, in one namespace or in all, and the resourceVersion.

        They are read page by page; of each what `keep` returns is returned, so that all of them are never there whole.
        """
        items: list[Body] = []
        query: dict[str, str] = {"limit": str(PAGE)} | ({"labelSelector": labels} if labels else {})
        resource = RESOURCES[kind]
        while True:
            page = await self._request("GET", resource.path(namespace), query=query)
            for item in page.get("items") or ():
                # Items of a typed list come without them.
                item.setdefault("apiVersion", resource.api_version)
                item.setdefault("kind", resource.kind)
                items.append(item if keep is None else keep(item))
            metadata = page.get("metadata") or {}
            following = metadata.get("continue")
            if not following:
                return items, metadata.get("resourceVersion", "")
            query["continue"] = following

    async def create(self, kind: str, namespace: str | None, body: Body, *, seconds: float = TIMEOUT) -> Body:
        """Create one object; raises ConflictError if it exists."""
        return await self._request("POST", RESOURCES[kind].path(namespace), body, seconds=seconds)

    async def replace(self, kind: str, namespace: str | None, body: Body, *, seconds: float = TIMEOUT) -> Body:
        """Replace one object; with a resourceVersion in it a compare-and-set, raises ConflictError."""
        path = RESOURCES[kind].path(namespace, body["metadata"]["name"])
        return await self._request("PUT", path, body, seconds=seconds)

    async def apply(
        self, body: Body, *, subresource: str | None = None, dry_run: bool = False, seconds: float = TIMEOUT
    ) -> Body:
        """Apply one object on the server's side, by force; a resourceVersion in it makes it a compare-and-set."""
        metadata = body["metadata"]
        path = RESOURCES[body["kind"]].path(metadata.get("namespace"), metadata["name"], subresource)
        query = {"fieldManager": FIELD_MANAGER, "force": "true"} | ({"dryRun": "All"} if dry_run else {})
        return await self._request(
            "PATCH", path, body, query=query, media="application/apply-patch+yaml", seconds=seconds
        )

    async def merge_patch(
        self,
        kind: str,
        namespace: str | None,
        name: str,
        patch: Body,
        *,
        subresource: str | None = None,
        seconds: float = TIMEOUT,
    ) -> Body:
        """Apply a JSON merge patch (RFC 7396)."""
        path = RESOURCES[kind].path(namespace, name, subresource)
        query = {"fieldManager": FIELD_MANAGER}
        return await self._request(
            "PATCH", path, patch, query=query, media="application/merge-patch+json", seconds=seconds
        )

    async def scale(self, kind: str, namespace: str, name: str, replicas: int, *, seconds: float = TIMEOUT) -> Body:
        """Set the replicas through the scale subresource."""
        patch = {"spec": {"replicas": replicas}}
        return await self.merge_patch(kind, namespace, name, patch, subresource="scale", seconds=seconds)

    async def delete(
        self, kind: str, namespace: str | None, name: str, *, uid: str | None = None, seconds: float = TIMEOUT
    ) -> None:
        """Delete one object (that with `uid`, if given) and what it owns, in the background; gone already is fine."""
        body: Body = {"propagationPolicy": "Background"} | ({"preconditions": {"uid": uid}} if uid else {})
        try:
            await self._request("DELETE", RESOURCES[kind].path(namespace, name), body, seconds=seconds)
        except NotFoundError:
            return

    async def _request(
        self,
        method: str,
        path: str,
        body: Body | None = None,
        *,
        query: Mapping[str, str] | None = None,
        media: str = "application/json",
        seconds: float = TIMEOUT,
    ) -> Body:
        if self._session is None:
            raise RuntimeError("Kube is used before it is entered: `async with Kube(config) as kube`")
        try:
            token = self._config.token()
            async with self._session.request(
                method,
                self._config.server + path,
                data=None if body is None else json.dumps(body, separators=(",", ":")).encode(),
                params=query,
                headers={"Content-Type": media} | ({"Authorization": f"Bearer {token}"} if token else {}),
                timeout=aiohttp.ClientTimeout(total=seconds),
            ) as response:
                content = await response.read()
                if response.status < 300:  # noqa: PLR2004 - success, by HTTP
                    answer: Body = json.loads(content)
                    return answer
                raise _error(method, path, response, content)
        except (aiohttp.ClientError, TimeoutError, OSError, KubeConfigError) as error:
            raise UnavailableError(f"{method} {path}: {type(error).__name__}: {error}") from None


def _error(method: str, path: str, response: aiohttp.ClientResponse, content: bytes) -> KubeError:
    """Make a typed error of the server's Status object."""
    try:
        status = json.loads(content)
    except ValueError:
        status = {}
    if not isinstance(status, dict):
        status = {}
    message = status.get("message") or content[:200].decode(errors="replace") or response.reason
    kind = _ERRORS.get(response.status, UnavailableError)
    after = response.headers.get("Retry-After", "")
    return kind(
        f"{method} {path}: {response.status} {message}",
        status=response.status,
        reason=str(status.get("reason", "")),
        retry_after=float(after) if after.isdecimal() else None,
        causes=_causes(status.get("details")),
    )


def _causes(details: Any) -> tuple[str, ...]:
    """Return the reasons of `details.causes`."""
    causes = details.get("causes") if isinstance(details, dict) else None
    return tuple(str(cause.get("reason", "")) for cause in causes or () if isinstance(cause, dict))

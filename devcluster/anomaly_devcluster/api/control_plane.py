"""Everything behind the HTTPS server: who asks, for what, may they, and who answers."""

import ipaddress
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import orjson
from aiohttp import web

from anomaly_devcluster.api import discovery, openapi, protobuf
from anomaly_devcluster.api.admission import Admission, ServiceAddresses
from anomaly_devcluster.api.authentication import ADMIN, Authenticator
from anomaly_devcluster.api.authorization import Authorizer, is_review
from anomaly_devcluster.api.call import Answer, Call, Route, User, parse, route_of, verb_of
from anomaly_devcluster.api.custom import Definitions
from anomaly_devcluster.api.deleting import Deleter
from anomaly_devcluster.api.errors import StatusError, bad_request, no_such_path, not_emulated
from anomaly_devcluster.api.faults import Drop, Fault, Switchboard
from anomaly_devcluster.api.policies import Policies
from anomaly_devcluster.api.reading import Reader
from anomaly_devcluster.api.resources import Catalog
from anomaly_devcluster.api.subresources import Subresources
from anomaly_devcluster.api.watching import Watch
from anomaly_devcluster.api.writing import Writer
from anomaly_devcluster.data import data
from anomaly_devcluster.store import Store

_MAX_BODY = 3 * 1024 * 1024
_PUBLIC = ("/healthz", "/livez", "/readyz", "/version")


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that comes in pieces."""

    chunks: AsyncIterator[bytes]
    content_type: str = "application/json"


class ControlPlane:
    """The emulated control plane, without its network."""

    def __init__(self, services: ipaddress.IPv4Network) -> None:
        self.store = Store()
        self.catalog = Catalog()
        self.authenticator = Authenticator(self.store)
        self.authorizer = Authorizer(self.store)
        self.faults = Switchboard()
        self.reader = Reader(self.store)
        self.writer = Writer(self.store)
        policies = Policies(self.store)
        addresses = ServiceAddresses(self.store, services)
        definitions = Definitions(self.store, self.catalog)
        admission = Admission(self.store)
        self.writer.mutating += [admission.check_namespace, admission.complete_pod, addresses, definitions.admit]
        self.writer.validating += [self.authorizer.check_apply, self.authorizer.check_grant, policies]
        self.deleter = Deleter(self.store, [admission.check_namespace, policies])
        self._subresources = Subresources(self.store, self.catalog, self.authenticator, self.writer, self.deleter)
        self._verbs: dict[str, Callable[[Call], Answer]] = {
            "get": self.reader.get,
            "list": self.reader.list_selected,
            "create": self.writer.create,
            "update": self.writer.update,
            "patch": self.writer.patch,
            "delete": self.deleter.delete,
            "deletecollection": self.deleter.delete_collection,
        }
        self._services = services
        self._watches: set[Watch] = set()
        self._address = ""

    def start(self, host: str, port: int, authority: str) -> None:
        """Make the objects that every cluster begins with."""
        self._address = f"{host}:{port}"
        self._subresources.authority = authority
        for body in data("api/bootstrap", host=host, port=port, service=self._services[1]):
            kind = (body.pop("apiVersion"), body.pop("kind"))
            resource = next(r for r in self.catalog if (r.group_version, r.kind) == kind)
            namespace = body["metadata"].get("namespace", "")
            call = Call(user=ADMIN, verb="create", resource=resource, namespace=namespace, user_agent="kube-apiserver")
            self.writer.add(call, body)

    async def stop(self) -> None:
        """End what runs on its own."""
        await self._subresources.close()

    async def answer(self, request: web.BaseRequest) -> "Answer | Stream":
        """Answer a request; raises StatusError or Drop."""
        path, user = request.path, self._user(request)
        if route := route_of(path):
            return await self._resource(request, user, route)
        await self._strike(user, request.method.lower(), path)
        return await self._other(request, user, path)

    def _user(self, request: web.BaseRequest) -> User:
        transport = request.transport
        certificate = transport.get_extra_info("peercert") if transport else None
        user = self.authenticator.user(request.headers.get("Authorization", ""), certificate)
        if "Impersonate-User" in request.headers:
            raise not_emulated("impersonation")
        return user

    async def _strike(self, user: User, verb: str, resource: str, namespace: str = "", name: str = "") -> None:
        if self.faults.rules and not resource.startswith("/devcluster"):
            about = {"verb": verb, "resource": resource, "namespace": namespace, "name": name, "user": user.name}
            await self.faults.apply(about)

    async def _resource(self, request: web.BaseRequest, user: User, route: Route) -> "Answer | Stream":
        query = dict(request.query)
        verb = verb_of(route, request.method, query)
        await self._strike(user, verb, route.resource, route.namespace, route.name)
        self.authorizer.require(user, verb, route)
        resource = self.catalog.find(route.group, route.version, route.plural)
        if resource is None and not is_review(route):
            raise discovery.unknown(route.group, route.version, route.plural)
        content_type = request.headers.get("Content-Type", "application/json").partition(";")[0].strip()
        body = await _content(request)
        if content_type == protobuf.CONTENT_TYPE and body:
            body, content_type = orjson.dumps(protobuf.decode(body)), "application/json"
        if resource is None:
            return self.authorizer.review(user, route, parse(body or b"{}", content_type))
        call = Call(
            user=user,
            verb=verb,
            resource=resource,
            namespace=route.namespace,
            name=route.name,
            subresource=route.subresource,
            query=query,
            content_type=content_type,
            accept=request.headers.get("Accept", ""),
            body=body,
            user_agent=request.headers.get("User-Agent", ""),
        )
        answer = await self._serve(call)
        if isinstance(answer, Answer) and call.warnings:
            answer.headers["Warning"] = ", ".join(f"299 - {orjson.dumps(text).decode()}" for text in call.warnings)
        return answer

    async def _serve(self, call: Call) -> "Answer | Stream":
        if call.subresource and call.subresource not in call.resource.subresources:
            if call.subresource in ("exec", "attach", "portforward", "proxy", "ephemeralcontainers"):
                raise not_emulated(f"{call.resource.plural}/{call.subresource}")
            raise no_such_path()
        if call.subresource and call.subresource != "status":
            served = await self._subresources.answer(call)
            return served if isinstance(served, Answer) else Stream(served, "text/plain")
        if call.verb == "watch":
            return Stream(self._watch(Watch(self.store, call)))
        return self._verbs[call.verb](call)

    async def _watch(self, watch: Watch) -> AsyncIterator[bytes]:
        self._watches.add(watch)
        try:
            async for chunk in watch.lines():
                yield chunk
        finally:
            self._watches.discard(watch)

    async def _other(self, request: web.BaseRequest, user: User, path: str) -> Answer:
        if path.startswith(_PUBLIC):
            return Answer.of(discovery.VERSION) if path.rstrip("/") == "/version" else Answer(200, b"ok", "text/plain")
        needed = "system:masters" if path.startswith("/devcluster/") else "system:authenticated"
        if needed not in user.groups:
            why = f'User "{user.name}" cannot {request.method.lower()} path "{path}"'
            raise StatusError(403, "Forbidden", f"forbidden: {why}", {})
        if path.startswith("/devcluster/"):
            return await self._switchboard(request, path)
        return self._discovery(path.rstrip("/"), request.headers.get("Accept", ""))

    def _discovery(self, path: str, accept: str) -> Answer:
        if path in ("/api", "/apis") and "as=APIGroupDiscoveryList" in accept.partition(",")[0]:
            content_type = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            shown = discovery.aggregated(self.catalog, core=path == "/api")
            return Answer(200, orjson.dumps(shown), content_type)
        match path.strip("/").split("/"):
            case ["api"]:
                shown = discovery.core_versions(self._address)
            case ["apis"]:
                shown = discovery.group_list(self.catalog)
            case ["api", version]:
                shown = discovery.resource_list(self.catalog, "", version)
            case ["apis", group]:
                shown = discovery.group(self.catalog, group)
            case ["apis", group, version]:
                shown = discovery.resource_list(self.catalog, group, version)
            case ["openapi", "v3", *rest]:
                shown = openapi.answer(self.catalog, "/".join(rest))
            case ["openapi", "v2"]:
                return openapi.empty_v2(accept)
            case _:
                raise no_such_path()
        return Answer.of(shown)

    async def _switchboard(self, request: web.BaseRequest, path: str) -> Answer:
        """Answer `faults` (GET, POST, DELETE), and POST `drop-watches`, `freeze-watches`, `compact`."""
        action = path.removeprefix("/devcluster/")
        body = parse(await _content(request) or b"{}", "application/json")
        if not isinstance(body, dict):
            raise bad_request("expected an object")
        if action == "faults":
            if request.method == "POST":
                self.faults.rules.append(Fault.of(body))
            elif request.method == "DELETE":
                self.faults.rules.clear()
                for watch in self._watches:
                    watch.thaw()
            return Answer.of({"faults": [fault.as_object() for fault in self.faults.rules]})
        if request.method != "POST" or action not in ("drop-watches", "freeze-watches", "compact"):
            raise no_such_path()
        if action == "compact":
            self.store.compact()
            self.reader.forget_pages()
            return Answer.of({"compacted": self.store.revision})
        hit = [w for w in self._watches if not body.get("resource") or w.resource == body["resource"]]
        for watch in hit:
            watch.end(Drop()) if action == "drop-watches" else watch.freeze()
        return Answer.of({"watches": len(hit)})


async def _content(request: web.BaseRequest) -> bytes:
    """Read a request's body; raises StatusError(413) past the limit of a real API server."""
    body = bytearray()
    if request.can_read_body:
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > _MAX_BODY:
                raise StatusError(413, "RequestEntityTooLarge", f"limit is {_MAX_BODY} bytes")
    return bytes(body)

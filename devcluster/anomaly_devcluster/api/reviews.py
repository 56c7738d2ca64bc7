"""Questions that are answered and not stored: who am I, may I, may they, whose token is this."""

from typing import TYPE_CHECKING, Any

from anomaly_devcluster import clock
from anomaly_devcluster.api.authorization import Attributes
from anomaly_devcluster.api.builtin import kinds
from anomaly_devcluster.api.call import Answer, User
from anomaly_devcluster.api.errors import StatusError
from anomaly_devcluster.api.objects import read_typed
from anomaly_devcluster.api.routing import Route

if TYPE_CHECKING:
    from anomaly_devcluster.api.control_plane import ControlPlane

Object = dict[str, Any]
_KINDS = {(review["group"], review["plural"]): review["kind"] for review in kinds()["reviews"]}


def serves(route: Route) -> bool:
    """Say whether the request is such a question."""
    return (route.group, route.plural) in _KINDS and route.version == "v1" and not route.name


def answer(plane: "ControlPlane", user: User, route: Route, body: Object) -> Answer:
    """Answer it; raises StatusError(400)."""
    spec = read_typed(body, _KINDS[route.group, route.plural]).get("spec", {})
    match route.plural:
        case "selfsubjectreviews":
            status: Object = {"userInfo": user.as_object()}
        case "tokenreviews":
            status = _token(plane, spec)
        case "selfsubjectrulesreviews":
            status = _rules(plane, user, spec.get("namespace", ""))
        case "selfsubjectaccessreviews":
            status = _access(plane, user, spec)
        case _:
            extra = {key: tuple(values) for key, values in (spec.get("extra") or {}).items()}
            other = User(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""), extra)
            status = _access(plane, other, spec)
    kind = {"kind": _KINDS[route.group, route.plural], "apiVersion": f"{route.group}/v1"}
    return Answer.of({**kind, "metadata": {"creationTimestamp": clock.now()}, "spec": spec, "status": status}, 201)


def _token(plane: "ControlPlane", spec: Object) -> Object:
    try:
        user = plane.authenticator.token_user(spec.get("token", ""), spec.get("audiences"))
    except StatusError:
        return {"authenticated": False, "error": "invalid bearer token"}
    return {"authenticated": True, "user": user.as_object(), "audiences": spec.get("audiences") or []}


def _access(plane: "ControlPlane", user: User, spec: Object) -> Object:
    if paths := spec.get("nonResourceAttributes"):
        return {"allowed": plane.authorizer.allowed_path(user, paths.get("verb", ""), paths.get("path", ""))}
    asked = spec.get("resourceAttributes") or {}
    resource = asked.get("resource", "")
    if asked.get("subresource"):
        resource = f"{resource}/{asked['subresource']}"
    wanted = Attributes(
        asked.get("verb", ""), asked.get("group", ""), resource, asked.get("namespace", ""), asked.get("name", "")
    )
    return {"allowed": plane.authorizer.allowed(user, wanted)}


def _rules(plane: "ControlPlane", user: User, namespace: str) -> Object:
    rules = plane.authorizer.rules(user, namespace)
    if "system:masters" in user.groups:
        rules = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}, {"verbs": ["*"], "nonResourceURLs": ["*"]}]
    return {
        "resourceRules": [rule for rule in rules if rule.get("resources")],
        "nonResourceRules": [rule for rule in rules if rule.get("nonResourceURLs")],
        "incomplete": False,
    }

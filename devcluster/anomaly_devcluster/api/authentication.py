"""Who asks: the admin's token, tokens of ServiceAccounts, client certificates."""

import secrets
import time
import uuid
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from anomaly_devcluster.api.call import User
from anomaly_devcluster.api.errors import StatusError
from anomaly_devcluster.certificates import key_pem
from anomaly_devcluster.store import Store

ISSUER = "https://kubernetes.default.svc.cluster.local"
ADMIN = User("kubernetes-admin", ("system:masters", "system:authenticated"))
ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))
_EXTRA = "authentication.kubernetes.io/"


class Authenticator:
    """Issue and verify credentials."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._private = key_pem(self._key)
        self.admin_token = secrets.token_urlsafe(32)
        self._verified: dict[str, dict[str, Any]] = {}

    def issue(self, namespace: str, account: Any, *, seconds: int, audiences: list[str], bound: Any) -> str:
        """Return a token of a ServiceAccount (its object) for `seconds`; it ends with `bound`, if that is given.

        `bound` is the claim about a pod: `{"pod": {"name": ..., "uid": ...}}`, or empty.
        """
        at = int(time.time())
        metadata = account["metadata"]
        claim: dict[str, Any] = {"namespace": namespace}
        claim["serviceaccount"] = {"name": metadata["name"], "uid": metadata["uid"]}
        payload = {"iss": ISSUER, "aud": audiences, "iat": at, "nbf": at, "exp": at + seconds, "jti": str(uuid.uuid4())}
        payload |= {"sub": f"system:serviceaccount:{namespace}:{metadata['name']}", "kubernetes.io": claim | bound}
        return jwt.encode(payload, self._private, algorithm="ES256")

    def user(self, authorization: str, certificate: Any) -> User:
        """Return who a request is from; raises StatusError(401) for credentials that are not valid."""
        if authorization.lower().startswith("bearer "):
            return self.token_user(authorization[7:].strip())
        if authorization:
            raise unauthorized()
        return _certificate_user(certificate) if certificate else ANONYMOUS

    def token_user(self, token: str, audiences: list[str] | None = None) -> User:
        """Return whose token it is; raises StatusError(401)."""
        if secrets.compare_digest(token.encode(), self.admin_token.encode()):
            return ADMIN
        claims = self._claims(token)
        if not set(audiences or [ISSUER]) & set(claims["aud"]):
            raise unauthorized()
        claim = claims["kubernetes.io"]
        namespace, account = claim["namespace"], claim["serviceaccount"]
        if self._uid("serviceaccounts", namespace, account["name"]) != account["uid"]:
            raise unauthorized()
        extra = {f"{_EXTRA}credential-id": (f"JTI={claims['jti']}",)}
        if pod := claim.get("pod"):
            if self._uid("pods", namespace, pod["name"]) != pod["uid"]:
                raise unauthorized()
            extra |= {f"{_EXTRA}pod-name": (pod["name"],), f"{_EXTRA}pod-uid": (pod["uid"],)}
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        return User(claims["sub"], groups, account["uid"], extra)

    def _claims(self, token: str) -> dict[str, Any]:
        claims = self._verified.get(token)
        if claims is None:
            try:
                options: Any = {"verify_aud": False}
                key = self._key.public_key()
                claims = jwt.decode(token, key, algorithms=["ES256"], issuer=ISSUER, options=options)
            except jwt.InvalidTokenError:
                raise unauthorized() from None
            if len(self._verified) > 10_000:  # noqa: PLR2004 - only a bound on memory
                self._verified.clear()
            self._verified[token] = claims
        if claims["exp"] < time.time():
            raise unauthorized()
        return claims

    def _uid(self, resource: str, namespace: str, name: str) -> str | None:
        entry = self._store.get(resource, (namespace, name))
        return entry.body["metadata"]["uid"] if entry else None


def unauthorized() -> StatusError:
    """Answer 401."""
    return StatusError(401, "Unauthorized", "Unauthorized")


def _certificate_user(certificate: Any) -> User:
    """Read user and groups from a verified certificate, as ssl.SSLSocket.getpeercert returns it."""
    attributes = [pair for group in certificate.get("subject", ()) for pair in group]
    name = next((value for key, value in attributes if key == "commonName"), "")
    groups = tuple(value for key, value in attributes if key == "organizationName")
    return User(name, (*groups, "system:authenticated"))

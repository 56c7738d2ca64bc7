"""Who we are to the detectors: Ed25519 keys, and short-lived tokens made out to one pod each."""

import base64
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

LIFETIME = 55
"""Seconds that a token is good for; detectors accept up to 60, which leaves room for clocks that differ."""
WINDOW_LIFETIME = 3500
"""Seconds that a training Job's token is good for: the Job may have to wait for a node. Detectors accept up to 3600."""


class AdminKeyError(ValueError):
    """Say why a file holds no usable key."""


class AdminKeys:
    """The operator's private key, and the public ones that detectors are given."""

    def __init__(self, key: Ed25519PrivateKey, previous: Ed25519PrivateKey | None = None) -> None:
        self._key = key
        self._jwk = _jwk(key.public_key())
        self._previous = _jwk(previous.public_key()) if previous else None
        self._tokens: dict[str, tuple[float, str]] = {}

    @classmethod
    def load(cls, path: Path, previous: Path | None = None) -> "AdminKeys":
        """Read PEM files; raises AdminKeyError naming the file."""
        return cls(_load(path), _load(previous) if previous else None)

    def jwks(self) -> str:
        """Return the JWK Set (RFC 7517) of the public keys as JSON text."""
        keys = [self._jwk] + ([self._previous] if self._previous else [])
        return json.dumps({"keys": keys}, separators=(",", ":"), sort_keys=True)

    def token(self, audience: str) -> str:
        """Return a token for the pod with this UID; the same one for half its life."""
        now = time.time()
        made, token = self._tokens.get(audience, (0.0, ""))
        if now - made > LIFETIME / 2:
            self._tokens = {uid: kept for uid, kept in self._tokens.items() if now - kept[0] <= LIFETIME / 2}
            claims = {"iss": "anomaly-operator", "aud": audience, "iat": int(now), "exp": int(now) + LIFETIME}
            token = jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": self._jwk["kid"]})
            self._tokens[audience] = (now, token)
        return token

    def window_token(self, audience: str) -> str:
        """Return a token for a training Job: it opens `GET /window` of the pod with this UID alone, for an hour."""
        now = int(time.time())
        claims = {"iss": "anomaly-operator", "aud": audience, "iat": now, "exp": now + WINDOW_LIFETIME}
        return jwt.encode(claims | {"scope": "window"}, self._key, algorithm="EdDSA", headers={"kid": self._jwk["kid"]})


def _load(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise AdminKeyError(f"{path}: expected an Ed25519 private key (PEM, PKCS 8): {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise AdminKeyError(f"{path}: expected an Ed25519 private key (PEM, PKCS 8), got another kind of key")
    return key


def _jwk(key: Ed25519PublicKey) -> dict[str, Any]:
    """Return a JWK whose id is its thumbprint (RFC 7638)."""
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    core = {"crv": "Ed25519", "kty": "OKP", "x": _base64(raw)}
    thumbprint = hashlib.sha256(json.dumps(core, separators=(",", ":"), sort_keys=True).encode()).digest()
    return core | {"kid": _base64(thumbprint), "use": "sig", "alg": "EdDSA"}


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

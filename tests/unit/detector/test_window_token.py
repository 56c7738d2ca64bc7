"""A training Job's token opens one path, and may wait for the Job to start."""

import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anomaly_detector.admin import verify

KEY = Ed25519PrivateKey.generate()
KEYS = {"keys": [json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(KEY.public_key())) | {"kid": "k"}]}


def check(*, path, seconds, **claims):
    now = time.time()
    token = jwt.encode({"aud": "uid", "exp": now + seconds, **claims}, KEY, algorithm="EdDSA", headers={"kid": "k"})
    verify(f"Bearer {token}", keys=KEYS, audience="uid", now=now, path=path)


def test_a_window_token_may_live_for_an_hour():
    check(path="/window", seconds=3600, scope="window")


@pytest.mark.parametrize(
    ("path", "seconds", "claims", "words"),
    [
        ("/role", 60, {"scope": "window"}, "scope: 'window' does not open /role"),
        ("/window", 60, {"scope": "role"}, "scope: 'role' does not open /window"),
        ("/window", 4000, {"scope": "window"}, "exp: more than 3600 s ahead"),
        ("/window", 3600, {}, "exp: more than 60 s ahead"),
    ],
)
def test_it_opens_nothing_else_and_lives_no_longer(path, seconds, claims, words):
    with pytest.raises(jwt.InvalidTokenError, match=words):
        check(path=path, seconds=seconds, **claims)

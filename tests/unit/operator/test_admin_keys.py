import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from anomaly_detector.admin import verify
from anomaly_operator.adapters.admin import AdminKeyError, AdminKeys


def write(path, key):
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


@pytest.fixture
def key_file(tmp_path):
    return write(tmp_path / "key.pem", Ed25519PrivateKey.generate())


def test_a_training_jobs_token_opens_the_window_of_one_pod_and_nothing_else(key_file):
    keys = AdminKeys.load(key_file)
    found = {"keys": json.loads(keys.jwks()), "audience": "uid-1", "now": time.time()}
    authorization = f"Bearer {keys.window_token('uid-1')}"
    verify(authorization, path="/window", **found)
    with pytest.raises(jwt.InvalidTokenError):
        verify(authorization, path="/role", **found)
    with pytest.raises(jwt.InvalidAudienceError):
        verify(authorization, path="/window", **(found | {"audience": "uid-2"}))


def test_a_token_is_good_for_one_pod_and_at_most_a_minute(key_file):
    keys = AdminKeys.load(key_file)
    token = keys.token("uid-1")
    kid = jwt.get_unverified_header(token)["kid"]
    (found,) = [k for k in jwt.PyJWKSet.from_dict(json.loads(keys.jwks())).keys if k.key_id == kid]
    claims = jwt.decode(token, found, algorithms=["EdDSA"], audience="uid-1")
    assert time.time() < claims["exp"] <= time.time() + 60
    with pytest.raises(jwt.InvalidAudienceError):
        jwt.decode(token, found, algorithms=["EdDSA"], audience="uid-2")


def test_during_a_rotation_both_public_keys_are_given_and_no_private_one(key_file, tmp_path):
    previous = write(tmp_path / "previous.pem", Ed25519PrivateKey.generate())
    published = json.loads(AdminKeys.load(key_file, previous).jwks())["keys"]
    assert len({key["kid"] for key in published}) == 2
    assert all("d" not in key for key in published)
    old = AdminKeys.load(previous).token("uid")
    assert jwt.get_unverified_header(old)["kid"] in {key["kid"] for key in published}


def test_a_file_without_a_usable_key_is_named(tmp_path):
    wrong_kind = write(tmp_path / "ec.pem", ec.generate_private_key(ec.SECP256R1()))
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("secret stuff")
    for path in (wrong_kind, garbage, tmp_path / "none.pem"):
        with pytest.raises(AdminKeyError, match="expected an Ed25519 private key") as error:
            AdminKeys.load(path)
        assert str(path) in str(error.value)
        assert "secret stuff" not in str(error.value)

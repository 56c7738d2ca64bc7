import json

import pytest
from mlflow.webhooks.delivery import _generate_hmac_signature

from anomaly_operator.adapters.webhook import (
    DELIVERY,
    SIGNATURE,
    TIMESTAMP,
    TOLERANCE,
    Verifier,
    WebhookError,
    signature,
)

SECRET = "not a secret, a test"
NOW = 1_700_000_000
BODY = json.dumps({"entity": "model_version_alias", "action": "created", "data": {"name": "m", "alias": "a"}}).encode()


def headers(body=BODY, *, secret=SECRET, at=NOW, delivery="d-1"):
    return {DELIVERY: delivery, TIMESTAMP: str(at), SIGNATURE: signature(secret, delivery, str(at), body)}


@pytest.fixture
def verifier():
    return Verifier(lambda: SECRET, clock=lambda: NOW)


def test_the_signature_is_the_one_that_mlflow_makes():
    assert signature(SECRET, "d", "17", BODY) == _generate_hmac_signature(SECRET, "d", "17", BODY.decode())


def test_a_good_delivery_names_its_model(verifier):
    assert verifier.verify(headers(), BODY) == "m"


@pytest.mark.parametrize(
    ("given", "body"),
    [
        (headers(secret="another"), BODY),
        (headers(), BODY + b" "),
        (headers() | {DELIVERY: "d-2"}, BODY),
        (headers() | {SIGNATURE: ""}, BODY),
        (headers() | {SIGNATURE: "v1,ä"}, BODY),
        ({}, BODY),
    ],
)
def test_what_is_not_signed_with_the_secret_is_refused(verifier, given, body):
    with pytest.raises(WebhookError, match="does not fit") as error:
        verifier.verify(given, body)
    assert error.value.status == 401


@pytest.mark.parametrize("at", [NOW - TOLERANCE - 1, NOW + TOLERANCE + 1])
def test_an_old_delivery_is_refused(verifier, at):
    with pytest.raises(WebhookError, match="from the operator's clock"):
        verifier.verify(headers(at=at), BODY)


def test_a_delivery_is_accepted_once(verifier):
    verifier.verify(headers(), BODY)
    with pytest.raises(WebhookError, match="delivered before") as error:
        verifier.verify(headers(), BODY)
    assert error.value.status == 409


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data": {}}', b'{"data": {"name": 3}}', b'{"data": []}'])
def test_a_signed_body_that_names_no_model_is_refused(verifier, body):
    with pytest.raises(WebhookError, match="names no registered model") as error:
        verifier.verify(headers(body), body)
    assert error.value.status == 400

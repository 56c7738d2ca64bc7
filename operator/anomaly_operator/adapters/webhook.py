"""Webhooks of MLflow: who may wake us, and for which registered model.

Signature, as MLflow makes it: `v1,` + base64 of HMAC-SHA256 over `delivery id.timestamp.body`.
"""

import base64
import hashlib
import hmac
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

SIGNATURE, TIMESTAMP, DELIVERY = "X-MLflow-Signature", "X-MLflow-Timestamp", "X-MLflow-Delivery-Id"
TOLERANCE = 300
"""Seconds that a delivery may be old, or ahead of our clock."""
_REMEMBERED = 10_000


class WebhookError(ValueError):
    """Say why a delivery is refused; `status` is the HTTP answer."""

    def __init__(self, message: str, status: int = 401) -> None:
        super().__init__(message)
        self.status = status


def signature(secret: str, delivery: str, timestamp: str, body: bytes) -> str:
    """Return the signature of a delivery."""
    signed = f"{delivery}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()


class Verifier:
    """Verify deliveries: signature in constant time, then age, then that it has not been seen before."""

    def __init__(self, secret: Callable[[], str], *, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._clock = clock
        self._seen: OrderedDict[str, float] = OrderedDict()

    def verify(self, headers: Mapping[str, str], body: bytes) -> str:
        """Return the name of the registered model that a delivery is about; raises WebhookError."""
        delivery, timestamp = headers.get(DELIVERY, ""), headers.get(TIMESTAMP, "")
        expected = signature(self._secret(), delivery, timestamp, body)
        if not hmac.compare_digest(expected.encode(), headers.get(SIGNATURE, "").encode()):
            raise WebhookError(f"{SIGNATURE} does not fit: is the secret of the webhook the one that the operator has?")
        if not timestamp.isdecimal() or abs(self._clock() - int(timestamp)) > TOLERANCE:
            raise WebhookError(f"{TIMESTAMP} is more than {TOLERANCE} s from the operator's clock: {timestamp[:20]!r}")
        self._refuse_replay(delivery)
        return _model_name(body)

    def forget(self, headers: Mapping[str, str]) -> None:
        """Accept a delivery once more: what it asked for could not be done."""
        self._seen.pop(headers.get(DELIVERY, ""), None)

    def _refuse_replay(self, delivery: str) -> None:
        now = self._clock()
        while self._seen and (len(self._seen) >= _REMEMBERED or next(iter(self._seen.values())) < now - 2 * TOLERANCE):
            self._seen.popitem(last=False)
        if delivery in self._seen:
            raise WebhookError(f"{DELIVERY} {delivery[:64]!r} has been delivered before", 409)
        self._seen[delivery] = now


def _model_name(body: bytes) -> str:
    try:
        content: Any = json.loads(body)
        data = content["data"]
        # A registered model's own events call it `name`, so do those of its versions and aliases.
        name = data["name"]
    except (ValueError, KeyError, TypeError):
        name = None
    if not isinstance(name, str) or not name:
        raise WebhookError("the body names no registered model (data.name)", 400)
    return name

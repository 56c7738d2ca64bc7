"""The switchboard of faults, for tests: which requests are delayed, refused or cut, decided by a seed."""

import asyncio
import random
from dataclasses import dataclass, field, fields
from typing import Any

from anomaly_devcluster.api.builtin import kinds
from anomaly_devcluster.api.errors import Cause, StatusError, invalid
from anomaly_devcluster.api.schema import check, compile_custom, prune

_STATUS = {
    409: ("Conflict", "Operation cannot be fulfilled: injected fault"),
    429: ("TooManyRequests", "too many requests: injected fault"),
    500: ("InternalError", "Internal error occurred: injected fault"),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request: injected fault"),
}


class Drop(Exception):  # noqa: N818 - an order, not an error
    """Cut the connection without an answer."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """One rule; an empty selector matches everything."""

    action: str
    verb: str = ""
    resource: str = ""
    """Plural, with `/subresource` for one, such as `pods/status`."""
    namespace: str = ""
    name: str = ""
    user: str = ""
    code: int = 500
    seconds: float = 1.0
    """Of a delay; of how long a timeout holds the connection; of Retry-After."""
    count: int | None = None
    """How often; None is always."""
    probability: float = 1.0
    seed: int = 0
    hits: int = 0
    _random: random.Random = field(default_factory=random.Random, repr=False)

    @classmethod
    def of(cls, body: Any) -> "Fault":
        """Read a rule; raises StatusError(422) naming the field."""
        schema = compile_custom(kinds()["fault"])
        known = f"unknown field; known are {', '.join(schema.properties)}"
        causes = check(body, schema) + [Cause.forbidden(name, known) for name in prune(dict(body), schema)]
        if causes:
            raise invalid("devcluster", "Fault", "", causes)
        fault = cls(**body)
        fault._random.seed(fault.seed)
        return fault

    def as_object(self) -> dict[str, Any]:
        """Return the rule as JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "_random"}

    def strikes(self, request: dict[str, str]) -> bool:
        """Say whether a request is hit, and count it."""
        if self.count is not None and self.hits >= self.count:
            return False
        wanted = ("verb", "resource", "namespace", "name", "user")
        if any(getattr(self, name) and getattr(self, name) != request[name] for name in wanted):
            return False
        if self._random.random() >= self.probability:
            return False
        self.hits += 1
        return True


class Switchboard:
    """All rules in force."""

    def __init__(self) -> None:
        self.rules: list[Fault] = []

    async def apply(self, request: dict[str, str]) -> None:
        """Delay, or refuse by raising StatusError or Drop."""
        for fault in self.rules:
            if not fault.strikes(request):
                continue
            if fault.action == "delay":
                await asyncio.sleep(fault.seconds)
            elif fault.action == "reset":
                raise Drop
            elif fault.action == "timeout":
                await asyncio.sleep(fault.seconds)
                raise Drop
            else:
                reason, message = _STATUS[fault.code]
                retry = {"Retry-After": str(max(1, int(fault.seconds)))} if fault.code in (429, 503) else {}
                details = {"retryAfterSeconds": int(retry["Retry-After"])} if retry else None
                raise StatusError(fault.code, reason, message, details, retry)

"""The API server, and the pod's own annotations there, by server-side apply without force."""

import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from anomaly_detector.report import FIELD_MANAGER, PREFIX

TIMEOUT = aiohttp.ClientTimeout(total=5, connect=2)
_CONFLICT, _OK_BELOW = 409, 300
_FIELD = re.compile(r"metadata\.annotations\W*(" + re.escape(PREFIX) + r"[a-z-]+)")


class ApplyError(Exception):
    """Say why something was not written, and when to try again at the earliest."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server said."""

    status: int
    text: str
    retry_after: float

    @property
    def error(self) -> ApplyError:
        """Return it as an error."""
        return ApplyError(f"{self.status}: {_message(self.text)}", self.retry_after)


class ApiServer:
    """Speaks with the API server with the token that the node mounts, read anew each time since it rotates."""

    def __init__(self, url: str, credentials: Path) -> None:
        self._url, self._credentials = url, credentials
        self._session: aiohttp.ClientSession | None = None
        self._ca_mark: object = None

    async def send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        media: str = "application/json",
        **params: str,
    ) -> Answer:
        """Send a request and return the answer, whatever its status. Raises ApplyError when there is none."""
        try:
            token = (self._credentials / "token").read_text().strip()
            session = await self._connect()
            async with session.request(
                method,
                self._url + path,
                params=params,
                data=None if body is None else json.dumps(body),
                headers={"content-type": media, "authorization": f"Bearer {token}"},
            ) as answer:
                return Answer(answer.status, await answer.text(), _seconds(answer.headers.get("retry-after")))
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            raise ApplyError(f"{type(error).__name__}: {error}") from None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _connect(self) -> aiohttp.ClientSession:
        """Return a session that trusts the present `ca.crt`."""
        path = self._credentials / "ca.crt"
        mark = path.stat().st_mtime_ns if path.is_file() else None
        if self._session is None or mark != self._ca_mark:
            context = ssl.create_default_context(cafile=str(path) if mark is not None else None)
            await self.close()
            self._session = aiohttp.ClientSession(
                timeout=TIMEOUT,
                connector=aiohttp.TCPConnector(ssl=context, limit=2),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
            self._ca_mark = mark
        return self._session


class OwnPod:
    """Writes to one pod."""

    def __init__(self, api: ApiServer, *, namespace: str, pod: str) -> None:
        self._api, self._path = api, f"/api/v1/namespaces/{namespace}/pods/{pod}"
        self._manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod, "namespace": namespace}}

    async def apply(self, annotations: Mapping[str, str]) -> frozenset[str]:
        """Apply the annotations and return the keys that somebody else holds, which are left to them.

        Keys applied before and now absent are removed. Raises ApplyError.
        """
        held: frozenset[str] = frozenset()
        for _ in range(len(annotations) + 1):
            wanted = {key: value for key, value in annotations.items() if key not in held}
            conflicts = await self._patch(wanted)
            if not conflicts:
                return held
            held |= conflicts
        raise ApplyError(f"conflicts do not end: {', '.join(sorted(held))}")

    async def _patch(self, annotations: Mapping[str, str]) -> frozenset[str]:
        body = self._manifest | {"metadata": {**self._manifest["metadata"], "annotations": dict(annotations)}}  # type: ignore[dict-item]  # plain JSON
        media = "application/apply-patch+yaml"
        answer = await self._api.send("PATCH", self._path, body, media=media, fieldManager=FIELD_MANAGER)
        if answer.status < _OK_BELOW:
            return frozenset()
        if answer.status == _CONFLICT and (held := _held_by_others(answer.text)):
            return held & annotations.keys()
        raise answer.error


def _held_by_others(text: str) -> frozenset[str]:
    """Return the annotation keys that a conflict names, by its causes or else by its message."""
    try:
        status = json.loads(text)
        fields = [cause.get("field", "") for cause in (status.get("details") or {}).get("causes") or []]
        found = _FIELD.findall("\n".join(fields)) or _FIELD.findall(status.get("message", ""))
    except (ValueError, AttributeError, TypeError):
        return frozenset()
    return frozenset(found)


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return text[:200]


def _seconds(value: str | None) -> float:
    try:
        return min(300.0, max(0.0, float(value or 0)))
    except ValueError:
        return 0.0

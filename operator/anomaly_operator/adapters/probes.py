"""HTTP to the detector pods: roles, reports, and reference rows that are replayed as a trial."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import aiohttp

from anomaly_detector.report import MalformedReportError, Report
from anomaly_operator.adapters.admin import AdminKeys
from anomaly_operator.domain.model import ReplayResult, RoleOrder
from anomaly_operator.domain.names import ADMIN_PORT, SHADOW_PORT

TIMEOUT = 2.0
REQUEST_TIMEOUT = 5.0
"""Seconds that one replayed request may take before it counts as failed."""
EXPLAIN_TIMEOUT = 15.0
"""Seconds that a pod may take to explain the rows of a period: it does so beside its users' requests."""
ROWS_PER_REQUEST = 4
_MAX_BYTES = 8 * 2**20


class ProbeError(Exception):
    """A pod did not answer as it should; the message says which and how."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Target:
    """A pod and its address."""

    name: str
    uid: str
    ip: str

    def url(self, port: int, path: str) -> str:
        """Return a URL of the pod."""
        host = f"[{self.ip}]" if ":" in self.ip else self.ip
        return f"http://{host}:{port}{path}"


@dataclass(frozen=True, slots=True)
class Reference:
    """Reference rows of a model."""

    rows: list[Any]
    contamination: float | None


class Probes:
    """Speak with detector pods; use as an asynchronous context manager."""

    def __init__(self, keys: AdminKeys) -> None:
        self._keys = keys
        self._session: aiohttp.ClientSession | None = None

    def windows(self, pods: Sequence[Target]) -> str:
        """Return the `pods.json` of a training Job: where to read each pod's newest rows, and by which token."""
        opened = [
            {"name": pod.name, "url": pod.url(ADMIN_PORT, ""), "token": self._keys.window_token(pod.uid)}
            for pod in pods
        ]
        return json.dumps({"pods": opened}, separators=(",", ":"))

    async def __aenter__(self) -> Self:
        # Pods come and go with their addresses: an idle connection is worth little and may outlive its pod.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=5)
        self._session = aiohttp.ClientSession(connector=connector, headers={"User-Agent": "anomaly-operator"})
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def tell_role(self, pod: Target, order: RoleOrder) -> Report:
        """Tell a pod its role; returns its report. Raises ProbeError; status 409 means that it knows a newer epoch."""
        body = {
            "role": order.role,
            "epoch": order.epoch,
            "shadowPercent": order.shadow_percent,
            "passThrough": order.pass_through,
        }
        return _report(pod, await self._admin(pod, "PUT", "/role", body))

    async def stats(self, pod: Target) -> Report:
        """Return a pod's report as it is now; raises ProbeError."""
        return _report(pod, await self._admin(pod, "GET", "/stats"))

    async def reference(self, pod: Target, rows: int) -> Reference | None:
        """Return reference rows, None if the model came without any; raises ProbeError."""
        try:
            answer = await self._admin(pod, "GET", f"/reference?rows={rows}")
        except ProbeError as error:
            if error.status == 404:  # noqa: PLR2004 - Not Found, by HTTP
                return None
            raise
        found, contamination = answer.get("rows"), answer.get("contamination")
        if not isinstance(found, list) or not found:
            raise ProbeError(f"pod {pod.name}: /reference: expected rows, got {json.dumps(answer)[:80]}")
        return Reference(found[:rows], contamination if isinstance(contamination, int | float) else None)

    async def replay(self, pod: Target, reference: Target, *, rows: int, timeout: float) -> ReplayResult:  # noqa: ASYNC109 - of the whole trial
        """Send reference rows of `reference` to `pod` in small requests, and read the pod's own figures."""
        try:
            async with asyncio.timeout(timeout):
                found = await self.reference(reference, rows)
                sent = await self._send(pod, found.rows) if found else _Sent()
                report = await self.stats(pod)
        except ProbeError as error:
            return ReplayResult(done=True, at=time.time(), error=str(error))
        except TimeoutError:
            return ReplayResult(done=True, at=time.time(), error=f"pod {pod.name}: not done within {timeout:g} s")
        return ReplayResult(
            done=True,
            at=time.time(),
            requests=sent.requests,
            failed=sent.failed,
            rows=sent.rows,
            anomalies=sent.anomalies,
            latency=report.latency.get("replay", ()),
            rss_bytes=report.rssBytes or None,
            no_reference=found is None,
            contamination=found.contamination if found else None,
        )

    async def importance(self, pod: Target, start: float, end: float) -> dict[str, Any]:
        """Return mean |SHAP| by feature and the top anomalies of a pod's users between two times; raises ProbeError."""
        headers = {"Authorization": f"Bearer {self._keys.token(pod.uid)}"}
        path = f"/shap?from={start:.3f}&to={end:.3f}"
        return await self._request(pod, "GET", ADMIN_PORT, path, None, headers, EXPLAIN_TIMEOUT)

    async def _send(self, pod: Target, rows: Sequence[Any]) -> "_Sent":
        sent = _Sent()
        for start in range(0, len(rows), ROWS_PER_REQUEST):
            batch = rows[start : start + ROWS_PER_REQUEST]
            sent.requests += 1
            try:
                answer = await self._request(
                    pod,
                    "POST",
                    SHADOW_PORT,
                    "/predict",
                    {"rows": batch},
                    {"x-anomaly-source": "replay"},
                    REQUEST_TIMEOUT,
                )
                labels = [bool(prediction["anomaly"]) for prediction in answer["predictions"]]
            except ProbeError as error:
                if not error.status and sent.failed == sent.requests - 1 == 0:
                    raise  # it cannot even be reached: nothing is known about the model
                sent.failed += 1
            except (KeyError, TypeError):
                sent.failed += 1
            else:
                sent.rows += len(labels)
                sent.anomalies += sum(labels)
        return sent

    async def _admin(self, pod: Target, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._keys.token(pod.uid)}"}
        return await self._request(pod, method, ADMIN_PORT, path, body, headers, TIMEOUT)

    async def _request(
        self,
        pod: Target,
        method: str,
        port: int,
        path: str,
        body: dict[str, Any] | None,
        headers: dict[str, str],
        seconds: float,
    ) -> dict[str, Any]:
        if self._session is None:
            raise RuntimeError("Probes is used before it is entered: `async with Probes(keys) as probes`")
        where = f"pod {pod.name}: {method} {path.partition('?')[0]}"
        try:
            async with self._session.request(
                method,
                pod.url(port, path),
                json=body,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=seconds),
                allow_redirects=False,
            ) as response:
                content = await response.content.read(_MAX_BYTES)
                while not response.content.at_eof() and len(content) < _MAX_BYTES:
                    content += await response.content.read(_MAX_BYTES - len(content))
                status = response.status
        except TimeoutError:
            raise ProbeError(f"{where}: no answer within {seconds:g} s", status=504) from None
        except (aiohttp.ClientError, OSError) as error:
            raise ProbeError(f"{where}: {type(error).__name__}: {error}") from None
        if status != 200:  # noqa: PLR2004 - OK, by HTTP
            raise ProbeError(f"{where}: {status} {content[:200].decode(errors='replace')}", status=status)
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ProbeError(f"{where}: expected a JSON object, got {content[:80]!r}", status=status)
        return answer


@dataclass(slots=True)
class _Sent:
    requests: int = 0
    failed: int = 0
    rows: int = 0
    anomalies: int = 0


def _report(pod: Target, answer: dict[str, Any]) -> Report:
    try:
        return Report.from_json(json.dumps(answer))
    except MalformedReportError as error:
        raise ProbeError(f"pod {pod.name}: {error}", status=200) from None

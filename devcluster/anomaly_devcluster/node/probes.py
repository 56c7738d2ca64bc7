"""Ask a container how it is, and count the answers as a kubelet does."""

import asyncio
import ssl
from dataclasses import dataclass
from typing import Any, Literal, Self

import aiohttp

from anomaly_devcluster.client import Object

Kind = Literal["startup", "readiness", "liveness"]
_OK, _BAD = 200, 400


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe's numbers with Kubernetes' defaults."""

    handler: Object
    delay: float
    period: float
    timeout: float
    successes: int
    failures: int

    @classmethod
    def from_spec(cls, spec: Object) -> Self:
        """Read a container's startupProbe, readinessProbe or livenessProbe."""
        return cls(
            handler=spec,
            delay=spec.get("initialDelaySeconds") or 0,
            period=spec.get("periodSeconds") or 10,
            timeout=spec.get("timeoutSeconds") or 1,
            successes=spec.get("successThreshold") or 1,
            failures=spec.get("failureThreshold") or 3,
        )


class Verdict:
    """What a row of results amounts to: it flips only after the threshold's number of equal results."""

    def __init__(self, probe: Probe, kind: Kind) -> None:
        self.healthy: bool | None = {"startup": None, "readiness": False, "liveness": True}[kind]
        self._probe = probe
        self._last: bool | None = None
        self._run = 0

    def observe(self, succeeded: bool) -> bool:  # noqa: FBT001 - the result of a probe is a truth value
        """Take in one result; return whether the verdict changed."""
        self._run = self._run + 1 if succeeded == self._last else 1
        self._last = succeeded
        threshold = self._probe.successes if succeeded else self._probe.failures
        if self._run < threshold or self.healthy == succeeded:
            return False
        self.healthy = succeeded
        return True


def port_number(container: Object, port: int | str) -> int:
    """Return the number of a port given by number or by the name of a container port; raises ValueError."""
    if isinstance(port, int) or port.isdigit():
        return int(port)
    for declared in container.get("ports") or []:
        if declared.get("name") == port:
            return int(declared["containerPort"])
    raise ValueError(f"container {container['name']} has no port named {port}")


async def http_get(action: Object, container: Object, address: str, seconds: float) -> str | None:
    """Send the request of an httpGet action; return what is wrong with the answer, None if nothing is."""
    scheme = action.get("scheme", "HTTP").lower()
    host, port = action.get("host") or address, port_number(container, action["port"])
    url = f"{scheme}://{host}:{port}/{action.get('path', '/').lstrip('/')}"
    headers = {h["name"]: h["value"] for h in action.get("httpHeaders") or []}
    tls: Any = ssl._create_unverified_context() if scheme == "https" else False  # noqa: S323, SLF001 - as kubelet does
    connector = aiohttp.TCPConnector(ssl=tls, force_close=True)
    timeout = aiohttp.ClientTimeout(total=seconds)
    headers.setdefault("User-Agent", "kube-probe/devcluster")
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.get(url, headers=headers, allow_redirects=False) as response,
        ):
            await response.content.read(10240)
            if _OK <= response.status < _BAD:
                return None
            return f"HTTP probe failed with statuscode: {response.status}"
    except TimeoutError:
        return f'Get "{url}": context deadline exceeded (no answer in {seconds:g} s)'
    except (aiohttp.ClientError, OSError) as error:
        return f'Get "{url}": {error}'


async def tcp_connect(action: Object, container: Object, address: str, seconds: float) -> str | None:
    """Open a connection; return what is wrong, None if nothing is."""
    host, port = action.get("host") or address, port_number(container, action["port"])
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"dial tcp {host}:{port}: i/o timeout"
    except OSError as error:
        return f"dial tcp {host}:{port}: {error.strerror or error}"
    writer.close()
    return None

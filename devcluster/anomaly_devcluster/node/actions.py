"""What probes and lifecycle hooks do: an HTTP request, a TCP connection, a command. Each says what went wrong."""

import asyncio
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from anomaly_devcluster.client import Object
from anomaly_devcluster.node.environment import expand
from anomaly_devcluster.node.mounts import Mounts
from anomaly_devcluster.node.processes import Process

_OK, _BAD = 200, 400
_SUPPORTED = ("httpGet", "tcpSocket", "exec", "sleep")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an action takes place: a running container."""

    container: Object
    address: str
    env: Mapping[str, str]
    mounts: Mounts
    folder: Path
    """Where commands run."""
    scratch: Path
    """Where their output may lie for a moment."""


async def act(handler: Object, place: Place, seconds: float) -> str | None:
    """Do what a probe or hook asks for; return what went wrong, None if nothing did."""
    try:
        if "httpGet" in handler:
            return await http_get(handler["httpGet"], place.container, place.address, seconds)
        if "tcpSocket" in handler:
            return await tcp_connect(handler["tcpSocket"], place.container, place.address, seconds)
        if "exec" in handler:
            return await execute(handler["exec"]["command"], place, seconds)
        if "sleep" in handler:
            await asyncio.sleep(handler["sleep"]["seconds"])
            return None
    except ValueError as error:
        return str(error)
    asked = ", ".join(name for name in handler if isinstance(handler[name], dict))
    return f"{asked} is not supported by devcluster; use one of {', '.join(_SUPPORTED)}"


async def execute(command: list[str], place: Place, seconds: float) -> str | None:
    """Run a command in the container's surroundings; return its output if it fails."""
    words = [place.mounts.text(expand(word, place.env)) for word in command]
    output = place.scratch / f"exec-{secrets.token_hex(4)}"
    try:
        with output.open("wb") as sink:
            process = Process(words, place.env, place.folder, sink)
        try:
            async with asyncio.timeout(seconds):
                code = await process.wait()
        except TimeoutError:
            return f"command timed out: {' '.join(words)!r} timed out after {seconds:g}s"
        finally:
            process.kill()
    except OSError as error:
        return f"{words[0]}: {error.strerror}"
    else:
        said = output.read_bytes()[:1024].decode(errors="replace").strip()
        return None if code == 0 else said or f"exit code {code}"
    finally:
        output.unlink(missing_ok=True)


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

"""Plain requests to an API server, under whichever field manager is wanted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from anomaly_devcluster.client import Access

JSON, MERGE, APPLY = "application/json", "application/merge-patch+json", "application/apply-patch+yaml"


class Api:
    """Requests as the administrator."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def request(
        self, method: str, path: str, body: Any = None, *, media: str = JSON, manager: str = "benchmark", **query: str
    ) -> tuple[int, Any]:
        """Send a request; return the status and what was answered."""
        data = None if body is None else orjson.dumps(body)
        params = query | ({"fieldManager": manager} if method in ("POST", "PATCH") else {})
        async with self.session.request(method, path, data=data, params=params, headers={"Content-Type": media}) as got:
            return got.status, orjson.loads(await got.read())

    async def done(self, method: str, path: str, body: Any = None, **more: str) -> Any:
        """Send a request that has to succeed; raises RuntimeError with the server's words."""
        status, answer = await self.request(method, path, body, **more)
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {answer.get('message')}")
        return answer


@asynccontextmanager
async def api(kubeconfig: Path) -> AsyncIterator[Api]:
    access = Access.from_kubeconfig(kubeconfig)
    connector = aiohttp.TCPConnector(ssl=access.context, limit=0)
    headers = {"Authorization": f"Bearer {access.token}"}
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(access.server, headers=headers, connector=connector, timeout=timeout) as session:
        yield Api(session)

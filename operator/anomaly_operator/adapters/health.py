"""The operator's own port: /livez, /readyz, /metrics, and the registry's webhook."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from anomaly_operator.adapters.metrics import CONTENT_TYPE, Metrics
from anomaly_operator.adapters.webhook import Verifier, WebhookError

log = logging.getLogger(__name__)

LONGEST_LAG = 5.0
_BEAT = 0.5
_LARGEST_WEBHOOK = 2**20

Check = Callable[[], str | None]
"""Returns what is wrong, None if nothing is."""


class LoopLag:
    """Measure how late the event loop is."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.seconds = 0.0

    async def run(self) -> None:
        """Measure for ever."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _BEAT
            await asyncio.sleep(_BEAT)
            self.seconds = max(0.0, loop.time() - due)
            self._metrics.loop_lag.set(self.seconds)

    def check(self) -> str | None:
        """Return what is wrong."""
        return f"the event loop is {self.seconds:.1f} s late" if self.seconds > LONGEST_LAG else None


class HealthServer:
    """Serve health, metrics and webhooks."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        live: Mapping[str, Check],
        ready: Mapping[str, Check],
        refresh: Callable[[], None] = lambda: None,
        verifier: Verifier | None = None,
        on_webhook: Callable[[str], Awaitable[int | None]] | None = None,
    ) -> None:
        self._metrics = metrics
        self._live, self._ready, self._refresh = live, ready, refresh
        self._verifier, self._on_webhook = verifier, on_webhook
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port (that was found, if 0 was given)."""
        application = web.Application(client_max_size=_LARGEST_WEBHOOK)
        application.router.add_get("/livez", lambda _: _answer(self._live))
        application.router.add_get("/readyz", lambda _: _answer(self._ready))
        application.router.add_get("/metrics", self._render)
        if self._verifier is not None and self._on_webhook is not None:
            application.router.add_post("/webhooks/mlflow", self._webhook)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1, keepalive_timeout=15)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        found: int = self._runner.addresses[0][1]
        return found

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _render(self, _: web.Request) -> web.Response:
        self._refresh()
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    async def _webhook(self, request: web.Request) -> web.Response:
        if self._verifier is None or self._on_webhook is None:
            return web.json_response({"error": "webhooks are off"}, status=404)
        try:
            name = self._verifier.verify(request.headers, await request.read())
        except WebhookError as error:
            self._metrics.webhooks.labels("refused").inc()
            log.warning("a webhook was refused: %s", error)
            return web.json_response({"error": str(error)}, status=error.status)
        stamped = await self._on_webhook(name)
        if stamped is None:
            self._verifier.forget(request.headers)
            self._metrics.webhooks.labels("failed").inc()
            return web.json_response({"error": "not passed on to all models: deliver it again"}, status=503)
        self._metrics.webhooks.labels("accepted").inc()
        return web.json_response({"models": stamped}, status=202)


async def _answer(checks: Mapping[str, Check]) -> web.Response:
    """Return 200, or 503 with one line for each thing that is wrong."""
    found = {name: check() for name, check in checks.items()}
    lines = [f"[{'-' if wrong else '+'}] {name}: {wrong or 'ok'}" for name, wrong in found.items()]
    return web.Response(text="\n".join(lines) + "\n", status=503 if any(found.values()) else 200)

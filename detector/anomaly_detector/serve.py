"""`anomaly-detector serve`: build the parts, open the four ports, run until SIGTERM, end without losing a request."""

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Coroutine
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry

from anomaly_detector.accounting import Accounting
from anomaly_detector.admin import AdminServer
from anomaly_detector.cache import Cache
from anomaly_detector.config import Config, LiveConfig
from anomaly_detector.dataplane import DataPlane
from anomaly_detector.drain import PassThrough
from anomaly_detector.influx.writer import InfluxWriter
from anomaly_detector.kube import ApiServer, OwnPod
from anomaly_detector.loading import load, make_drift_detector
from anomaly_detector.metrics import CONTENT_TYPE, PodCollector, RequestMetrics, exposition
from anomaly_detector.observer import Observer
from anomaly_detector.pod import Pod, Serving
from anomaly_detector.rebuild import Rebuilder
from anomaly_detector.report import Drift
from anomaly_detector.reporter import Reporter
from anomaly_detector.roles import Roles
from anomaly_detector.server import DataServer
from anomaly_detector.settings import Settings
from anomaly_detector.shadow import ShadowTraffic
from anomaly_detector.source.lease import SourceLease
from anomaly_detector.source.reader import StreamSource
from anomaly_detector.window import Window

log = logging.getLogger(__name__)

USER_PORT, ADMIN_PORT, SHADOW_PORT, METRICS_PORT = 8080, 8081, 8082, 9090
KEEP_ALIVE_SECONDS = 60.0
BACKLOG = 1024
CONFIG_POLL_SECONDS = 1.0
IN_FLIGHT_GRACE_SECONDS = 15.0
IN_FLIGHT_POLL_SECONDS = 0.02
SHUTDOWN_SECONDS = 1.0


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises RefusedError or UnavailableError when the model cannot be loaded, and whatever a background task raised:
    a pod without it would be half alive.
    """
    stop = asyncio.Event()
    hurry = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, _set_all, stop, hurry)
    pod = _pod(settings)
    registry = CollectorRegistry()
    registry.register(PodCollector(pod))
    accounting = Accounting(pod, RequestMetrics(registry))
    runners = await _open_ports(pod, registry, accounting)
    background: set[asyncio.Task[None]] = set()
    try:
        if await _unless(stop, _load(pod, accounting)):
            _start(pod, background, stop)
            gc.collect()
            gc.freeze()  # what is loaded stays: later collections need not look through it
            pod.ready = True
            log.info("ready", extra={"scoring": pod.scoring, "revision": settings.revision})
            await stop.wait()
            pod.terminating = True
            log.info("terminating: %g s more of accepting", settings.drain_seconds)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(hurry.wait(), settings.drain_seconds)
    finally:
        pod.terminating = True
        await _close_ports(pod, runners)
        failed = [task for task in background if task.done()]
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await _close(pod)
    for task in failed:
        task.result()


def _set_all(*events: asyncio.Event) -> None:
    for event in events:
        event.set()


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work and return true; cancel it and return false if `stop` comes first."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        await working
        return True
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    return False


def _pod(settings: Settings) -> Pod:
    live = LiveConfig(settings.config_dir)
    live.poll()
    pod = Pod(
        settings=settings,
        live=live,
        window=Window(settings.window_seconds),
        roles=Roles(),
        pass_through=PassThrough(settings.neighbours[settings.other_color]),
        api=ApiServer(settings.kubernetes, settings.serviceaccount_dir) if settings.kubernetes else None,
    )
    pod.roles.on_change.append(pod.change_role)
    return pod


async def _open_ports(pod: Pod, registry: CollectorRegistry, accounting: Accounting) -> list[web.AppRunner]:
    cache = Cache(pod.settings.artifact.cache_dir)
    users = DataServer(pod, accounting, cache, for_users=True)
    shadow = DataServer(pod, accounting, cache, for_users=False)
    apps = {
        USER_PORT: users.app(),
        ADMIN_PORT: AdminServer(pod).app(),
        SHADOW_PORT: shadow.app(),
        METRICS_PORT: _metrics_app(registry),
    }
    runners = []
    try:
        for port, app in apps.items():
            runner = web.AppRunner(
                app,
                access_log=None,
                handle_signals=False,
                keepalive_timeout=KEEP_ALIVE_SECONDS,
                shutdown_timeout=SHUTDOWN_SECONDS,
            )
            runners.append(runner)
            await runner.setup()
            await _site(pod, runner, {USER_PORT: users, SHADOW_PORT: shadow}.get(port), port).start()
    except BaseException:
        for runner in runners:
            await runner.cleanup()
        raise
    return runners


def _site(pod: Pod, runner: web.AppRunner, server: DataServer | None, number: int) -> web.BaseSite:
    """Return the listening port of a runner, everyday requests first where the data plane is asked."""
    if server is None:
        return web.TCPSite(runner, pod.settings.bind, number, backlog=BACKLOG)
    site, port = server.site(runner, (pod.settings.bind, number), keep_alive=KEEP_ALIVE_SECONDS)
    if number == USER_PORT:
        pod.open_connections = lambda: len(port.connections) + len(port.server.connections)
    return site


async def _close_ports(pod: Pod, runners: list[web.AppRunner]) -> None:
    """Take no new connections, let requests in flight end, then close what is idle.

    aiohttp's own shutdown would stop reading bodies that are still arriving, so what is in flight is awaited first.
    """
    for runner in runners:
        for site in list(runner.sites):
            await site.stop()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(IN_FLIGHT_GRACE_SECONDS):
            while pod.busy:  # noqa: ASYNC110 - requests need not know that somebody waits for them
                await asyncio.sleep(IN_FLIGHT_POLL_SECONDS)
    # Together: each may take SHUTDOWN_SECONDS, and the node kills the pod when its grace is over.
    await asyncio.gather(*(runner.cleanup() for runner in runners))


def _metrics_app(registry: CollectorRegistry) -> web.Application:
    async def metrics(request: web.Request) -> web.Response:
        del request
        return web.Response(body=exposition(registry), headers={"content-type": CONTENT_TYPE})

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    return app


async def _load(pod: Pod, accounting: Accounting) -> None:
    """Load the model and build what depends on it."""
    config = pod.live.config
    plane = await load(pod.settings, config, pod.boot_id)
    detector = await asyncio.to_thread(make_drift_detector, plane.model, config)
    observer = Observer(plane.model.contract.features, detector)
    rebuilder = Rebuilder(plane, observer, config)
    shadow = ShadowTraffic(pod.settings.neighbours[pod.settings.other_color], plane.model.contract.features)
    observer.drift_source = pod.roles.drift_source
    pod.serving = Serving(plane=plane, observer=observer, shadow=shadow)

    influx = InfluxWriter(
        plane=plane,
        tags=pod.tags,
        report=pod.report,
        heartbeat=lambda: pod.live.config.heartbeat_seconds,
        config=pod.influx_config(),
    )
    pod.influx = influx
    pod.source = _source(pod, plane, accounting)

    def tell(drift: Drift) -> None:
        influx.note_drift(drift)
        pod.wake_reporter()

    def reconfigure(config: Config) -> None:
        influx.config = pod.influx_config()
        rebuilder.want(config)
        pod.wake_reporter()

    observer.on_check.append(tell)
    observer.listeners.append(influx.observe)
    pod.live.on_change.append(reconfigure)


def _source(pod: Pod, plane: DataPlane, accounting: Accounting) -> StreamSource | None:
    """Return what scores points without a client; the pod that holds the Lease does, of those that serve users."""
    settings = pod.settings
    if pod.api is None:
        return None

    def owner_uid() -> str | None:
        config = pod.live.config.source
        return None if config is None else config.owner_uid

    def wanted() -> bool:
        active = pod.roles.current.role == "active"
        return active and pod.ready and not pod.terminating and pod.live.config.source is not None

    lease = SourceLease(
        pod.api,
        namespace=settings.namespace,
        model=settings.model,
        pod=settings.pod_name,
        boot_id=pod.boot_id,
        owner_uid=owner_uid,
        wanted=wanted,
    )
    return StreamSource(plane=plane, accounting=accounting, lease=lease, tags=pod.tags, config=pod.source_config)


def _start(pod: Pod, tasks: set[asyncio.Task[None]], stop: asyncio.Event) -> None:
    """Start what runs beside the requests; if any of it dies, the pod ends, so that it is noticed."""
    serving = pod.serving
    if serving is None:
        return
    work: list[Coroutine[Any, Any, None]] = [serving.observer.run(), serving.shadow.run(), _follow_config(pod.live)]
    if pod.influx is not None:
        work.append(pod.influx.run())
    if pod.source is not None:
        work += [pod.source.lease.run(), pod.source.run()]
    if pod.api is not None:
        pod.reporter = Reporter(
            OwnPod(pod.api, namespace=pod.settings.namespace, pod=pod.settings.pod_name),
            build=pod.report,
            look=pod.look,
            sources=lambda: pod.roles.gated_sources,
            config=lambda: pod.live.config,
        )
        work.append(pod.reporter.run())
    else:
        log.warning("KUBERNETES_SERVICE_HOST is not set: nothing is reported")
    for coroutine in work:
        task = asyncio.create_task(coroutine)
        task.add_done_callback(lambda done: _ended(done, stop))
        tasks.add(task)


def _ended(task: asyncio.Task[None], stop: asyncio.Event) -> None:
    if task.cancelled():
        return
    log.error("a background task ended", exc_info=task.exception())
    stop.set()


async def _follow_config(live: LiveConfig) -> None:
    while True:
        await asyncio.sleep(CONFIG_POLL_SECONDS)
        try:
            live.poll()
        except Exception:
            log.exception("the new configuration could not be put in force")


async def _close(pod: Pod) -> None:
    await pod.pass_through.close()
    if pod.api is not None:
        await pod.api.close()
    if pod.serving is not None:
        pod.serving.plane.close()

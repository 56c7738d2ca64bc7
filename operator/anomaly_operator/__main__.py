"""The operator: settings become objects, objects become tasks. If any task ends, the process ends and says why."""

import asyncio
import logging
import signal
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from anomaly_operator.adapters import logs
from anomaly_operator.adapters.admin import AdminKeyError, AdminKeys
from anomaly_operator.adapters.health import HealthServer, LoopLag
from anomaly_operator.adapters.kube import Kube, KubeError, NotFoundError
from anomaly_operator.adapters.kubeconfig import KubeConfig, KubeConfigError
from anomaly_operator.adapters.lease import Elector
from anomaly_operator.adapters.metrics import Metrics
from anomaly_operator.adapters.probes import Probes
from anomaly_operator.adapters.registry import Registry
from anomaly_operator.adapters.runs import Runs
from anomaly_operator.adapters.webhook import Verifier
from anomaly_operator.domain import names
from anomaly_operator.domain.model import PodSettings
from anomaly_operator.runtime import triggers
from anomaly_operator.runtime.background import Background
from anomaly_operator.runtime.cache import Cache
from anomaly_operator.runtime.chronicle import Chronicle
from anomaly_operator.runtime.execute import Executor
from anomaly_operator.runtime.memory import Memories
from anomaly_operator.runtime.observe import Observer
from anomaly_operator.runtime.policy import PolicyWatch
from anomaly_operator.runtime.probing import Prober
from anomaly_operator.runtime.reconcile import URGENT_WORKERS, WORKERS, Reconciler
from anomaly_operator.runtime.recording import Recorder
from anomaly_operator.runtime.resolving import Resolver
from anomaly_operator.runtime.resync import Resync
from anomaly_operator.runtime.workqueue import Priority, WorkQueue
from anomaly_operator.settings import Settings, SettingsError, load

log = logging.getLogger(__name__)

LONGEST_WAIT = 60.0
"""Seconds that a model may wait in the queue before the process is taken for stuck."""


class Operator:
    """Everything that runs in one replica."""

    def __init__(self, settings: Settings, config: KubeConfig, keys: AdminKeys) -> None:
        self._settings, self._config = settings, config
        self._stop = asyncio.Event()
        self._synced = asyncio.Event()
        self._kube = Kube(config)
        self._probes = Probes(keys)
        self._registry = Registry(settings.credentials_dir)
        self._runs = Runs(settings.credentials_dir)
        self._metrics = Metrics()
        self._queue = WorkQueue()
        self._cache = Cache()
        self._background = Background()
        self._lag = LoopLag(self._metrics)
        self._observer = Observer(self._cache, Memories(), _pod_settings(settings, keys))
        self._elector = Elector(
            self._kube,
            settings.namespace,
            settings.identity,
            seconds=settings.lease_seconds,
            on_change=self._on_lead,
        )
        self._reconciler = self._compose()
        self._resync = Resync(
            self._kube,
            self._cache,
            self._metrics,
            kinds=triggers.KINDS,
            selector=triggers.selector,
            namespaces=settings.watch_namespaces,
            on_concern=lambda key: self._queue.add(key, priority=Priority.ROUTINE),
        )
        self._policy = PolicyWatch(self._kube, self._on_policy)
        self._recorder = self._compose_recorder()
        self._health = self._health_server()

    def _compose_recorder(self) -> Recorder:
        return Recorder(
            self._runs,
            self._probes,
            self._cache,
            self._observer,
            fence=self._elector,
            allowed=self._settings.allowed_tracking_uris,
            default_uri=self._settings.tracking_uri or "",
        )

    def _compose(self) -> Reconciler:
        allowed, default_uri = self._settings.allowed_tracking_uris, self._settings.tracking_uri or ""
        chronicle = Chronicle(
            self._registry,
            self._background,
            self._queue,
            self._metrics,
            allowed=allowed,
            default_uri=default_uri,
        )
        executor = Executor(
            self._kube,
            self._cache,
            Prober(self._probes, self._queue, self._background, self._elector.holds),
            chronicle,
            self._background,
            self._metrics,
            fence=self._elector,
            identity=self._settings.identity,
        )
        resolver = Resolver(self._registry, self._queue, self._metrics, allowed=allowed, default_uri=default_uri)
        return Reconciler(
            self._kube, self._queue, self._cache, self._observer, executor, resolver, self._metrics, fence=self._elector
        )

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT; raises if any part ends before."""
        async with AsyncExitStack() as stack:
            for client in (self._kube, self._probes, self._registry, self._runs):
                await stack.enter_async_context(client)
            stack.push_async_callback(self._background.stop)
            port = await self._health.start(self._settings.bind, self._settings.port)
            stack.push_async_callback(self._health.stop)
            log.info("listening", extra={"port": port, "identity": self._settings.identity})
            await self._run_tasks()

    async def _run_tasks(self) -> None:
        _on_signals(self._stop)
        try:
            await self._tasks()
        except BaseException:
            # A part of it died, and all others have been stopped: the next replica need not wait for the Lease's end.
            await self._elector.release()
            raise

    async def _tasks(self) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_endless(name, work), name=name)
                for name, work in (
                    ("loop lag", self._lag.run()),
                    ("fence", self._elector.watch_fence()),
                    ("policy", self._policy.run()),
                    *((f"worker {n}", self._reconciler.work()) for n in range(WORKERS)),
                    *((f"urgent worker {n}", self._reconciler.work(Priority.URGENT)) for n in range(URGENT_WORKERS)),
                    ("resync", self._sync()),
                    ("recorder", self._recorder.run()),
                )
            ]
            elector = group.create_task(self._lead(), name="elector")
            tasks.append(group.create_task(_endless("watches", self._watch()), name="watches"))
            await elector
            log.info("stopping")
            for task in tasks:
                task.cancel()

    async def _watch(self) -> None:
        """Watch from the first LIST on: Kopf gives up where an API server or a definition is not there yet."""
        await self._synced.wait()
        ready, never = asyncio.Event(), asyncio.Event()
        signals = asyncio.create_task(self._after(ready))
        await triggers.run(self._config, self._settings.watch_namespaces, self._on_change, ready=ready, stop=never)
        await signals

    async def _after(self, ready: asyncio.Event) -> None:
        """Take back the signals that Kopf takes while it starts: the Lease is to be released before it is stopped."""
        await ready.wait()
        _on_signals(self._stop)

    async def _sync(self) -> None:
        await self._resync.first()
        log.info("synced", extra={"objects": self._cache.counts()})
        self._synced.set()
        await self._resync.run()

    async def _lead(self) -> None:
        """Stand for election once everything is known: a leader that knows nothing would be of no use."""
        synced, stopped = asyncio.create_task(self._synced.wait()), asyncio.create_task(self._stop.wait())
        await asyncio.wait((synced, stopped), return_when=asyncio.FIRST_COMPLETED)
        synced.cancel()
        stopped.cancel()
        await self._policy.look()
        await self._elector.run(self._stop)

    def _on_change(self, kind: str, event: str | None, body: dict[str, Any]) -> None:
        concern = self._cache.remove(kind, body) if event == "DELETED" else self._cache.put(kind, body)
        if concern is not None:
            self._queue.add(concern[0], priority=concern[1])

    def _on_lead(self, leading: bool) -> None:  # noqa: FBT001 - called back with the one thing that changed
        self._metrics.leader.set(leading)
        self._reconciler.lead(leading)

    def _on_policy(self, in_place: bool) -> None:  # noqa: FBT001 - called back with the one thing that changed
        self._observer.policy_in_place = in_place
        for body in self._cache.models():
            self._queue.add((body["metadata"]["namespace"], body["metadata"]["name"]))

    def _health_server(self) -> HealthServer:
        secret = self._settings.webhook_secret_file
        return HealthServer(
            self._metrics,
            live={"loop": self._lag.check, "queue": self._check_queue, "watches": self._resync.check},
            ready={"synced": lambda: None if self._resync.synced else "the API server has not been listed yet"},
            refresh=self._refresh,
            verifier=None if secret is None else Verifier(lambda: Path(secret).read_text().strip()),
            on_webhook=self._on_webhook,
        )

    def _check_queue(self) -> str | None:
        waited = self._queue.longest_wait() if self._elector.holds() else 0.0
        return f"a model has been waiting for {waited:.0f} s" if waited > LONGEST_WAIT else None

    def _refresh(self) -> None:
        self._metrics.queue_depth.set(self._queue.depth())
        self._metrics.queue_wait.set(self._queue.longest_wait())
        for kind, count in self._cache.counts().items():
            self._metrics.models.labels(kind).set(count)

    async def _on_webhook(self, registered: str) -> int | None:
        """Stamp the models that follow a registered model; the leader sees the stamp and asks the registry.

        Returns how many, None if some could not be stamped, or are not known yet: to be delivered again.
        """
        stamped, missed = 0, not self._resync.synced
        for body in self._cache.models():
            metadata = body["metadata"]
            if ((body.get("spec") or {}).get("model") or {}).get("name") != registered:
                continue
            stamp = {"metadata": {"annotations": {names.REGISTRY_EVENT: datetime.now(UTC).isoformat()}}}
            try:
                await self._kube.merge_patch(names.KIND, metadata["namespace"], metadata["name"], stamp)
                stamped += 1
            except KubeError as error:
                missed = missed or not isinstance(error, NotFoundError)
                log.warning("a registry event could not be passed on: %s", error, extra=_at(body))
        return None if missed else stamped


def _at(body: dict[str, Any]) -> dict[str, str]:
    return {"namespace": body["metadata"]["namespace"], "model": body["metadata"]["name"]}


def _pod_settings(settings: Settings, keys: AdminKeys) -> PodSettings:
    return PodSettings(
        detector_image=settings.detector_image,
        tracking_uri=settings.tracking_uri or "",
        heartbeat_seconds=settings.report_heartbeat_seconds,
        readiness_period_seconds=settings.readiness_period_seconds,
        require_policy=settings.require_policy,
        jwks=keys.jwks(),
    )


def _on_signals(stop: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


async def _endless(name: str, work: Any) -> None:
    """Run what must not end; that it did is an error."""
    await work
    raise RuntimeError(f"{name} ended")


def _config(settings: Settings) -> KubeConfig:
    if settings.service_account_dir is not None:
        return KubeConfig.from_service_account(settings.service_account_dir)
    return KubeConfig.from_file(settings.kubeconfig or Path())


def main() -> int:
    """Run the operator; returns the exit code: 0 after SIGTERM, 2 for bad settings, 1 if a part of it died."""
    try:
        settings = load()
        keys = AdminKeys.load(settings.admin_key_file, settings.previous_admin_key_file)
        config = _config(settings)
    except (SettingsError, AdminKeyError, KubeConfigError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    logs.configure(settings.log_level)

    code = 0

    async def run() -> None:
        await Operator(settings, config, keys).run()

    try:
        asyncio.run(run())
    except* Exception as group:
        log.error("a part of the operator died", exc_info=group)  # noqa: TRY400 - with the whole group
        code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())

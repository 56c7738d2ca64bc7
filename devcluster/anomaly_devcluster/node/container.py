"""One container of a pod: start it, probe it, restart it as the pod's policy says, end it."""

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly_devcluster import clock
from anomaly_devcluster.client import Object
from anomaly_devcluster.node.actions import Place, act
from anomaly_devcluster.node.environment import ConfigurationError, expand
from anomaly_devcluster.node.images import UnknownImageError
from anomaly_devcluster.node.mounts import TERMINATION_LOG, Mounts
from anomaly_devcluster.node.probes import Kind, observe
from anomaly_devcluster.node.processes import CONTAINER_MARK, Process

if TYPE_CHECKING:
    from anomaly_devcluster.node.pod import Pod

_TERMINATION_BYTES = 4096
_LOG_BYTES = 2048
_IMAGE_CHECK_SECONDS = 0.25
_HEALTHY_SECONDS = 600
_KILLED = 137


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait between starts, seconds; the defaults are a kubelet's."""

    first: float = 10
    limit: float = 300


@dataclass
class Container:
    """One container and what it is doing."""

    spec: Object
    pod: "Pod"
    policy: str
    """`Always`, `OnFailure` or `Never`."""
    state: Object = field(default_factory=lambda: {"waiting": {"reason": "PodInitializing"}})
    last_state: Object = field(default_factory=dict)
    restarts: int = 0
    ready: bool = False
    started: bool = False
    process: Process | None = None
    identity: str = ""
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _delay: float = 0
    _env: dict[str, str] = field(default_factory=dict)
    _mounts: Mounts = field(default_factory=lambda: Mounts({}))

    @property
    def name(self) -> str:
        """The container's name."""
        name: str = self.spec["name"]
        return name

    def status(self) -> Object:
        """Return the ContainerStatus."""
        return {
            "name": self.name,
            "image": self.spec["image"],
            "imageID": f"devcluster://{self.spec['image']}" if self.identity else "",
            **({"containerID": self.identity} if self.identity else {}),
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last_state,
        }

    def recover(self, known: Object) -> None:
        """Continue from what the pod's status says of a container that ran before the node was restarted."""
        self.restarts = known.get("restartCount", 0)
        self.last_state = known.get("lastState") or {}
        state = known.get("state") or {}
        if "terminated" in state:
            self.state = state
        elif "running" in state:
            self.restarts += 1
            ended = {"exitCode": _KILLED, "reason": "ContainerStatusUnknown", "message": "the node was restarted"}
            times = {"startedAt": state["running"]["startedAt"], "finishedAt": clock.now()}
            self.last_state = {"terminated": {**ended, **times, "containerID": known.get("containerID", "")}}

    async def run(self) -> int:
        """Run until the container will not be started again; return its last exit code."""
        code = _KILLED
        while command := await self._prepared():
            code = await self._run_once(command)
            if self._stopping.is_set() or self.policy == "Never" or (self.policy == "OnFailure" and code == 0):
                break
            await self._wait_before_restart()
            if self._stopping.is_set():
                break
            self.restarts += 1
        return code

    async def stop(self, grace: Callable[[], float]) -> None:
        """End it: preStop hook, SIGTERM, and SIGKILL when the time that `grace` returns (loop time) has come."""
        self._stopping.set()
        if self.process is None or not self.process.running:
            return
        hook = (self.spec.get("lifecycle") or {}).get("preStop")
        terminate = asyncio.create_task(self._terminate(hook))
        ended = asyncio.create_task(self.process.wait())
        loop = asyncio.get_running_loop()
        try:
            while not ended.done() and (left := grace() - loop.time()) > 0:
                await asyncio.wait({ended}, timeout=min(left, 0.2))
        finally:
            terminate.cancel()
            self.process.kill()
        await ended

    async def _terminate(self, hook: Object | None) -> None:
        if hook is not None and (problem := await self._act(hook, 3600)):
            self.pod.event("Warning", "FailedPreStopHook", f"PreStopHook failed: {problem}")
        if self.process is not None:
            self.process.send(signal.SIGTERM)

    async def _prepared(self) -> list[str] | None:
        """Return the command line once image and configuration are there; None when told to stop before."""
        tries = 0
        while not self._stopping.is_set():
            try:
                return self._command()
            except UnknownImageError as error:
                reason = "ErrImagePull" if not tries else "ImagePullBackOff"
                self._wait_for(reason, str(error))
                if not tries:
                    self.pod.event("Warning", "Failed", f"Failed to pull image: {error}")
            except ConfigurationError as error:
                self._wait_for("CreateContainerConfigError", str(error))
                if not tries:
                    self.pod.event("Warning", "Failed", f"Error: {error}")
            tries += 1
            await self._pause(_IMAGE_CHECK_SECONDS if tries > 1 else 0.1)
        return None

    def _command(self) -> list[str]:
        """Return the translated command line; raises UnknownImageError or ConfigurationError."""
        image = self.pod.images.command(self.spec["image"])
        self._mounts = Mounts({**self.pod.mount_table(self.spec), self._termination_path: str(self._termination_file)})
        own, base = self.pod.environment(self.spec)
        self._env = base | {name: self._mounts.text(value) for name, value in own.items()}
        values = {"POD_IP": self.pod.address, **self._env}
        command = self.spec.get("command") or []
        asked = [self._mounts.text(expand(word, values)) for word in [*command, *(self.spec.get("args") or [])]]
        # The table's words are paths of this machine, even where one looks like a path of the container.
        return asked if command else [*(expand(word, values) for word in image), *asked]

    @property
    def _home(self) -> Path:
        return self.pod.folder / self.name

    @property
    def _termination_path(self) -> str:
        path: str = self.spec.get("terminationMessagePath") or TERMINATION_LOG
        return path

    @property
    def _termination_file(self) -> Path:
        return self._home / "termination-log"

    def log_file(self, *, previous: bool = False) -> Path:
        """Return where the output of this run, or of the one before, is kept."""
        return self._home / f"{self.restarts - previous}.log"

    def _wait_for(self, reason: str, message: str) -> None:
        waiting = {"waiting": {"reason": reason, "message": message}}
        if self.state != waiting:
            self.state = waiting
            self.pod.changed()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _run_once(self, command: list[str]) -> int:
        started = clock.now()
        self.identity = f"devcluster://{secrets.token_hex(32)}"
        try:
            self.process = self._start(command)
        except OSError as error:
            message = f"exec: {command[0]}: {error.strerror}"
            self.pod.event("Warning", "Failed", f"Error: {message}")
            self._ended(128, started, message, "StartError")
            return 128
        self.state = {"running": {"startedAt": started}}
        self.pod.event("Normal", "Started", f"Started container {self.name}")
        probes = asyncio.create_task(self._watch_health())
        try:
            code = await self.process.wait()
        finally:
            probes.cancel()
            self.process.kill()
        self._ended(code, started, self._termination_message(code))
        return code

    def _start(self, command: list[str]) -> Process:
        self._home.mkdir(parents=True, exist_ok=True)
        self._termination_file.unlink(missing_ok=True)
        log = self.log_file()
        if self.restarts > 1:
            log.with_stem(str(self.restarts - 2)).unlink(missing_ok=True)
        env = {**self._env, CONTAINER_MARK: self.identity}
        with log.open("ab", buffering=0) as output:
            return Process(command, env, self._folder(), output)

    def _folder(self) -> Path:
        wanted = self.spec.get("workingDir")
        place = self._mounts.path(wanted) or wanted if wanted else None
        return Path(place) if place and Path(place).is_dir() else self._home

    def _ended(self, code: int, started: str, message: str, reason: str | None = None) -> None:
        reason = reason or ("Completed" if code == 0 else "Error")
        times = {"startedAt": started, "finishedAt": clock.now()}
        ended = {"exitCode": code, "reason": reason, **times, "containerID": self.identity}
        self.state = {"terminated": ended | ({"message": message} if message else {})}
        self.ready = self.started = False
        self.pod.changed()

    def _termination_message(self, code: int) -> str:
        with contextlib.suppress(OSError):  # most containers leave none
            if text := self._termination_file.read_bytes()[:_TERMINATION_BYTES]:
                return text.decode(errors="replace")
        with contextlib.suppress(OSError):
            if code and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
                with self.log_file().open("rb") as log:
                    log.seek(-min(_LOG_BYTES, log.seek(0, os.SEEK_END)), os.SEEK_END)
                    return log.read().decode(errors="replace")
        return ""

    async def _wait_before_restart(self) -> None:
        terminated = self.state["terminated"]
        if clock.parse(terminated["finishedAt"]) - clock.parse(terminated["startedAt"]) >= _HEALTHY_SECONDS:
            self._delay = 0
        delay, self._delay = self._delay, min(max(self.pod.backoff.first, self._delay * 2), self.pod.backoff.limit)
        self.last_state = self.state
        if not delay:
            return
        name = f"{self.pod.body['metadata']['name']}_{self.pod.body['metadata']['namespace']}"
        message = f"back-off {delay:g}s restarting failed container={self.name} pod={name}"
        self.pod.event("Warning", "BackOff", f"Back-off restarting failed container {self.name}")
        self._wait_for("CrashLoopBackOff", message)
        await self._pause(delay)

    async def _watch_health(self) -> None:
        """Probe until cancelled: first startup, then readiness and liveness side by side."""
        begun = asyncio.get_running_loop().time()
        if "startupProbe" in self.spec:
            self.pod.changed()
            if not await self._follow("startup", begun):
                return
        self.started = True
        self.ready = "readinessProbe" not in self.spec
        self.pod.changed()
        kinds: list[Kind] = ["readiness", "liveness"]
        await asyncio.gather(*(self._follow(kind, begun) for kind in kinds if f"{kind}Probe" in self.spec))

    async def _follow(self, kind: Kind, begun: float) -> bool:
        """Act on what a probe says, until startup succeeds (True) or the container is to be restarted (False)."""
        spec = self.spec[f"{kind}Probe"]
        async for problem, healthy in observe(kind, spec, begun, self._act):
            if problem:
                self.pod.event("Warning", "Unhealthy", f"{kind.capitalize()} probe failed: {problem}")
            if kind == "readiness" and self.ready != bool(healthy):
                self.ready = bool(healthy)
                self.pod.changed()
            elif kind == "startup" and healthy:
                return True
            elif kind != "readiness" and healthy is False and not self._stopping.is_set():
                await self._restart_unhealthy(kind, spec)
                return False
        return False

    async def _restart_unhealthy(self, kind: Kind, spec: Object) -> None:
        consequence = "will be restarted" if self.policy != "Never" else "will be killed"
        self.pod.event("Normal", "Killing", f"Container {self.name} failed {kind} probe, {consequence}")
        grace = spec.get("terminationGracePeriodSeconds")
        if grace is None:
            grace = self.pod.body["spec"].get("terminationGracePeriodSeconds", 30)
        if self.process is not None:
            await self.process.end(grace)

    async def _act(self, handler: Object, seconds: float) -> str | None:
        place = Place(self.spec, self.pod.address, self._env, self._mounts, self._folder(), self._home)
        return await act(handler, place, seconds)

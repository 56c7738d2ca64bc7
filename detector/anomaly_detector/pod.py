"""The pod as a whole: what is loaded, in which role, what it counted, and the report made of it."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

import psutil

from anomaly_detector.config import InfluxConfig, LiveConfig, SourceConfig
from anomaly_detector.dataplane import DataPlane
from anomaly_detector.drain import PassThrough
from anomaly_detector.influx.writer import InfluxWriter
from anomaly_detector.intake import Intake
from anomaly_detector.kube import ApiServer
from anomaly_detector.memory import resident_bytes
from anomaly_detector.observer import Observer
from anomaly_detector.report import SOURCES, Drift, Report, Shadow
from anomaly_detector.reporter import Reporter, Verdict, judge
from anomaly_detector.roles import Assignment, Roles
from anomaly_detector.settings import Settings
from anomaly_detector.shadow import ShadowTraffic
from anomaly_detector.window import Tally, Window

if TYPE_CHECKING:
    from anomaly_detector.source.reader import StreamSource


@dataclass(slots=True, kw_only=True, eq=False)
class Serving:
    """What exists once the model is loaded."""

    plane: DataPlane
    observer: Observer
    shadow: ShadowTraffic


@dataclass(slots=True, kw_only=True, eq=False)
class Pod:
    """Everything that handlers, reporter and metrics share."""

    settings: Settings
    live: LiveConfig
    window: Window
    roles: Roles
    pass_through: PassThrough
    api: ApiServer | None = None
    """None outside a cluster."""
    serving: Serving | None = None
    reporter: Reporter | None = None
    influx: InfluxWriter | None = None
    source: "StreamSource | None" = None
    ready: bool = False
    terminating: bool = False
    intake: Intake = field(default_factory=Intake)
    in_flight: int = 0
    """Requests whose body is there and whose answer is not."""
    last_own_user_answer: float | None = None
    """Seconds since the epoch."""
    open_connections: Callable[[], int] = lambda: 0
    """Of users, on port 8080."""
    boot_id: str = field(default_factory=lambda: secrets.token_hex(8))
    started_at: datetime = field(default_factory=lambda: datetime.fromtimestamp(psutil.Process().create_time(), UTC))
    _seq: int = 0
    _passed_before: int = 0
    """Requests passed on before the present role."""

    @property
    def closing(self) -> bool:
        """Say whether answers to users should close their connections."""
        return self.terminating or self.roles.current.role == "draining"

    @property
    def busy(self) -> bool:
        """Say whether requests wait for an answer or are still arriving."""
        return self.in_flight > 0 or self.intake.arriving > 0

    @property
    def scoring(self) -> str:
        """Say what scores, for people."""
        return self.serving.plane.model.scorer.kind if self.serving else "loading"

    def labels(self) -> dict[str, str]:
        """Return what tells this pod's numbers from those of others."""
        settings = self.settings
        return {
            "model": settings.model,
            "namespace": settings.namespace,
            "version": settings.version,
            "revision": settings.revision,
            "color": settings.color,
        }

    def tags(self) -> dict[str, str]:
        """Return the tags of InfluxDB points."""
        settings = self.settings
        return {
            "namespace": settings.namespace,
            "model": settings.model,
            "version": settings.version,
            "color": settings.color,
            "role": self.roles.current.role,
            "pod": settings.pod_name,
        }

    def influx_config(self) -> InfluxConfig | None:
        """Return where points go; a token folder named by the environment wins over the ConfigMap's."""
        config, folder = self.live.config.influxdb, self.settings.influxdb_dir
        return replace(config, token_file=str(folder / "token")) if config is not None and folder else config

    def source_config(self) -> SourceConfig | None:
        """Return which points are scored without a client; a token folder named by the environment wins."""
        config, folder = self.live.config.source, self.settings.source_influxdb_dir
        return replace(config, token_file=str(folder / "token")) if config is not None and folder else config

    def change_role(self, assignment: Assignment) -> None:
        """Restart what describes a role; called when the role changes."""
        del assignment
        self.window.reset()
        self._passed_before = self.pass_through.passed
        if self.serving is not None:
            self.serving.shadow.reset()
            self.serving.observer.restart_drift(self.roles.drift_source)

    def wake_reporter(self) -> None:
        """Let the reporter look whether a limit was crossed."""
        if self.reporter is not None:
            self.reporter.wake()

    def look(self) -> Verdict:
        """Compare the scalars with their limits."""
        tallies = [self.window.tally(source) for source in self.roles.gated_sources]
        current = self.roles.current
        return judge(
            counts=(sum(tally.failed for tally in tallies), sum(tally.served for tally in tallies)),
            drift=self.serving.observer.drift if self.serving else Drift(),
            config=self.live.config,
            role=(current.role, current.epoch, current.shadow_percent, current.pass_through),
        )

    def report(self) -> Report:
        """Return the report of this moment."""
        self._seq += 1
        current, serving = self.roles.current, self.serving
        tallies = {source: self.window.tally(source) for source in SOURCES}
        heard = {source: tally for source, tally in tallies.items() if tally != Tally()}
        last = self.last_own_user_answer
        return Report(
            seq=self._seq,
            time=_rfc3339(datetime.now(UTC)),
            bootId=self.boot_id,
            startedAt=_rfc3339(self.started_at),
            role=current.role,
            roleSince=_rfc3339(self.roles.since),
            epoch=current.epoch,
            shadowPercent=current.shadow_percent,
            passThrough=current.pass_through,
            window=self.settings.window_seconds,
            counts={source: tally.counts() for source, tally in heard.items()},
            rows={source: tally.rows for source, tally in heard.items()},
            anomalies={source: tally.anomalies for source, tally in heard.items()},
            latency={source: tuple(tally.latency) for source, tally in heard.items()},
            rssBytes=resident_bytes(),
            openUserConnections=self.open_connections(),
            lastOwnUserAnswer=None if last is None else _rfc3339(datetime.fromtimestamp(last, UTC)),
            ownUserAnswers=self.window.since_reset["user"],
            passedOn=self.pass_through.passed - self._passed_before,
            drift=serving.observer.drift if serving else Drift(),
            shadow=serving.shadow.comparison.report() if serving else Shadow(),
            scikitLearn=_scikit_learn(),
            reference=serving is None or serving.plane.model.bundle is not None,
            notes=self._notes(),
        )

    def _notes(self) -> tuple[str, ...]:
        if self.serving is None:
            return ("Loading",)
        model = self.serving.plane.model
        notes = [] if model.bundle is not None else ["NoReference: see anomaly-train adopt"]
        if not model.fast:
            notes.append(f"Fallback: {model.scorer.kind}"[:300])
        if self.source is not None and self.source.note:
            notes.append(self.source.note)
        return tuple(notes)


@cache
def _scikit_learn() -> str:
    """Return its version without importing it."""
    return version("scikit-learn")


def _rfc3339(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds")

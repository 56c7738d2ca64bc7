"""The model's ConfigMap, re-read while the pod runs; the last one that could be read stays in force.

`config.json` holds gates, drift and explanations, `jwks.json` the operator's public keys (docs/pod-contract.md).
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
CONFIG_FILE = "config.json"
KEYS_FILE = "jwks.json"
DEFAULT_TESTS: Mapping[str, float] = MappingProxyType(
    {"ks": 0.05, "wasserstein": 0.3, "anderson": 1.961, "jensenShannon": 0.2, "welch": 2.0}
)


class ConfigError(ValueError):
    """Say of each wrong field of a configuration what was expected and what was there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftConfig:
    """How drift is judged."""

    window: int = 500
    consecutive_checks: int = 3
    false_alarms_per_day: float = 1.0
    min_votes: int = 3
    tests: Mapping[str, float] = field(default_factory=lambda: DEFAULT_TESTS)
    """Default threshold by test; the calibrated one is in force where it is stricter to fire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InfluxServer:
    """A bucket of an InfluxDB 2."""

    url: str
    org: str
    bucket: str
    token_file: str | None = None
    """Read at each request, since it may rotate; none where no token is needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InfluxConfig(InfluxServer):
    """Where points are written."""

    write: Literal["all", "sampled", "anomalies"] = "anomalies"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig(InfluxServer):
    """Points to score without a client, and where their results go (the same bucket)."""

    measurement: str | None
    """None: `query` says which points."""
    query: str | None
    """Flux, with `v.timeRangeStart` and `v.timeRangeStop`."""
    fields: Mapping[str, str]
    """Field by feature, where they are not called the same."""
    result_measurement: str
    interval: float
    """Seconds between two looks."""
    lateness: float
    """Seconds by which a point may arrive late."""
    owner_uid: str
    """UID of the AnomalyModel, which owns the Lease."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What `config.json` says."""

    heartbeat_seconds: float = 60.0
    error_rate_max: float | None = 0.01
    """None while the gate is off."""
    drift_max_confidence: float | None = 0.5
    """None while the gate is off."""
    drift: DriftConfig = field(default_factory=DriftConfig)
    explanations: bool = True
    top_k: int = 3
    influxdb: InfluxConfig | None = None
    source: SourceConfig | None = None


def parse_config(text: str) -> Config:
    """Read `config.json`; what is absent has its default. Raises ConfigError naming all that is wrong."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{CONFIG_FILE}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{CONFIG_FILE}: expected an object, got {json.dumps(value)[:80]}")
    faults: list[str] = []
    config = _config(_Section(CONFIG_FILE, value, faults))
    if faults:
        raise ConfigError("; ".join(faults))
    return config


def _config(top: "_Section") -> Config:
    if top.value.get("schemaVersion") != SCHEMA_VERSION:
        raise ConfigError(
            f"{CONFIG_FILE}.schemaVersion: expected {SCHEMA_VERSION}, got {top.value.get('schemaVersion')!r}"
        )
    gates, drift, explanations = top.section("gates"), top.section("drift"), top.section("explanations")
    error_rate, drift_gate, tests = gates.section("errorRate"), gates.section("drift"), drift.section("tests")
    influxdb, source = top.optional_section("influxdb"), top.optional_section("source")
    default = Config()
    return Config(
        heartbeat_seconds=top.number("heartbeatSeconds", default.heartbeat_seconds, low=0.1, high=86_400),
        error_rate_max=error_rate.number("max", 0.01, low=0, high=1) if error_rate.flag("enabled") else None,
        drift_max_confidence=drift_gate.number("maxConfidence", 0.5, low=0, high=1)
        if drift_gate.flag("enabled")
        else None,
        drift=DriftConfig(
            window=int(drift.number("window", default.drift.window, low=20, high=100_000)),
            consecutive_checks=int(drift.number("consecutiveChecks", 3, low=1, high=1000)),
            false_alarms_per_day=drift.number("falseAlarmsPerDay", 1.0, low=1e-6, high=86_400),
            min_votes=int(drift.number("minVotes", 3, low=1, high=len(DEFAULT_TESTS))),
            tests={name: tests.number(name, limit, low=0, high=1e9) for name, limit in DEFAULT_TESTS.items()},
        ),
        explanations=explanations.flag("enabled"),
        top_k=int(explanations.number("topK", default.top_k, low=1, high=100)),
        influxdb=None if influxdb is None else _influxdb(influxdb),
        source=None if source is None else _source(source),
    )


def _influxdb(section: "_Section") -> InfluxConfig:
    write = section.value.get("write", "anomalies")
    if write not in ("all", "sampled", "anomalies"):
        section.fault("write", "all, sampled or anomalies")
    return InfluxConfig(write=write, **_server(section))


def _source(section: "_Section") -> SourceConfig:
    fields = section.section("fields").value
    if not all(isinstance(name, str) and name for name in fields.values()):
        section.fault("fields", "the name of a field by feature")
    measurement, query = section.optional_text("measurement"), section.optional_text("query")
    if (measurement is None) == (query is None):
        section.faults.append(f"{section.where}: expected either measurement or query")
    return SourceConfig(
        measurement=measurement,
        query=query,
        fields=MappingProxyType(fields),
        result_measurement=section.text("resultMeasurement"),
        interval=section.number("intervalSeconds", 10.0, low=0.1, high=86_400),
        lateness=section.number("latenessSeconds", 30.0, low=0, high=86_400),
        owner_uid=section.text("ownerUid"),
        **_server(section),
    )


def _server(section: "_Section") -> dict[str, Any]:
    """Return what every connection to InfluxDB needs."""
    url = section.text("url")
    if url and not url.startswith(("http://", "https://")):
        section.fault("url", "http://... or https://...")
    return {
        "url": url.rstrip("/"),
        "org": section.text("org"),
        "bucket": section.text("bucket"),
        "token_file": section.optional_text("tokenFile"),
    }


class _Section:
    """One object of the configuration, with its path for messages. What is wrong is noted and read as its default."""

    def __init__(self, where: str, value: dict[str, Any], faults: list[str]) -> None:
        self.where, self.value, self.faults = where, value, faults

    def fault(self, name: str, expected: str) -> None:
        self.faults.append(f"{self.where}.{name}: expected {expected}, got {json.dumps(self.value.get(name))[:80]}")

    def section(self, name: str) -> "_Section":
        return self.optional_section(name) or _Section(f"{self.where}.{name}", {}, self.faults)

    def optional_section(self, name: str) -> "_Section | None":
        value = self.value.get(name)
        if value is not None and not isinstance(value, dict):
            self.fault(name, "an object")
            return None
        return None if value is None else _Section(f"{self.where}.{name}", value, self.faults)

    def number(self, name: str, default: float, *, low: float, high: float) -> float:
        value = self.value.get(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            self.fault(name, f"a number from {low:g} to {high:g}")
            return default
        return float(value)

    def text(self, name: str) -> str:
        value = self.value.get(name)
        if not isinstance(value, str) or not value:
            self.fault(name, "text")
            return ""
        return value

    def optional_text(self, name: str) -> str | None:
        return None if self.value.get(name) is None else self.text(name)

    def flag(self, name: str) -> bool:
        value = self.value.get(name, True)
        if not isinstance(value, bool):
            self.fault(name, "true or false")
            return True
        return value


class LiveConfig:
    """The newest good configuration and keys of a mounted folder. Call `poll` now and then.

    The operator writes them, and a pod dies of none: one that cannot be read must neither end what serves users nor
    keep a pod from starting, which may be the one that a rollback waits for. Until one can be read the defaults are in
    force; they cost nobody an answer, and what the operator decides by are its own gates.
    """

    def __init__(self, folder: Path) -> None:
        self.config = Config()
        self.keys: Mapping[str, Any] = MappingProxyType({"keys": []})
        """The JWK Set, as JSON."""
        self.on_change: list[Callable[[Config], None]] = []
        self._files = {
            folder / CONFIG_FILE: self._read_config,
            folder / KEYS_FILE: self._read_keys,
        }
        self._seen: dict[Path, object] = {}
        self._read: set[Path] = set()
        """Of which a good one has been read."""

    def poll(self) -> None:
        """Read what changed since the last call. What cannot be read is logged once and changes nothing."""
        for path, read in self._files.items():
            mark = _mark(path)
            if self._seen.get(path, ()) == mark:
                continue
            self._seen[path] = mark
            try:
                read(path.read_text())
            except (OSError, ValueError, RecursionError) as error:
                stays = "configuration stays as it was" if path in self._read else "the defaults are in force"
                level = logging.WARNING if isinstance(error, OSError) else logging.ERROR
                log.log(level, "%s: %s", stays, error, extra={"file": str(path)})
            else:
                self._read.add(path)

    def _read_config(self, text: str) -> None:
        config = parse_config(text)
        if config != self.config:
            self.config = config
            log.info("configuration read", extra={"heartbeatSeconds": config.heartbeat_seconds})
            for listener in self.on_change:
                listener(config)

    def _read_keys(self, text: str) -> None:
        value = json.loads(text)
        if not isinstance(value, dict) or not isinstance(value.get("keys"), list):
            raise ConfigError(f"{KEYS_FILE}: expected a JWK Set, an object with a list `keys`")
        self.keys = value


def _mark(path: Path) -> object:
    """Return what changes when a file or the link that a kubelet swaps changes; None while it is absent."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size

"""Settings of the pod: environment variables, or files that `<VARIABLE>_FILE` names, checked in one go at start.

The names are those of docs/pod-contract.md.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, TypeVar, cast

T = TypeVar("T")
Color = Literal["blue", "green"]
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


STORE_KEYS = ("AWS_", "AZURE_", "GOOGLE_", "MLFLOW_")
"""How keys of the credentials' Secret begin that are variables of whatever store holds the artifacts."""


class SettingsError(ValueError):
    """Name every setting that is missing or wrong, one a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Which artifact to serve and where it lies."""

    source: str
    """The version's source, `models:/m-...` or `runs:/<run>/<path>`."""
    digest: str
    """`sha256:...`, or empty when nobody has computed it yet."""
    allow_pickle: bool
    cache_dir: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `serve` needs to know; it holds no secret."""

    model: str
    namespace: str
    pod_name: str
    pod_uid: str
    bind: str
    color: Color
    revision: str
    registered_model: str
    version: str
    run_id: str
    artifact: Artifact
    config_dir: Path
    serviceaccount_dir: Path
    kubernetes: str
    """Base URL of the API server; empty outside a cluster, then nothing is reported."""
    neighbours: Mapping[Color, str]
    """Base URL of either color's Service."""
    influxdb_dir: Path | None = None
    """Folder with the file `token`; none: the path that the ConfigMap names."""
    source_influxdb_dir: Path | None = None
    """The same for the bucket whose points are scored."""
    window_seconds: float = 30.0
    max_payload_bytes: int = 8 * 2**20
    max_in_flight: int = 128
    request_timeout: float = 10.0
    drain_seconds: float = 10.0
    log_level: str = "info"

    @property
    def other_color(self) -> Color:
        """Return the color that this pod is not."""
        return "green" if self.color == "blue" else "blue"


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchSettings:
    """What `fetch` needs to know."""

    model: str
    artifact: Artifact
    tracking_uri: str
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    token: str | None = field(repr=False)
    store: Mapping[str, str] = field(repr=False)
    """Variables for MLflow's own downloader."""
    ca_file: Path | None
    neighbours: Mapping[Color, str]
    timeout_seconds: float
    log_level: str


def read_settings(environ: Mapping[str, str] = os.environ, *, bind: str | None = None) -> Settings:
    """Read what `serve` needs; raises SettingsError naming all that is missing or wrong."""
    read = _Reader(environ)
    influxdb, source = read.text("ANOMALY_INFLUXDB_DIR", ""), read.text("ANOMALY_SOURCE_INFLUXDB_DIR", "")
    model = read.text("ANOMALY_MODEL", check=_name)
    namespace = read.text("ANOMALY_NAMESPACE", check=_name)
    settings = Settings(
        model=model,
        namespace=namespace,
        pod_name=read.text("ANOMALY_POD_NAME", check=_name),
        pod_uid=read.text("ANOMALY_POD_UID"),
        bind=bind or read.text("ANOMALY_BIND", "0.0.0.0", check=_address),
        color=cast("Color", read.text("ANOMALY_COLOR", check=_color)),
        revision=read.text("ANOMALY_REVISION"),
        registered_model=read.text("ANOMALY_REGISTERED_MODEL", model),
        version=read.text("ANOMALY_VERSION"),
        run_id=read.text("ANOMALY_RUN_ID", ""),
        artifact=_artifact(read),
        config_dir=Path(read.text("ANOMALY_CONFIG_DIR", "/etc/anomaly")),
        serviceaccount_dir=Path(
            read.text("ANOMALY_SERVICEACCOUNT_DIR", "/var/run/secrets/kubernetes.io/serviceaccount")
        ),
        kubernetes=_kubernetes(read),
        neighbours=_neighbours(read, model, namespace),
        influxdb_dir=Path(influxdb) if influxdb else None,
        source_influxdb_dir=Path(source) if source else None,
        window_seconds=read.number("ANOMALY_WINDOW_SECONDS", 30.0, low=1, high=600),
        max_payload_bytes=int(read.number("ANOMALY_MAX_PAYLOAD_BYTES", 8 * 2**20, low=1024, high=2**30)),
        max_in_flight=int(read.number("ANOMALY_MAX_IN_FLIGHT", 128, low=1, high=100_000)),
        request_timeout=read.number("ANOMALY_REQUEST_TIMEOUT_SECONDS", 10.0, low=0.05, high=600),
        drain_seconds=read.number("ANOMALY_DRAIN_SECONDS", 10.0, low=0, high=600),
        log_level=read.text("ANOMALY_LOG_LEVEL", "info", check=_level),
    )
    read.finish()
    return settings


def read_fetch_settings(environ: Mapping[str, str] = os.environ) -> FetchSettings:
    """Read what `fetch` needs; raises SettingsError naming all that is missing or wrong."""
    read = _Reader(environ)
    given = read.text("ANOMALY_CREDENTIALS_DIR", "")
    credentials = Path(given) if given else None
    secret, store = _secrets(read, credentials), _store_files(credentials) if credentials else []
    ca_file = credentials / "ca.crt" if credentials and (credentials / "ca.crt").is_file() else None
    model, namespace = read.text("ANOMALY_MODEL", check=_name), read.text("ANOMALY_NAMESPACE", check=_name)
    settings = FetchSettings(
        model=model,
        artifact=_artifact(read),
        tracking_uri=read.text("MLFLOW_TRACKING_URI"),
        username=secret("MLFLOW_TRACKING_USERNAME"),
        password=secret("MLFLOW_TRACKING_PASSWORD"),
        token=secret("MLFLOW_TRACKING_TOKEN"),
        store={file.name: read.file("ANOMALY_CREDENTIALS_DIR", file) or "" for file in store},
        ca_file=ca_file,
        neighbours=_neighbours(read, model, namespace),
        timeout_seconds=read.number("ANOMALY_FETCH_TIMEOUT_SECONDS", 120.0, low=1, high=3600),
        log_level=read.text("ANOMALY_LOG_LEVEL", "info", check=_level),
    )
    read.finish()
    return settings


def store_variables(folder: Path) -> dict[str, str]:
    """Return the variables for the store of artifacts that a mounted Secret holds, by name; none of an absent one."""
    return {file.name: file.read_text().strip() for file in _store_files(folder)}


def _store_files(folder: Path) -> list[Path]:
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return [file for file in files if file.name.startswith(STORE_KEYS) and file.is_file()]


class _Reader:
    """Collects what is wrong instead of stopping at the first."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._problems: list[str] = []
        self._unreadable: set[str] = set()

    def text(self, name: str, default: str | None = None, *, check: Callable[[str], str | None] | None = None) -> str:
        """Return a setting; with `check`, which says what is expected instead or returns None."""
        value = self.raw(name)
        if not value:
            if default is None and name not in self._unreadable:
                self._problems.append(f"{name}: missing")
            return default or ""
        if check is not None and (expected := check(value)) is not None:
            self._problems.append(f"{name}: expected {expected}, got {value!r}")
        return value

    def number(self, name: str, default: float, *, low: float, high: float) -> float:
        """Return a number between `low` and `high`."""
        value = self.raw(name)
        if not value:
            return default
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            self._problems.append(f"{name}: expected a number from {low:g} to {high:g}, got {value!r}")
            return default
        return number

    def flag(self, name: str) -> bool:
        """Return true or false, false if it is not set."""
        return self.text(name, "false", check=_boolean).lower() == "true"

    def raw(self, name: str) -> str | None:
        """Return a variable, or the text of the file that `<name>_FILE` names."""
        path = self._environ.get(f"{name}_FILE")
        if not path:
            return self._environ.get(name)
        text = self.file(f"{name}_FILE", Path(path))
        if text is None:
            self._unreadable.add(name)
        return text

    def file(self, name: str, path: Path) -> str | None:
        """Return the text of a file that the setting `name` stands for."""
        try:
            return path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            self._problems.append(f"{name}: {path}: {reason}")
            return None

    def finish(self) -> None:
        """Raise if anything was wrong."""
        if self._problems:
            raise SettingsError("settings:\n  " + "\n  ".join(dict.fromkeys(self._problems)))


def _artifact(read: _Reader) -> Artifact:
    return Artifact(
        source=read.text("ANOMALY_SOURCE", check=_source),
        digest=read.text("ANOMALY_DIGEST", "", check=_digest),
        allow_pickle=read.flag("ANOMALY_ALLOW_PICKLE"),
        cache_dir=Path(read.text("ANOMALY_CACHE_DIR", "/var/cache/anomaly")),
    )


def _kubernetes(read: _Reader) -> str:
    host, port = read.text("KUBERNETES_SERVICE_HOST", ""), read.text("KUBERNETES_SERVICE_PORT", "443")
    if ":" in host:
        host = f"[{host}]"
    return f"https://{host}:{port}" if host else ""


def _neighbours(read: _Reader, model: str, namespace: str) -> dict[Color, str]:
    """Find either color's Service by the variables that a node sets, else by its DNS name."""
    found: dict[Color, str] = {}
    for color in ("blue", "green"):
        prefix = f"{model}_{color}".upper().replace("-", "_").replace(".", "_")
        host = read.text(f"{prefix}_SERVICE_HOST", f"{model}-{color}.{namespace}.svc")
        port = read.text(f"{prefix}_SERVICE_PORT", "8082")
        found[color] = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    return found


def _secrets(read: _Reader, folder: Path | None) -> Callable[[str], str | None]:
    def secret(name: str) -> str | None:
        if folder is not None and (folder / name).is_file():
            return read.file("ANOMALY_CREDENTIALS_DIR", folder / name) or None
        return read.raw(name) or None

    return secret


def _name(value: str) -> str | None:
    return None if _NAME.fullmatch(value) else "a Kubernetes name (lower case letters, digits, -)"


def _address(value: str) -> str | None:
    try:
        ip_address(value)
    except ValueError:
        return "an IP address"
    return None


def _color(value: str) -> str | None:
    return None if value in ("blue", "green") else "blue or green"


def _boolean(value: str) -> str | None:
    return None if value.lower() in ("true", "false") else "true or false"


def _digest(value: str) -> str | None:
    return None if _DIGEST.fullmatch(value) else "sha256: and 64 hexadecimal digits"


def _source(value: str) -> str | None:
    return None if value.startswith(("models:/", "runs:/")) else "models:/m-... or runs:/<run>/<path>"


def _level(value: str) -> str | None:
    return None if value.lower() in ("debug", "info", "warning", "error") else "debug, info, warning or error"

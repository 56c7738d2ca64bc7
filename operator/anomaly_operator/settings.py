"""Settings of the operator, from the environment or from files that it names; docs/operator-settings.md lists them."""

import os
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PREFIX = "ANOMALY_OPERATOR_"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LOG_LEVELS = ("debug", "info", "warning", "error")


class SettingsError(ValueError):
    """Name every setting that is missing or wrong, one a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that the operator is told from outside."""

    namespace: str
    identity: str
    watch_namespaces: tuple[str, ...]
    """Empty: all."""
    detector_image: str
    tracking_uri: str | None
    allowed_tracking_uris: tuple[str, ...]
    credentials_dir: Path | None
    admin_key_file: Path
    previous_admin_key_file: Path | None
    service_account_dir: Path | None
    """None: KUBECONFIG."""
    kubeconfig: Path | None
    require_policy: bool
    report_heartbeat_seconds: float
    readiness_period_seconds: int
    lease_seconds: float
    bind: str
    port: int
    webhook_secret_file: Path | None
    log_level: str


class _Reader:
    """Read variables and gather what is wrong with them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.problems: list[str] = []

    def text(self, name: str, default: str | None = None) -> str:
        """Return a variable, or the content of the file that `<VARIABLE>_FILE` names; without default required."""
        variable = PREFIX + name
        value = self._environment.get(variable, "")
        file = self._environment.get(f"{variable}_FILE", "")
        if file:
            try:
                value = Path(file).read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                self.problems.append(f"{variable}_FILE: cannot read {file}: {error}")
                return default or ""
        if not value and default is None:
            self.problems.append(f"{variable} is not set; it is required")
        return value or default or ""

    def convert(self, name: str, default: str, expected: str, convert: Callable[[str], Any]) -> Any:
        """Return a variable as `convert` makes it; its ValueError means not as `expected`."""
        value = self.text(name, default)
        try:
            return convert(value)
        except ValueError:
            self.problems.append(f"{PREFIX}{name} is {value!r}; expected {expected}")
            return convert(default)

    def path(self, name: str, *, required: bool = False, folder: bool = False) -> Path | None:
        """Return a path that exists. Its variable may itself end in _FILE, so no file is read for it."""
        value = self._environment.get(PREFIX + name, "")
        if not value:
            if required:
                self.problems.append(f"{PREFIX}{name} is not set; it is required")
            return None
        path = Path(value)
        if not (path.is_dir() if folder else path.is_file()):
            self.problems.append(f"{PREFIX}{name}: {value} is no {'folder' if folder else 'file'}")
        return path

    def uris(self, name: str) -> tuple[str, ...]:
        """Return a comma-separated list of http(s) addresses without trailing slashes."""
        found = _list(self.text(name, ""))
        for uri in found:
            if not re.match(r"^https?://[^\s/]+", uri):
                self.problems.append(f"{PREFIX}{name}: {uri!r} is no http:// or https:// address")
        return tuple(uri.rstrip("/") for uri in found)


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _boolean(text: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]


def _within(low: float, high: float) -> Callable[[str], float]:
    def convert(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return convert


def _level(text: str) -> str:
    if text.lower() not in LOG_LEVELS:
        raise ValueError(text)
    return text.lower()


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Read and check all settings; raises SettingsError naming everything that is missing or wrong."""
    environment = os.environ if environment is None else environment
    read = _Reader(environment)
    tracking = read.uris("TRACKING_URI")
    folder, kubeconfig = _api_server(read, environment)
    settings = Settings(
        namespace=read.text("NAMESPACE"),
        identity=read.text("IDENTITY", platform.node() or "anomaly-operator"),
        watch_namespaces=_list(read.text("WATCH_NAMESPACES", "")),
        detector_image=read.text("DETECTOR_IMAGE"),
        tracking_uri=tracking[0] if tracking else None,
        allowed_tracking_uris=read.uris("ALLOWED_TRACKING_URIS") or tracking[:1],
        credentials_dir=read.path("CREDENTIALS_DIR", folder=True),
        admin_key_file=read.path("ADMIN_KEY_FILE", required=True) or Path(),
        previous_admin_key_file=read.path("PREVIOUS_ADMIN_KEY_FILE"),
        service_account_dir=folder,
        kubeconfig=kubeconfig,
        require_policy=read.convert("REQUIRE_POLICY", "true", "true or false", _boolean),
        report_heartbeat_seconds=read.convert(
            "REPORT_HEARTBEAT_SECONDS", "60", "seconds from 0.2 to 600", _within(0.2, 600)
        ),
        readiness_period_seconds=int(
            read.convert("READINESS_PERIOD_SECONDS", "2", "whole seconds from 1 to 60", _within(1, 60))
        ),
        lease_seconds=read.convert("LEASE_SECONDS", "8", "seconds from 1 to 120", _within(1, 120)),
        bind=read.text("BIND", "0.0.0.0"),
        port=int(read.convert("PORT", "8080", "a port from 0 to 65535", _within(0, 65535))),
        webhook_secret_file=read.path("WEBHOOK_SECRET_FILE"),
        log_level=read.convert("LOG_LEVEL", "info", f"one of {', '.join(LOG_LEVELS)}", _level),
    )
    if read.problems:
        raise SettingsError("The operator cannot start:\n" + "\n".join(f"  {problem}" for problem in read.problems))
    return settings


def _api_server(read: _Reader, environment: Mapping[str, str]) -> tuple[Path | None, Path | None]:
    """Return the folder of the ServiceAccount and the kubeconfig: one of them says where the API server is."""
    folder = read.path("SERVICEACCOUNT_DIR", folder=True)
    kubeconfig = Path(environment["KUBECONFIG"]) if environment.get("KUBECONFIG") else None
    if folder is None and SERVICE_ACCOUNT.is_dir():
        folder = SERVICE_ACCOUNT
    if folder is None and kubeconfig is None:
        read.problems.append(
            f"{PREFIX}SERVICEACCOUNT_DIR is not set, {SERVICE_ACCOUNT} does not exist and KUBECONFIG is not set;"
            " one of them must say where the API server is"
        )
    return folder, kubeconfig

"""Where the API server is and who we are: a service account's folder, or a kubeconfig file."""

import base64
import os
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


class KubeConfigError(ValueError):
    """Say what is missing to reach the API server."""


@dataclass(frozen=True, slots=True)
class KubeConfig:
    """Address and credentials of an API server."""

    server: str
    token_file: Path | None = None
    """Re-read at every use: bound tokens rotate."""
    static_token: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    ca_data: str | None = None
    """PEM."""
    client_certificate: Path | None = None
    client_key: Path | None = None
    insecure: bool = False

    def token(self) -> str | None:
        """Return the bearer token as it is now; raises KubeConfigError if its file cannot be read."""
        if self.token_file is None:
            return self.static_token
        try:
            return self.token_file.read_text().strip()
        except OSError as error:
            raise KubeConfigError(f"{self.token_file}: cannot read the token: {error.strerror}") from None

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return how to speak TLS with the server, None for plain HTTP."""
        if not self.server.startswith("https"):
            return None
        context = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None, cadata=self.ca_data)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.client_certificate and self.client_key:
            context.load_cert_chain(self.client_certificate, self.client_key)
        return context

    @classmethod
    def from_service_account(cls, folder: Path) -> "KubeConfig":
        """Read a service account's folder (`token`, `ca.crt`) and the address from the environment."""
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
        if not host or not port:
            raise KubeConfigError(f"{folder} needs KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT, as in a pod")
        ca_file = folder / "ca.crt"
        shown = f"[{host}]" if ":" in host else host
        return cls(
            f"https://{shown}:{port}", token_file=folder / "token", ca_file=ca_file if ca_file.exists() else None
        )

    @classmethod
    def from_file(cls, path: Path) -> "KubeConfig":
        """Read the current context of a kubeconfig file; raises KubeConfigError saying what it lacks."""
        try:
            content = yaml.safe_load(path.read_text())
            context = _named(content, "contexts", "context", content["current-context"])
            cluster = _named(content, "clusters", "cluster", context["cluster"])
            user = _named(content, "users", "user", context["user"])
            server = cluster["server"].rstrip("/")
        except OSError as error:
            raise KubeConfigError(f"{path}: {error.strerror}") from None
        except (KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
            raise KubeConfigError(f"{path}: no usable kubeconfig: {error}") from None
        return cls(
            server,
            token_file=Path(user["tokenFile"]) if "tokenFile" in user else None,
            static_token=user.get("token"),
            ca_file=_path(path, cluster.get("certificate-authority")),
            ca_data=base64.b64decode(cluster["certificate-authority-data"]).decode()
            if "certificate-authority-data" in cluster
            else None,
            client_certificate=_path(path, user.get("client-certificate")) or _decoded(user, "client-certificate-data"),
            client_key=_path(path, user.get("client-key")) or _decoded(user, "client-key-data"),
            insecure=bool(cluster.get("insecure-skip-tls-verify")),
        )


def _named(content: Any, section: str, key: str, name: str) -> Any:
    for entry in content[section]:
        if entry["name"] == name:
            return entry[key] or {}
    raise KeyError(f"{section} has no {name!r}")


def _path(kubeconfig: Path, value: str | None) -> Path | None:
    return (kubeconfig.parent / value) if value else None


def _decoded(user: dict[str, Any], key: str) -> Path | None:
    """Write inline key material to a private file: the ssl module reads files only."""
    if key not in user:
        return None
    handle, name = tempfile.mkstemp(prefix="anomaly-operator-", suffix=".pem")
    with os.fdopen(handle, "wb") as file:
        file.write(base64.b64decode(user[key]))
    return Path(name)

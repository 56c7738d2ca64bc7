"""What surrounds a training: settings from variables or files, library versions, the commit of the working folder."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from anomaly_detector.settings import store_variables
from anomaly_detector.train.errors import DataError

LIBRARIES = ("scikit-learn", "numpy", "scipy", "skops", "mlflow")
CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
LIMITS = {
    # MLflow's own defaults keep a client waiting for minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "120",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def setting(name: str) -> str | None:
    """Return a variable, or the text of the file that `<name>_FILE` names; none if neither is set.

    Raises DataError when the file cannot be read.
    """
    path = os.environ.get(f"{name}_FILE")
    if not path:
        return os.environ.get(name) or None
    try:
        return Path(path).read_text().strip() or None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{name}_FILE: {path}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None


def prepare_mlflow() -> None:
    """Set MLflow's time limits and the credentials of ANOMALY_CREDENTIALS_DIR for this process.

    Those for the store of artifacts are among them.
    """
    for name, value in LIMITS.items():
        os.environ.setdefault(name, value)
    folder = setting("ANOMALY_CREDENTIALS_DIR")
    os.environ.update(store_variables(Path(folder)) if folder else {})
    for name in CREDENTIALS:
        file = Path(folder, name) if folder else None
        found = file.read_text().strip() if file and file.is_file() else setting(name)
        if found:
            os.environ[name] = found
    if folder and Path(folder, "ca.crt").is_file():
        os.environ["MLFLOW_TRACKING_SERVER_CERT_PATH"] = str(Path(folder, "ca.crt"))


def libraries() -> dict[str, str]:
    """Return the versions of the libraries that make a model what it is."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def surroundings() -> dict[str, str]:
    """Return Python, platform and library versions."""
    return {"python": platform.python_version(), "platform": platform.platform()} | libraries()


def git_commit() -> str | None:
    """Return the commit of the working folder: of GIT_COMMIT, else of git; none outside a repository."""
    if named := os.environ.get("GIT_COMMIT"):
        return named
    try:
        asked = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip()

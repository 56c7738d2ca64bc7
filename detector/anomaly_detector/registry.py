"""Bring a model folder from the MLflow registry.

Artifacts that the tracking server proxies come over plain REST, in milliseconds; importing MLflow takes seconds.
Those that lie elsewhere (S3, a shared file system) are brought by MLflow's own downloader, in a process of its own.
"""

import asyncio
import os
import ssl
import sys
from base64 import b64encode
from pathlib import Path, PurePosixPath
from typing import Any

import aiohttp

from anomaly_detector.loading import RefusedError, UnavailableError
from anomaly_detector.settings import FetchSettings

PROXIED = "mlflow-artifacts:"
_LIMITS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_CLIENT_ERROR = 400
_CHUNK = 1 << 20
_MAX_FILES = 10_000


async def download(settings: FetchSettings, folder: Path) -> Path:
    """Bring the artifact of `settings.artifact.source` into `folder`, which is empty, and return where in it it lies.

    Raises UnavailableError when the registry does not answer or refuses, RefusedError when it answers nonsense.
    """
    try:
        async with asyncio.timeout(settings.timeout_seconds):
            async with _session(settings) as session:
                root = await _artifact_root(session, settings)
                if root is not None and root.startswith(PROXIED):
                    await _download_proxied(session, settings, root, folder)
                    return folder
            return await _download_with_mlflow(settings, folder)
    except TimeoutError:
        raise UnavailableError(f"{settings.tracking_uri}: no artifact within {settings.timeout_seconds:g} s") from None
    except aiohttp.ClientError as error:
        raise UnavailableError(f"{settings.tracking_uri}: {type(error).__name__}: {error}") from None


def _session(settings: FetchSettings) -> aiohttp.ClientSession:
    headers = {}
    if settings.token:
        headers["authorization"] = f"Bearer {settings.token}"
    elif settings.username:
        login = f"{settings.username}:{settings.password or ''}"
        headers["authorization"] = f"Basic {b64encode(login.encode()).decode()}"
    context = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
    return aiohttp.ClientSession(
        headers=headers,
        connector=aiohttp.TCPConnector(ssl=context),
        timeout=aiohttp.ClientTimeout(connect=5, sock_read=20),
    )


async def _artifact_root(session: aiohttp.ClientSession, settings: FetchSettings) -> str | None:
    """Return the URI of the folder that `source` names; none if MLflow itself must resolve it."""
    scheme, _, rest = settings.artifact.source.partition(":/")
    if scheme == "models" and rest.startswith("m-") and "/" not in rest:
        answer = await _json(session, settings, f"/api/2.0/mlflow/logged-models/{rest}", {})
        return _text(answer, "model", "info", "artifact_uri")
    if scheme == "runs":
        run, _, path = rest.lstrip("/").partition("/")
        answer = await _json(session, settings, "/api/2.0/mlflow/runs/get", {"run_id": run})
        root = f"{_text(answer, 'run', 'info', 'artifact_uri')}/{path}"
        # Since MLflow 3 a run's model may lie with the logged model instead.
        if root.startswith(PROXIED) and await _list(session, settings, root.removeprefix(PROXIED).strip("/")):
            return root
    return None


async def _download_proxied(session: aiohttp.ClientSession, settings: FetchSettings, root: str, folder: Path) -> None:
    """Walk the listing and bring each file."""
    # `mlflow-artifacts:/path` or `mlflow-artifacts://host/path`: the tracking server answers for both.
    path = root.removeprefix(PROXIED)
    base = "/".join(path[2:].split("/")[1:]) if path.startswith("//") else path.strip("/")
    waiting, brought = [""], 0
    while waiting:
        below = waiting.pop()
        for entry in await _list(session, settings, f"{base}/{below}".rstrip("/")):
            name = _safe_name(entry)
            inside = f"{below}/{name}".lstrip("/")
            if entry.get("is_dir"):
                waiting.append(inside)
                continue
            brought += 1
            if brought > _MAX_FILES:
                raise RefusedError(f"{settings.artifact.source}: more than {_MAX_FILES} files are no model")
            await _file(session, settings, f"{base}/{inside}", folder / inside)
    if not brought:
        raise UnavailableError(f"{settings.artifact.source}: the registry lists no files")


def _safe_name(entry: dict[str, Any]) -> str:
    """Return the last part of a listed path, which must be a plain name."""
    name = PurePosixPath(str(entry.get("path", ""))).name
    if not name or name in (".", "..") or "\\" in name or "\0" in name:
        raise RefusedError(f"the registry lists a file with the name {name!r}")
    return name


async def _list(session: aiohttp.ClientSession, settings: FetchSettings, path: str) -> list[dict[str, Any]]:
    answer = await _json(session, settings, "/api/2.0/mlflow-artifacts/artifacts", {"path": path})
    files = answer.get("files", [])
    return [entry for entry in files if isinstance(entry, dict)] if isinstance(files, list) else []


async def _file(session: aiohttp.ClientSession, settings: FetchSettings, path: str, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    async with session.get(_url(settings, f"/api/2.0/mlflow-artifacts/artifacts/{path}")) as answer:
        await _check(answer, path)
        with place.open("wb") as file:
            async for chunk in answer.content.iter_chunked(_CHUNK):
                file.write(chunk)


async def _json(
    session: aiohttp.ClientSession, settings: FetchSettings, path: str, params: dict[str, str]
) -> dict[str, Any]:
    async with session.get(_url(settings, path), params=params) as answer:
        await _check(answer, path)
        try:
            value = await answer.json(content_type=None)
        except ValueError:
            value = None
    if not isinstance(value, dict):
        raise UnavailableError(f"{settings.tracking_uri}{path}: expected a JSON object")
    return value


async def _check(answer: aiohttp.ClientResponse, what: str) -> None:
    if answer.status < _CLIENT_ERROR:
        return
    text = (await answer.text(errors="replace"))[:300]
    raise UnavailableError(f"{what}: the registry answered {answer.status}: {text}")


def _url(settings: FetchSettings, path: str) -> str:
    return settings.tracking_uri.rstrip("/") + path


def _text(value: Any, *path: str) -> str:
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    if not isinstance(value, str):
        raise UnavailableError(f"the registry's answer has no {'.'.join(path)}")
    return value


def downloader_environment(settings: FetchSettings) -> dict[str, str]:
    """Return the environment of MLflow's own downloader: credentials for the registry and for the store behind it."""
    secrets = {
        "MLFLOW_TRACKING_USERNAME": settings.username,
        "MLFLOW_TRACKING_PASSWORD": settings.password,
        "MLFLOW_TRACKING_TOKEN": settings.token,
        "MLFLOW_TRACKING_SERVER_CERT_PATH": str(settings.ca_file) if settings.ca_file else None,
    }
    given = {name: value for name, value in secrets.items() if value}
    return {**os.environ, **_LIMITS, **settings.store, "MLFLOW_TRACKING_URI": settings.tracking_uri, **given}


async def _download_with_mlflow(settings: FetchSettings, folder: Path) -> Path:
    environment = downloader_environment(settings)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "anomaly_detector.downloader", settings.artifact.source, str(folder),
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        stdout, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        lines = stderr.decode(errors="replace").strip().splitlines()
        raise UnavailableError(f"{settings.artifact.source}: {lines[-1][:500] if lines else 'MLflow gave no reason'}")
    place = Path(stdout.decode().strip().splitlines()[-1] if stdout.strip() else folder)
    return place if place.is_relative_to(folder) else folder

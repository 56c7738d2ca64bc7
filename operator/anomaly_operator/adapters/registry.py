"""MLflow's REST API: which version does a model name, and what is to be remembered about it there.

No request outlives its total time limit, whatever the server does. Credentials are files that are read at every use,
and never follow a redirect.
"""

import json
import ssl
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import aiohttp

from anomaly_detector.report import PREFIX
from anomaly_operator.domain.model import Resolved, Unresolved
from anomaly_operator.domain.spec import ModelSpec

TIMEOUT = 5.0
MAX_BYTES = 4 * 2**20

Reason = Literal["NotFound", "Unreachable", "Forbidden", "NotAllowed"]
_API = "/api/2.0/mlflow"


class RegistryError(Exception):
    """The registry did not give what was asked; `reason` says of which sort."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


class Registry:
    """Ask MLflow servers; use as an asynchronous context manager."""

    def __init__(self, credentials_dir: Path | None = None, *, timeout: float = TIMEOUT) -> None:
        self._credentials = credentials_dir
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None
        self._runs: dict[tuple[str, str], float | None] = {}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._ssl()), headers={"User-Agent": "anomaly-operator"}
        )
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def resolve(self, uri: str, model: ModelSpec, reference: str) -> Resolved | Unresolved:
        """Return the version that `model` names, or why there is none."""
        try:
            found = await self._version(uri, model)
            status = found.get("status") or "READY"
            if status != "READY":
                raise RegistryError("NotFound", f"version {found.get('version')} is {status}, not READY")  # noqa: TRY301 - caught like the rest
            return await self._resolved(uri, model, reference, found)
        except RegistryError as error:
            return Unresolved(reference=reference, model=model.name, reason=error.reason, message=str(error))

    async def set_version_tag(self, uri: str, name: str, version: str, key: str, value: str) -> None:
        """Set a tag of a version; raises RegistryError."""
        body = {"name": name, "version": version, "key": key, "value": value}
        await self._request("POST", uri, "/model-versions/set-tag", body=body)

    async def set_model_tag(self, uri: str, name: str, key: str, value: str) -> None:
        """Set a tag of a registered model; raises RegistryError."""
        await self._request("POST", uri, "/registered-models/set-tag", body={"name": name, "key": key, "value": value})

    async def version_tags(self, uri: str, name: str, version: str) -> tuple[dict[str, str], str]:
        """Return the tags of a version and the id of its run; raises RegistryError."""
        query = {"name": name, "version": version}
        found = _member(await self._request("GET", uri, "/model-versions/get", query=query), "model_version")
        return _tags(found), str(found.get("run_id") or "")

    async def _version(self, uri: str, model: ModelSpec) -> Mapping[str, Any]:
        if model.alias is not None:
            query = {"name": model.name, "alias": model.alias}
            return _member(await self._request("GET", uri, "/registered-models/alias", query=query), "model_version")
        if model.version is not None:
            query = {"name": model.name, "version": model.version}
            return _member(await self._request("GET", uri, "/model-versions/get", query=query), "model_version")
        body = {"name": model.name, "stages": [model.stage]}
        answer = await self._request("POST", uri, "/registered-models/get-latest-versions", body=body)
        versions = answer.get("model_versions") or []
        if not versions:
            raise RegistryError("NotFound", f"registered model {model.name} has no version in stage {model.stage}")
        newest: Mapping[str, Any] = max(versions, key=lambda found: int(found.get("version", 0)))
        return newest

    async def _resolved(self, uri: str, model: ModelSpec, reference: str, found: Mapping[str, Any]) -> Resolved:
        tags = _tags(found)
        run_id = str(found.get("run_id") or "")
        contamination = _share(tags.get(PREFIX + "contamination"))
        if contamination is None and run_id:
            contamination = await self._contamination(uri, run_id)
        trigger = str(tags.get(PREFIX + "trigger") or "").lower()
        return Resolved(
            reference=reference,
            model=model.name,
            version=str(found.get("version")),
            run_id=run_id,
            source=str(found.get("source") or ""),
            digest=tags.get(PREFIX + "digest") or None,
            contamination=contamination,
            artifact_format=tags.get(PREFIX + "format") or None,
            features=_names(tags.get(PREFIX + "features")),
            size=_count(tags.get(PREFIX + "size")),
            scikit_learn=tags.get(PREFIX + "scikit-learn") or "",
            retrained=trigger in ("drift", "schedule", "command"),
        )

    async def _contamination(self, uri: str, run_id: str) -> float | None:
        """Return the parameter `contamination` of a run; a finished run does not change, so it is asked once."""
        if (uri, run_id) not in self._runs:
            answer = await self._request("GET", uri, "/runs/get", query={"run_id": run_id})
            params = ((answer.get("run") or {}).get("data") or {}).get("params") or ()
            self._runs[uri, run_id] = next(
                (_share(p.get("value")) for p in params if p.get("key") == "contamination"), None
            )
        return self._runs[uri, run_id]

    async def _request(
        self,
        method: str,
        uri: str,
        path: str,
        *,
        api: str = _API,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        if self._session is None:
            raise RuntimeError("Registry is used before it is entered: `async with Registry() as registry`")
        url = uri.rstrip("/") + api + path
        try:
            async with self._session.request(
                method,
                url,
                params=query,
                json=body,
                headers=self._headers(),
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                content = await response.content.read(MAX_BYTES)
                while not response.content.at_eof() and len(content) < MAX_BYTES:
                    content += await response.content.read(MAX_BYTES - len(content))
                return _answer(uri, response.status, content)
        except TimeoutError:
            raise RegistryError("Unreachable", f"{uri} did not answer within {self._timeout.total:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise RegistryError("Unreachable", f"{uri}: {type(error).__name__}: {error}") from None

    def _headers(self) -> dict[str, str]:
        token, user = self._file("MLFLOW_TRACKING_TOKEN"), self._file("MLFLOW_TRACKING_USERNAME")
        if token:
            return {"Authorization": f"Bearer {token}"}
        if user:
            login = f"{user}:{self._file('MLFLOW_TRACKING_PASSWORD') or ''}"
            return {"Authorization": f"Basic {b64encode(login.encode()).decode()}"}
        return {}

    def _file(self, name: str) -> str | None:
        if self._credentials is None:
            return None
        try:
            return (self._credentials / name).read_text().strip()
        except OSError:
            return None

    def _ssl(self) -> ssl.SSLContext:
        bundle = self._credentials / "ca.crt" if self._credentials else None
        context = ssl.create_default_context()
        if bundle is not None and bundle.is_file():
            context.load_verify_locations(cafile=str(bundle))
        return context


def _answer(uri: str, status: int, content: bytes) -> dict[str, Any]:
    """Return the answer as an object, or raise RegistryError in the registry's own words."""
    try:
        answer = json.loads(content or b"{}")  # what takes an artifact answers nothing
    except ValueError:
        answer = None
    if status == 200 and isinstance(answer, dict):  # noqa: PLR2004 - OK, by HTTP
        return answer
    said = answer if isinstance(answer, dict) else {}
    message = str(said.get("message") or content[:200].decode(errors="replace") or f"status {status}")[:500]
    code = str(said.get("error_code", ""))
    if status in (401, 403):
        raise RegistryError("Forbidden", f"{uri} answered {status}: {message}")
    if code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "not found" in message):
        raise RegistryError("NotFound", message)
    raise RegistryError("Unreachable", f"{uri} answered {status}: {message}")


def _member(answer: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = answer.get(name)
    if not isinstance(value, dict):
        raise RegistryError("Unreachable", f"the registry's answer has no {name}")
    return value


def _tags(found: Mapping[str, Any]) -> dict[str, str]:
    pairs = (tag for tag in found.get("tags") or () if isinstance(tag, dict))
    return {str(tag.get("key")): str(tag.get("value", "")) for tag in pairs}


def _names(text: object) -> tuple[str, ...]:
    """Return a JSON list of names, nothing of anything else."""
    try:
        value = json.loads(str(text))
    except ValueError:
        return ()
    good = isinstance(value, list) and all(isinstance(name, str) for name in value)
    return tuple(value) if good else ()


def _count(text: object) -> int | None:
    return int(str(text)) if str(text).isdecimal() else None


def _share(text: object) -> float | None:
    try:
        value = float(str(text))
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None

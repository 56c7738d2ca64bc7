"""The registry with the caller's own credentials, as the environment names them."""

import base64
import json
import os
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from anomaly_operator.cli.errors import CliError

TIMEOUT = 10.0
STAGES = ("Staging", "Production")
_PAGE = "200"


class RegistryUnavailableError(CliError):
    """The registry was not asked or did not answer as it should."""


def move_alias(uri: str | None, model: str, alias: str, version: str) -> str | None:
    """Let `alias` of a registered model point at `version`; returns the version that it pointed at before.

    Credentials are MLflow's own: MLFLOW_TRACKING_USERNAME and _PASSWORD, or _TOKEN; MLFLOW_TRACKING_SERVER_CERT_PATH.
    """
    uri = _address(uri)
    before = _ask(uri, "GET", "registered-models/alias", {"name": model, "alias": alias}, missing_is_none=True)
    _ask(uri, "POST", "registered-models/alias", {"name": model, "alias": alias, "version": version})
    return str(before["model_version"]["version"]) if before else None


def move_stage(uri: str | None, model: str, stage: str, version: str) -> None:
    """Bring `version` of a registered model into `stage`; what was there is archived. Credentials: see `move_alias`."""
    fields = {"name": model, "version": version, "stage": stage, "archive_existing_versions": True}
    _ask(_address(uri), "POST", "model-versions/transition-stage", fields)


def version_tags(uri: str | None, model: str) -> list[dict[str, str]]:
    """Return the tags of each version of a registered model; raises RegistryUnavailableError."""
    return [
        {str(tag.get("key")): str(tag.get("value", "")) for tag in version.get("tags") or ()}
        for version in _versions(_address(uri), model)
    ]


def _versions(uri: str, model: str) -> Iterator[dict[str, Any]]:
    quote = '"' if "'" in model else "'"
    fields = {"filter": f"name={quote}{model}{quote}", "max_results": _PAGE}
    while True:
        answer = _ask(uri, "GET", "model-versions/search", fields)
        yield from answer.get("model_versions") or ()
        if not (following := answer.get("next_page_token")):
            return
        fields["page_token"] = following


def _address(uri: str | None) -> str:
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri or not uri.startswith(("http://", "https://")):
        words = "no registry: give --tracking-uri or set MLFLOW_TRACKING_URI to its http(s) address"
        raise RegistryUnavailableError(words, 2)
    return uri


def _ask(uri: str, method: str, path: str, fields: dict[str, Any], *, missing_is_none: bool = False) -> Any:
    url = f"{uri.rstrip('/')}/api/2.0/mlflow/{path}"
    data = None
    if method == "GET":
        url += "?" + urllib.parse.urlencode(fields)
    else:
        data = json.dumps(fields).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    if authorization := _authorization():
        request.add_unredirected_header("Authorization", authorization)  # it is for this server alone
    context = ssl.create_default_context(cafile=os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"))
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT, context=context) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        said = _said(error)
        if missing_is_none and said.get("error_code") in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        words = f"registry {uri}: {error.code} {said.get('message') or error.reason}"
        raise RegistryUnavailableError(words) from None
    except (OSError, ValueError) as error:
        raise RegistryUnavailableError(f"registry {uri}: no answer: {error}") from None


def _said(error: urllib.error.HTTPError) -> dict[str, Any]:
    try:
        said = json.load(error)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _authorization() -> str | None:
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return f"Bearer {token}"
    if user := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        pair = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        return "Basic " + base64.b64encode(pair.encode()).decode()
    return None

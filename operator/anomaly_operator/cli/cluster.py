"""The cluster as the command line sees it: kubectl's configuration, AnomalyModels, the user's name."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from anomaly_operator.cli.errors import CliError
from anomaly_operator.domain import names
from anomaly_operator.domain.records import Json

TIMEOUT = (5, 30)
"""Seconds to connect and to read."""
HTTP_OK, HTTP_REDIRECT = 200, 300


class Cluster:
    """One cluster, chosen as kubectl chooses it: --kubeconfig, KUBECONFIG, ~/.kube/config; --context; -n."""

    def __init__(
        self, *, kubeconfig: str | None = None, context: str | None = None, namespace: str | None = None
    ) -> None:
        try:
            api = config.new_client_from_config(config_file=kubeconfig, context=context)  # type: ignore[no-untyped-call]
            self.namespace = namespace or _default_namespace(kubeconfig, context)
        except (config.ConfigException, OSError) as error:
            where = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
            raise CliError(f"no usable kubeconfig ({where}): {error}") from None
        self._api: Any = api
        self._objects: Any = client.CustomObjectsApi(api)
        self._who: Any = client.AuthenticationV1Api(api)
        self._version: Any = client.VersionApi(api)

    def models(self, *, everywhere: bool = False) -> list[Json]:
        """Return the AnomalyModels of the namespace, or of all."""
        with _asking("list AnomalyModels"):
            if everywhere:
                answer = self._objects.list_cluster_custom_object(
                    names.GROUP, names.VERSION, names.PLURAL, _request_timeout=TIMEOUT
                )
            else:
                answer = self._objects.list_namespaced_custom_object(
                    names.GROUP, names.VERSION, self.namespace, names.PLURAL, _request_timeout=TIMEOUT
                )
        items: list[Json] = answer["items"]
        return items

    def model(self, name: str) -> Json:
        """Return one AnomalyModel; raises CliError if it is not there."""
        return self._on_model(self._objects.get_namespaced_custom_object, name)

    def annotate(self, name: str, key: str, value: str) -> Json:
        """Set an annotation of an AnomalyModel as the command line's own field manager."""
        return self._on_model(
            self._objects.patch_namespaced_custom_object,
            name,
            {"metadata": {"annotations": {key: value}}},
            field_manager=names.CLI_FIELD_MANAGER,
            _content_type="application/merge-patch+json",
        )

    def whoami(self) -> str:
        """Return the user name under which the API server knows us."""
        with _asking("find out who you are (SelfSubjectReview)"):
            review = self._who.create_self_subject_review(client.V1SelfSubjectReview(), _request_timeout=TIMEOUT)
        return str(review.status.user_info.username)

    def ask_service(self, name: str, port: int, path: str, body: Json) -> Json:
        """POST JSON to a Service of the namespace, through the API server's proxy."""
        where = f"/api/v1/namespaces/{self.namespace}/services/{name}:{port}/proxy{path}"
        with _asking(f"Service {self.namespace}/{name} through the API server (give --url to ask it directly)"):
            answer = self._api.call_api(
                "POST",
                self._api.configuration.host + where,
                header_params={"Content-Type": "application/json", **self._authorization()},
                body=body,
                _request_timeout=TIMEOUT,
            )
            content = answer.read()
            if not HTTP_OK <= answer.status < HTTP_REDIRECT:
                raise ApiException(status=answer.status, reason=answer.reason, body=content.decode(errors="replace"))
        found: Json = json.loads(content)
        return found

    def _authorization(self) -> dict[str, str]:
        token = self._api.configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        return {"Authorization": token} if token else {}

    def server_version(self) -> str:
        """Return the API server's version, e.g. `v1.36.0`."""
        with _asking("read the server's version"):
            return str(self._version.get_code(_request_timeout=TIMEOUT).git_version)

    def _on_model(self, ask: Callable[..., Any], name: str, *arguments: Any, **options: Any) -> Json:
        with _asking(f"AnomalyModel {self.namespace}/{name}"):
            found: Json = ask(
                names.GROUP, names.VERSION, self.namespace, names.PLURAL, name, *arguments,
                _request_timeout=TIMEOUT, **options,
            )  # fmt: skip
        return found


def _default_namespace(kubeconfig: str | None, context: str | None) -> str:
    contexts, active = config.list_kube_config_contexts(config_file=kubeconfig)  # type: ignore[no-untyped-call]
    chosen = next((c for c in contexts if c["name"] == context), active)
    return str(chosen["context"].get("namespace") or "default")


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Turn the client's errors into one sentence each."""
    try:
        yield
    except ApiException as error:
        try:
            message = json.loads(error.body or "")["message"]
        except (ValueError, KeyError, TypeError):
            message = error.reason or "no reason given"
        raise CliError(f"{what}: {message}") from None
    except (HTTPError, OSError) as error:
        raise CliError(f"{what}: the API server does not answer: {error}") from None

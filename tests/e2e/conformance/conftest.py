"""An HTTP client that says what it sends and gets, for whichever control plane the kubeconfig names."""

import base64
import json
import ssl
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


@dataclass
class Response:
    code: int
    body: dict
    headers: dict = field(default_factory=dict)
    text: str = ""

    @property
    def reason(self):
        return self.body.get("reason")

    @property
    def causes(self):
        """The fields that were refused, with the reasons."""
        return {(c.get("field"), c.get("reason")) for c in (self.body.get("details") or {}).get("causes", [])}


class Api:
    """One identity's view of one API server."""

    def __init__(self, kubeconfig, token=None):
        config = yaml.safe_load(Path(kubeconfig).read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.kubeconfig = kubeconfig
        self.server = cluster["server"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._context = ssl.create_default_context(cadata=authority)
        self._token = token or user.get("token")
        if token is None and "client-certificate-data" in user:
            pair = [base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key")]
            with tempfile.NamedTemporaryFile(suffix=".pem") as both:
                both.write(b"\n".join(pair))
                both.flush()
                self._context.load_cert_chain(both.name)

    def as_token(self, token):
        return Api(self.kubeconfig, token)

    def __call__(self, method, path, body=None, media="application/json", accept="application/json", **query):
        if query:
            path += ("&" if "?" in path else "?") + urllib.parse.urlencode(query)
        data = None if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        headers = {"Content-Type": media, "Accept": accept, "User-Agent": "conformance/1"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(self.server + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, context=self._context, timeout=30) as answer:
                return self._response(answer.status, answer.read(), answer.headers)
        except urllib.error.HTTPError as error:
            return self._response(error.code, error.read(), error.headers)

    @staticmethod
    def _response(code, content, headers):
        try:
            body = json.loads(content)
        except ValueError:
            body = {}
        return Response(code, body if isinstance(body, dict) else {}, dict(headers), content.decode(errors="replace"))

    def watch(self, path, **query):
        """Return the events of a watch that ends after a second."""
        answer = self("GET", path, watch="1", timeoutSeconds="1", **query)
        assert answer.code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]

    def stream(self, path, **query):
        """Return the open answer to a GET, to be read line by line."""
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        request = urllib.request.Request(f"{self.server}{path}?{urllib.parse.urlencode(query)}", headers=headers)
        return urllib.request.urlopen(request, context=self._context, timeout=30)

    def must(self, method, path, body=None, **more):
        """Send a request that has to succeed and return its object."""
        answer = self(method, path, body, **more)
        assert answer.code < 300, f"{method} {path}: {answer.code} {answer.text}"
        return answer.body


@pytest.fixture(scope="session")
def api(cluster):
    """The API as the administrator sees it."""
    return Api(cluster.kubeconfig)


@pytest.fixture
def core(namespace):
    return f"/api/v1/namespaces/{namespace}"


@pytest.fixture
def apps(namespace):
    return f"/apis/apps/v1/namespaces/{namespace}"


@pytest.fixture
def maps(core):
    return f"{core}/configmaps"


def config_map(name, data=None, **metadata):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": data or {}}


def deployment(name, replicas=0, **spec):
    labels = {"app": name}
    container = {"name": "main", "image": "app:1", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    body = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {**body, **spec}}

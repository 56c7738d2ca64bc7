"""The Helm chart on a devcluster, and the cluster as its different users see it."""

import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from helm_python import Chart
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from anomaly_devcluster.testing import Cluster, cluster

ROOT = Path(__file__).parents[2]
SYSTEM = "anomaly-system"
ACCOUNT = "cpu-watch-anomaly-detector"
"""Of the pods of a model `cpu-watch`."""


def rendered(values=None, *, name="anomaly-operator", namespace=SYSTEM):
    """Return the chart's objects as Helm's own library renders them."""
    with Chart.load(ROOT / "charts" / "anomaly-operator") as chart:
        files = chart.render(values or {}, name=name, namespace=namespace)
    return [d for file, text in sorted(files.items()) if file.endswith(".yaml") for d in yaml.safe_load_all(text) if d]


@dataclass
class Installed:
    """A cluster with the chart in it."""

    cluster: Cluster

    def admin(self):
        return config.new_client_from_config(config_file=str(self.cluster.kubeconfig))

    def user(self, namespace, account, pod=None):
        """Return a client with a service account's token, bound to a pod if one is given."""
        bound = {"kind": "Pod", "apiVersion": "v1", "name": pod["name"], "uid": pod["uid"]} if pod else None
        request = {"spec": {"audiences": None, "expirationSeconds": 3600, "boundObjectRef": bound}}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        token = call(self.admin(), "POST", path, request)["status"]["token"]
        admin = self.admin().configuration
        chosen = client.Configuration()
        chosen.host, chosen.ssl_ca_cert = admin.host, admin.ssl_ca_cert
        chosen.api_key = {"authorization": f"Bearer {token}"}
        return client.ApiClient(chosen)

    def apply(self, *objects):
        self.cluster.kubectl("apply", "-f", "-", stdin=list(objects))

    def admit_detectors(self, name):
        """Make a namespace with the account of the pods of `cpu-watch`, and the rights that the operator gives it."""
        meta = {"name": ACCOUNT, "namespace": name}
        binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": meta}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "anomaly-detector"}
        self.apply(
            namespace(name),
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
            binding | {"roleRef": role, "subjects": [{"kind": "ServiceAccount", **meta}]},
        )

    @contextmanager
    def model(self, name):
        """Have an AnomalyModel `cpu-watch` in a namespace; its UID."""
        path = f"/apis/anomalymodel.dev/v1alpha1/namespaces/{name}/anomalymodels"
        body = {"apiVersion": "anomalymodel.dev/v1alpha1", "kind": "AnomalyModel", "metadata": {"name": "cpu-watch"}}
        made = call(self.admin(), "POST", path, body | {"spec": {"model": {"name": "m", "alias": "champion"}}})
        try:
            yield made["metadata"]["uid"]
        finally:
            call(self.admin(), "DELETE", f"{path}/cpu-watch")


def mount_account(user, folder):
    """Lay a client's token and authority where a pod has those of its account."""
    folder.mkdir(exist_ok=True)
    (folder / "token").write_text(user.configuration.api_key["authorization"].removeprefix("Bearer "))
    shutil.copy(user.configuration.ssl_ca_cert, folder / "ca.crt")
    return folder


class RefusedError(Exception):
    """What the API server said instead of doing it."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code = code


def call(api, method, path, body=None, *, media="application/json"):
    """Send a request as it stands and return the answer's JSON; raises RefusedError."""
    headers = {"Content-Type": media, "Accept": "application/json"}
    try:
        answer = api.call_api(method, api.configuration.host + path, headers | _authorization(api), body, None, (5, 30))
    except ApiException as error:
        raise RefusedError(error.status, error.body) from None
    text = answer.read()
    if answer.status >= 300:
        raise RefusedError(answer.status, text.decode())
    return json.loads(text)


def _authorization(api):
    token = api.configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
    return {"Authorization": token} if token else {}


def namespace(name):
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


@pytest.fixture(scope="session")
def installed():
    """The chart without running operators, on a cluster of its own."""
    with cluster() as made:
        one = Installed(made)
        one.apply(namespace(SYSTEM), namespace("demo"))
        one.apply(*rendered({"replicas": 0}))
        yield one

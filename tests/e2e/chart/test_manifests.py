"""What the repository ships as plain YAML is accepted by an API server."""

from pathlib import Path

import pytest
from tests.plugins.installed_chart import RefusedError, call

from anomaly_devcluster import testing

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[3]
MODELS = "/apis/anomalymodel.dev/v1alpha1/namespaces/demo/anomalymodels"


@pytest.mark.parametrize("sample", sorted((ROOT / "manifests/samples").glob("[!k]*.yaml")), ids=lambda path: path.name)
def test_the_samples_pass_the_servers_validation(installed, sample):
    said = installed.cluster.kubectl("-n", "demo", "apply", "--dry-run=server", "-f", str(sample))

    assert said.endswith("created (server dry run)\n")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"model": {"name": "m", "alias": "a", "version": "1"}}, "exactly one of alias, version and stage"),
        ({"model": {"name": "m"}}, "exactly one of alias, version and stage"),
        ({"model": {"name": "m", "alias": "a"}, "blueGreen": {"autoPromotion": True}}, "spec.blueGreen.autoPromotion"),
        (
            {"model": {"name": "m", "version": "1"}, "retraining": {"enabled": True}},
            "retraining needs spec.model.alias",
        ),
        ({"model": {"name": "m", "alias": "a"}, "detector": {"replicas": 0}}, "spec.detector.replicas"),
        (
            {"model": {"name": "m", "alias": "a"}, "detector": {"podLabels": {"anomalymodel.dev/color": "blue"}}},
            "podLabels must not use the prefixes",
        ),
    ],
)
def test_a_wrong_model_is_refused_in_words_and_leaves_nothing(installed, spec, words):
    body = {
        "apiVersion": "anomalymodel.dev/v1alpha1",
        "kind": "AnomalyModel",
        "metadata": {"name": "wrong", "namespace": "demo"},
        "spec": spec,
    }

    with pytest.raises(RefusedError) as refused:
        call(installed.admin(), "POST", MODELS + "?fieldValidation=Strict", body)

    assert refused.value.code in {400, 422}
    assert words in str(refused.value)
    with pytest.raises(RefusedError, match="404"):
        call(installed.admin(), "GET", f"{MODELS}/wrong")


def test_the_rendered_installation_is_accepted_as_it_is():
    with testing.cluster() as cluster:
        said = cluster.kubectl("apply", "--server-side", "-k", str(ROOT / "manifests" / "install"))
        again = cluster.kubectl("apply", "--server-side", "-k", str(ROOT / "manifests" / "install"))
        found = cluster.kubectl("-n", "anomaly-system", "get", "deployment,service,serviceaccount", "-o", "name")
        label = cluster.kubectl("get", "namespace/anomaly-system", "-o", "jsonpath={.metadata.labels}")

    assert "serverside-applied" in said
    assert again == said
    assert {"deployment.apps/anomaly-operator", "service/anomaly-operator", "serviceaccount/anomaly-operator"} <= set(
        found.split()
    )
    assert '"pod-security.kubernetes.io/enforce":"restricted"' in label

"""The CustomResourceDefinition as the API server understands it."""

import json

import pytest

pytestmark = pytest.mark.e2e


def anomaly_model(namespace, spec, name="cpu"):
    return {
        "apiVersion": "anomalymodel.dev/v1alpha1",
        "kind": "AnomalyModel",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


MODEL = {"name": "m", "alias": "champion"}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"model": {"name": "m"}}, ["spec.model", "exactly one of alias, version and stage"]),
        ({"model": MODEL | {"version": "2"}}, ["spec.model", "exactly one of alias, version and stage"]),
        ({"model": {"alias": "a"}}, ["spec.model.name", "Required"]),
        ({"model": MODEL, "replicas": 3}, ['unknown field "spec.replicas"']),
        ({"model": MODEL, "detector": {"replicas": 0}}, ["spec.detector.replicas"]),
        ({"model": MODEL, "blueGreen": {"shadow": {"percent": 101}}}, ["spec.blueGreen.shadow.percent"]),
        ({"model": MODEL | {"pollInterval": "5"}}, ["spec.model.pollInterval"]),
        ({"model": {"name": "m", "version": "1"}, "retraining": {"enabled": True}}, ["retraining", "follow an alias"]),
        (
            {"model": MODEL, "retraining": {"enabled": True, "data": "influx"}},
            ["spec.retraining.data", "needs spec.source.influxdb", "add it, or give spec.retraining.jobTemplate"],
        ),
        ({"model": MODEL, "detector": {"podLabels": {"anomalymodel.dev/color": "blue"}}}, ["podLabels", "rename"]),
    ],
)
def test_a_dry_run_says_which_field_is_wrong_and_what_to_do(defined, namespace, spec, words):
    said = defined.kubectl("apply", "--dry-run=server", "-f", "-", stdin=[anomaly_model(namespace, spec)], check=False)
    for word in words:
        assert word in said


@pytest.mark.parametrize("name", ["Cpu", "1cpu", "cpu-", "c" * 41])
def test_a_name_that_children_could_not_bear_is_refused(defined, namespace, name):
    said = defined.kubectl(
        "apply", "--dry-run=server", "-f", "-", stdin=[anomaly_model(namespace, {"model": MODEL}, name)], check=False
    )
    assert "nvalid" in said


def test_defaults_are_filled_in_and_the_short_name_works(defined, namespace):
    defined.kubectl("apply", "-f", "-", stdin=[anomaly_model(namespace, {"model": MODEL})])
    spec = json.loads(defined.kubectl("get", "am", "cpu", "-n", namespace, "-o", "json"))["spec"]
    assert spec["detector"]["replicas"] == 3
    assert spec["gates"]["latency"]["milliseconds"] == 6.94
    assert spec["blueGreen"]["prePromotionAnalysis"]["gates"] == {}
    assert "cpu" in defined.kubectl("get", "mlops", "-n", namespace)


def test_kubectl_scale_writes_the_replicas_of_the_detector(defined, namespace):
    defined.kubectl("apply", "-f", "-", stdin=[anomaly_model(namespace, {"model": MODEL})])
    defined.kubectl("scale", "am/cpu", "--replicas=5", "-n", namespace)
    assert defined.kubectl("get", "am", "cpu", "-n", namespace, "-o", "jsonpath={.spec.detector.replicas}") == "5"


def test_kubectl_explain_is_documentation(defined):
    said = defined.kubectl("explain", "anomalymodels.spec.blueGreen.scaleDownDelaySeconds")
    assert "How long the losing color is kept warm after a switch." in said

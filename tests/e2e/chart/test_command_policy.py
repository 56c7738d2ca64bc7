"""Nobody may command in another's name, and nobody else is hindered."""

import json

import pytest
from tests.plugins.installed_chart import RefusedError, call

from anomaly_operator.cli.commands import command_text

pytestmark = pytest.mark.e2e

KEY = "anomalymodel.dev/command"
MERGE = "application/merge-patch+json"
MODELS = "/apis/anomalymodel.dev/v1alpha1/namespaces/demo/anomalymodels"
JANE = "system:serviceaccount:demo:jane"


def model(name, **metadata):
    return {
        "apiVersion": "anomalymodel.dev/v1alpha1",
        "kind": "AnomalyModel",
        "metadata": {"name": name, "namespace": "demo", **metadata},
        "spec": {"model": {"name": "m", "alias": "champion"}},
    }


@pytest.fixture(scope="module")
def jane(installed):
    """A user of the namespace with the chart's own role for users."""
    grant = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "jane", "namespace": "demo"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "anomalymodels-edit"},
        "subjects": [{"kind": "ServiceAccount", "name": "jane", "namespace": "demo"}],
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "jane", "namespace": "demo"}}
    installed.apply(account, grant, model("steered"))
    return installed.user("demo", "jane")


def annotate(api, text):
    return call(api, "PATCH", f"{MODELS}/steered", {"metadata": {"annotations": {KEY: text}}}, media=MERGE)


@pytest.mark.parametrize("revision", [None, "6c9d7f8b5"])
def test_a_command_in_ones_own_name_passes(jane, revision):
    text = command_text("id-1", "rollback", revision, JANE)

    assert annotate(jane, text)["metadata"]["annotations"][KEY] == text


def test_the_spelling_of_other_json_writers_passes_too(jane):
    text = json.dumps({"id": "id-2", "verb": "promote", "by": JANE})

    assert annotate(jane, text)["metadata"]["annotations"][KEY] == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (command_text("id-3", "rollback", None, "system:admin"), "must be the requesting user"),
        (command_text("id-3", "rollback", None, "x" + JANE), "must be the requesting user"),
        ('{"id":"id-3","verb":"rollback"}', "expected {"),
        ('{"by":"' + JANE + '","id":"id-3","verb":"rollback"}', "expected {"),
        ('{"id":"id-3","verb":"rollback","by":"boss","by":"' + JANE + '"}', "expected {"),
        ('{"id":"id-3","verb":"roll\\"back","by":"' + JANE + '"}', "expected {"),
        ("rollback", "expected {"),
    ],
)
def test_anything_else_is_refused_in_words(jane, text, words):
    with pytest.raises(RefusedError) as refused:
        annotate(jane, text)

    assert refused.value.code in {403, 422}
    assert words in json.loads(str(refused.value).partition(": ")[2])["message"]


def test_a_model_cannot_be_born_with_a_command_of_another(jane):
    body = model("born", annotations={KEY: command_text("id-4", "promote", None, "boss")})

    with pytest.raises(RefusedError, match="must be the requesting user"):
        call(jane, "POST", MODELS, body)


def test_a_standing_command_hinders_nobody_who_leaves_it_alone(installed, jane):
    text = command_text("id-5", "pause", None, JANE)
    annotate(jane, text)

    changed = {"metadata": {"labels": {"touched": "yes"}}}
    answer = call(installed.admin(), "PATCH", f"{MODELS}/steered", changed, media=MERGE)

    assert answer["metadata"]["annotations"][KEY] == text
    assert answer["metadata"]["labels"] == {"touched": "yes"}


def test_a_command_can_be_taken_back_by_anyone_who_may_patch(installed, jane):
    annotate(jane, command_text("id-6", "pause", None, JANE))

    answer = call(
        installed.admin(), "PATCH", f"{MODELS}/steered", {"metadata": {"annotations": {KEY: None}}}, media=MERGE
    )

    assert KEY not in answer["metadata"].get("annotations", {})

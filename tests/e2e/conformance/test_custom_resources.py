"""CustomResourceDefinitions: what they refuse, prune, fill in, and serve."""

import itertools

import pytest
from tests.e2e.conformance.conftest import MERGE, STRATEGIC
from tests.plugins.devcluster import wait_until_served

pytestmark = pytest.mark.e2e
_numbers = itertools.count(1)


def definition(group, **version):
    conditions = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status"],
            "properties": {"type": {"type": "string"}, "status": {"type": "string"}},
        },
    }
    only_one = {"rule": "has(self.alias) != has(self.version)", "message": "exactly one of alias and version"}
    frozen = {
        "type": "string",
        "maxLength": 9,
        "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "no"}],
    }
    spec = {
        "type": "object",
        "required": ["size"],
        "x-kubernetes-validations": [only_one],
        "properties": {
            "size": {"type": "string", "enum": ["small", "large"], "description": "How big it is."},
            "replicas": {"type": "integer", "minimum": 0, "maximum": 10, "default": 1},
            "alias": {"type": "string", "maxLength": 20, "pattern": "^[a-z]+$"},
            "version": {"type": "string", "maxLength": 20},
            "frozen": frozen,
            "nested": {"type": "object", "default": {}, "properties": {"seconds": {"type": "integer", "default": 30}}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "port": {"x-kubernetes-int-or-string": True},
            "tags": {
                "type": "array",
                "maxItems": 2,
                "x-kubernetes-list-type": "set",
                "items": {"type": "string", "maxLength": 9},
            },
        },
    }
    status = {"type": "object", "properties": {"replicas": {"type": "integer"}, "conditions": conditions}}
    schema = {"type": "object", "required": ["spec"], "properties": {"spec": spec, "status": status}}
    scale = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
    column = {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'}
    served = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}, "scale": scale},
        "selectableFields": [{"jsonPath": ".spec.size"}],
        "additionalPrinterColumns": [column],
        "schema": {"openAPIV3Schema": schema},
        **version,
    }
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wd"]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [served]},
    }


@pytest.fixture(scope="module")
def group(api, cluster):
    name = f"conformance{next(_numbers)}.dev"
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    wait_until_served(cluster, api.must("POST", crds, definition(name)))
    yield name
    api.must("DELETE", f"{crds}/widgets.{name}")


@pytest.fixture
def widgets(group, namespace):
    return f"/apis/{group}/v1/namespaces/{namespace}/widgets"


@pytest.fixture
def widget(group):
    def make(name="w", **spec):
        body = {"size": "small", "alias": "a", **spec}
        spec = {key: value for key, value in body.items() if value is not None}
        return {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec}

    return make


def test_unknown_fields_are_pruned_and_defaults_filled_in(api, widgets, widget):
    body = api.must("POST", widgets, widget(junk=1, nested={"junk": 1}, free={"kept": [1]}, port="http"))
    assert body["spec"] == {
        "size": "small",
        "alias": "a",
        "replicas": 1,
        "nested": {"seconds": 30},
        "free": {"kept": [1]},
        "port": "http",
    }


def test_strict_validation_names_every_unknown_field(api, widgets, widget):
    answer = api("POST", widgets, widget(junk=1, nested={"junk": 1}), fieldValidation="Strict")
    assert answer.code == 400
    assert 'unknown field "spec.nested.junk", unknown field "spec.junk"' in answer.body["message"] or (
        'unknown field "spec.junk", unknown field "spec.nested.junk"' in answer.body["message"]
    )


@pytest.mark.parametrize(
    ("spec", "causes"),
    [
        ({"size": "huge"}, {("spec.size", "FieldValueNotSupported")}),
        ({"size": None}, {("spec.size", "FieldValueRequired")}),
        ({"replicas": 11}, {("spec.replicas", "FieldValueInvalid")}),
        ({"replicas": "two"}, {("spec.replicas", "FieldValueTypeInvalid")}),
        ({"alias": "A1"}, {("spec.alias", "FieldValueInvalid")}),
        ({"alias": None, "version": "x" * 21}, {("spec.version", "FieldValueTooLong")}),
        ({"version": "1"}, {("spec", "FieldValueInvalid")}),
        ({"alias": None}, {("spec", "FieldValueInvalid")}),
        ({"tags": ["a", "a"]}, {("spec.tags[1]", "FieldValueDuplicate")}),
        ({"tags": ["a", "b", "c"]}, {("spec.tags", "FieldValueTooMany")}),
        (
            {"size": "huge", "replicas": 99},
            {("spec.size", "FieldValueNotSupported"), ("spec.replicas", "FieldValueInvalid")},
        ),
    ],
)
def test_what_the_schema_forbids_is_refused_by_field(api, widgets, widget, spec, causes):
    answer = api("POST", widgets, widget(**spec))
    assert (answer.code, answer.reason) == (422, "Invalid")
    # A real server adds causes of no field, and of the path of the scale subresource.
    assert {c for c in answer.causes if not c[0].startswith(("<", "."))} == causes


def test_a_transition_rule_compares_with_what_was_there(api, widgets, widget):
    api.must("POST", widgets, widget(frozen="x"))
    answer = api("PATCH", f"{widgets}/w", {"spec": {"frozen": "y"}}, media=MERGE)
    assert answer.causes == {("spec.frozen", "FieldValueInvalid")}
    api.must("PATCH", f"{widgets}/w", {"spec": {"size": "large"}}, media=MERGE)


def test_status_and_spec_are_written_through_their_own_paths(api, widgets, widget):
    api.must("POST", widgets, {**widget(), "status": {"replicas": 5}})
    assert "status" not in api.must("GET", f"{widgets}/w")
    patch = {"spec": {"replicas": 9}, "status": {"replicas": 2, "conditions": [{"type": "Ready", "status": "True"}]}}
    body = api.must("PATCH", f"{widgets}/w/status", patch, media=MERGE)
    assert (body["spec"]["replicas"], body["status"]["replicas"], body["metadata"]["generation"]) == (1, 2, 1)
    body = api.must("PATCH", f"{widgets}/w", patch | {"status": {"replicas": 7}}, media=MERGE)
    assert (body["spec"]["replicas"], body["status"]["replicas"], body["metadata"]["generation"]) == (9, 2, 2)


def test_an_invalid_status_is_refused(api, widgets, widget):
    api.must("POST", widgets, widget())
    answer = api("PATCH", f"{widgets}/w/status", {"status": {"conditions": [{"type": "Ready"}]}}, media=MERGE)
    assert ("status.conditions[0].status", "FieldValueRequired") in answer.causes


def test_scale_follows_the_declared_paths(api, widgets, widget):
    api.must("POST", widgets, widget())
    assert api.must("PATCH", f"{widgets}/w/scale", {"spec": {"replicas": 4}}, media=MERGE)["spec"]["replicas"] == 4
    assert api.must("GET", f"{widgets}/w")["spec"]["replicas"] == 4


def test_strategic_merge_is_for_built_in_kinds_only(api, widgets, widget):
    api.must("POST", widgets, widget())
    assert api("PATCH", f"{widgets}/w", {}, media=STRATEGIC).code == 415


def test_a_declared_field_selects_and_another_does_not(api, widgets, widget):
    api.must("POST", widgets, widget("s"))
    api.must("POST", widgets, widget("l", size="large"))
    items = api.must("GET", widgets, fieldSelector="spec.size=large")["items"]
    assert [i["metadata"]["name"] for i in items] == ["l"]
    assert api("GET", widgets, fieldSelector="spec.replicas=1").code == 400


def test_explain_reads_the_descriptions(cluster, group):
    assert "How big it is." in cluster.kubectl("explain", "widgets.spec.size", f"--api-version={group}/v1")


@pytest.mark.parametrize(
    "version",
    [
        {"schema": {"openAPIV3Schema": {"properties": {"spec": {"type": "object"}}}}},
        {"schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {}}}}},
        {"storage": False},
    ],
)
def test_a_definition_that_is_not_structural_is_refused(api, version):
    body = definition("refused.dev", **version)
    answer = api("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body)
    assert (answer.code, answer.reason) == (422, "Invalid")


def test_objects_go_with_their_definition(api, cluster, namespace):
    name = f"conformance{next(_numbers)}.dev"
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    wait_until_served(cluster, api.must("POST", crds, definition(name)))
    body = {
        "apiVersion": f"{name}/v1",
        "kind": "Widget",
        "metadata": {"name": "w"},
        "spec": {"size": "small", "alias": "a"},
    }
    api.must("POST", f"/apis/{name}/v1/namespaces/{namespace}/widgets", body)
    cluster.kubectl("delete", f"crd/widgets.{name}", "--wait", "--timeout=90s")
    assert api("GET", f"{crds}/widgets.{name}").code == 404

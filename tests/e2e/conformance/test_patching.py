"""The four kinds of patches, and who owns which field afterwards."""

import pytest
from tests.e2e.conformance.conftest import APPLY, JSON_PATCH, MERGE, STRATEGIC, config_map, deployment

pytestmark = pytest.mark.e2e


@pytest.fixture
def one(api, maps):
    api.must("POST", maps, config_map("one", {"a": "1", "b": "2"}))
    return f"{maps}/one"


@pytest.fixture
def web(api, apps):
    api.must("POST", f"{apps}/deployments", deployment("web"))
    return f"{apps}/deployments/web"


def managers(body):
    return {(m["manager"], m["operation"]) for m in body["metadata"]["managedFields"]}


def test_a_merge_patch_sets_and_deletes(api, one):
    assert api.must("PATCH", one, {"data": {"a": None, "c": "3"}}, media=MERGE)["data"] == {"b": "2", "c": "3"}


def test_a_merge_patch_replaces_lists(api, web):
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "app:2"}]}}}}
    container = api.must("PATCH", web, patch, media=MERGE)["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "app:2"
    assert "env" not in container


def test_a_json_patch_applies_all_of_its_operations_or_none(api, one):
    good = [{"op": "test", "path": "/data/a", "value": "1"}, {"op": "replace", "path": "/data/b", "value": "9"}]
    assert api.must("PATCH", one, good, media=JSON_PATCH)["data"] == {"a": "1", "b": "9"}
    bad = [{"op": "replace", "path": "/data/a", "value": "7"}, {"op": "remove", "path": "/data/none"}]
    answer = api("PATCH", one, bad, media=JSON_PATCH)
    assert (answer.code, answer.reason) == (422, "Invalid")
    assert api.must("GET", one)["data"]["a"] == "1"


def test_a_strategic_merge_patch_merges_lists_by_key(api, web):
    main = {"name": "main", "env": [{"name": "A", "value": "9"}, {"name": "C", "value": "3"}]}
    containers = [{"name": "side", "image": "side:1"}, main]
    patch = {"spec": {"template": {"spec": {"containers": containers}}}}
    found = {
        c["name"]: c for c in api.must("PATCH", web, patch, media=STRATEGIC)["spec"]["template"]["spec"]["containers"]
    }
    assert set(found) == {"main", "side"}
    assert {e["name"]: e["value"] for e in found["main"]["env"]} == {"A": "9", "B": "2", "C": "3"}
    gone = {"spec": {"template": {"spec": {"containers": [{"name": "side", "$patch": "delete"}]}}}}
    left = api.must("PATCH", web, gone, media=STRATEGIC)["spec"]["template"]["spec"]["containers"]
    assert [c["name"] for c in left] == ["main"]


def test_an_unknown_type_of_patch_is_unsupported(api, one):
    answer = api("PATCH", one, {}, type="application/json")
    assert (answer.code, answer.reason) == (415, "UnsupportedMediaType")


def test_generation_counts_changes_of_spec_alone(api, web):
    first = api.must("GET", web)["metadata"]["generation"]
    assert api.must("PATCH", web, {"metadata": {"labels": {"a": "b"}}}, media=MERGE)["metadata"]["generation"] == first
    assert api.must("PATCH", web, {"spec": {"minReadySeconds": 1}}, media=MERGE)["metadata"]["generation"] == first + 1


def test_an_annotation_of_a_deployment_counts_as_a_change_unless_it_comes_with_the_status(api, web):
    first = api.must("GET", web)["metadata"]["generation"]
    body = {"metadata": {"annotations": {"a": "b"}}}
    assert api.must("PATCH", web, body, media=MERGE)["metadata"]["generation"] == first + 1
    body = {"metadata": {"annotations": {"a": "c"}, "labels": {"a": "c"}}}
    metadata = api.must("PATCH", f"{web}/status", body, media=MERGE)["metadata"]
    assert (metadata["generation"], metadata["annotations"]["a"]) == (first + 1, "c")
    assert "a" not in metadata.get("labels", {})


def test_scale_reads_and_writes_replicas(api, web):
    assert api.must("GET", f"{web}/scale")["spec"] == {"replicas": 0} or api.must("GET", f"{web}/scale")["spec"] == {}
    scale = api.must("PATCH", f"{web}/scale", {"spec": {"replicas": 2}}, media=MERGE)
    assert (scale["kind"], scale["spec"]["replicas"], scale["status"]["selector"]) == ("Scale", 2, "app=web")
    assert api.must("GET", web)["spec"]["replicas"] == 2


def test_applying_creates_then_changes_nothing(api, maps):
    path = f"{maps}/applied"
    created = api("PATCH", path, config_map("applied", {"a": "1"}), media=APPLY, fieldManager="alice")
    assert created.code == 201
    again = api.must("PATCH", path, config_map("applied", {"a": "1"}), media=APPLY, fieldManager="alice")
    assert again["metadata"]["resourceVersion"] == created.body["metadata"]["resourceVersion"]
    assert managers(again) == {("alice", "Apply")}


def test_what_is_no_longer_applied_is_removed_unless_others_own_it(api, maps):
    path = f"{maps}/applied"
    api.must("PATCH", path, config_map("applied", {"a": "1", "b": "1"}), media=APPLY, fieldManager="alice")
    api.must("PATCH", path, config_map("applied", {"b": "1"}), media=APPLY, fieldManager="bob")
    left = api.must("PATCH", path, config_map("applied", {"z": "1"}), media=APPLY, fieldManager="alice")
    assert left["data"] == {"b": "1", "z": "1"}


def test_a_conflict_names_manager_and_field_and_force_takes_it(api, maps):
    path = f"{maps}/applied"
    api.must("PATCH", path, config_map("applied", {"a": "1"}), media=APPLY, fieldManager="alice")
    answer = api("PATCH", path, config_map("applied", {"a": "2"}), media=APPLY, fieldManager="bob")
    assert (answer.code, answer.reason) == (409, "Conflict")
    assert answer.causes == {(".data.a", "FieldManagerConflict")}
    assert 'conflict with "alice"' in answer.body["message"]
    assert api.must("GET", path)["data"] == {"a": "1"}
    forced = api.must("PATCH", path, config_map("applied", {"a": "2"}), media=APPLY, fieldManager="bob", force="true")
    assert forced["data"] == {"a": "2"}
    assert managers(forced) == {("bob", "Apply")}


def test_a_plain_write_takes_the_field_from_who_applied_it(api, maps):
    path = f"{maps}/applied"
    api.must("PATCH", path, config_map("applied", {"a": "1"}), media=APPLY, fieldManager="alice")
    api.must("PATCH", path, {"data": {"a": "5"}}, media=MERGE, fieldManager="editor")
    answer = api("PATCH", path, config_map("applied", {"a": "1"}), media=APPLY, fieldManager="alice")
    assert answer.code == 409
    assert 'conflict with "editor" using v1' in answer.body["message"]


def test_two_managers_own_elements_of_one_list(api, apps):
    path = f"{apps}/deployments/shared"
    api.must("PATCH", path, deployment("shared"), media=APPLY, fieldManager="alice")
    container = {"name": "main", "env": [{"name": "Z", "value": "9"}]}
    part = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shared"}}
    part["spec"] = {"template": {"spec": {"containers": [container]}}}
    api.must("PATCH", path, part, media=APPLY, fieldManager="bob")
    part["spec"]["template"]["spec"]["containers"] = [{"name": "main"}]
    left = api.must("PATCH", path, part, media=APPLY, fieldManager="bob")
    main = left["spec"]["template"]["spec"]["containers"][0]
    assert [e["name"] for e in main["env"]] == ["A", "B"]


def test_a_field_that_is_no_longer_applied_gets_its_default_back(api, apps):
    path = f"{apps}/deployments/solo"
    body = deployment("solo", 3, revisionHistoryLimit=4)
    api.must("PATCH", path, body, media=APPLY, fieldManager="alice")
    del body["spec"]["revisionHistoryLimit"]
    assert api.must("PATCH", path, body, media=APPLY, fieldManager="alice")["spec"]["revisionHistoryLimit"] == 10


def test_a_struct_that_is_no_longer_applied_goes_with_its_defaults(api, apps):
    path = f"{apps}/deployments/probed"
    body = deployment("probed")
    main = body["spec"]["template"]["spec"]["containers"][0]
    main["readinessProbe"] = {"httpGet": {"port": 8080}}
    api.must("PATCH", path, body, media=APPLY, fieldManager="alice")
    del main["readinessProbe"]
    left = api.must("PATCH", path, body, media=APPLY, fieldManager="alice")
    assert "readinessProbe" not in left["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize(
    ("query", "metadata", "code"),
    [
        ({}, {}, 422),
        ({"fieldManager": "alice"}, {"managedFields": [{"manager": "x"}]}, 400),
        ({"fieldManager": "alice"}, {"resourceVersion": "1"}, 409),
    ],
)
def test_an_apply_that_is_not_well_formed_is_refused(api, one, query, metadata, code):
    assert api("PATCH", one, config_map("one", {"q": "1"}, **metadata), media=APPLY, **query).code == code


def test_a_service_selector_has_one_owner(api, core):
    ports = [{"port": 80, "targetPort": 8080}]
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}
    path = f"{core}/services/s"
    body["spec"] = {"selector": {"app": "web", "color": "blue"}, "ports": ports}
    api.must("PATCH", path, body, media=APPLY, fieldManager="alice")
    body["spec"]["selector"] = {"app": "web"}
    assert api.must("PATCH", path, body, media=APPLY, fieldManager="alice")["spec"]["selector"] == {"app": "web"}
    api.must("PATCH", path, {"spec": {"selector": {"color": "green"}}}, media=MERGE, fieldManager="editor")
    answer = api("PATCH", path, body, media=APPLY, fieldManager="alice")
    assert answer.causes == {(".spec.selector", "FieldManagerConflict")}

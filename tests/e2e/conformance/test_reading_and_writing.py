"""Create, read, update and delete, as any Kubernetes API server answers them."""

import pytest
from tests.e2e.conformance.conftest import config_map

pytestmark = pytest.mark.e2e


def test_a_created_object_has_uid_time_and_revision(api, maps):
    body = api.must("POST", maps, config_map("a", {"k": "v"}))
    assert body["data"] == {"k": "v"}
    assert body["metadata"]["uid"]
    assert body["metadata"]["creationTimestamp"].endswith("Z")
    assert int(body["metadata"]["resourceVersion"]) > 0


def test_what_exists_cannot_be_created_again(api, maps):
    api.must("POST", maps, config_map("a"))
    answer = api("POST", maps, config_map("a"))
    assert (answer.code, answer.reason) == (409, "AlreadyExists")
    assert answer.body["message"] == 'configmaps "a" already exists'


@pytest.mark.parametrize(
    ("body", "code", "reason", "causes"),
    [
        (config_map("Bad_Name"), 422, "Invalid", {("metadata.name", "FieldValueInvalid")}),
        ({"apiVersion": "v1", "kind": "ConfigMap"}, 422, "Invalid", {("metadata.name", "FieldValueRequired")}),
        ({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}, 400, "BadRequest", set()),
        (config_map("a", labels={"k": "not a label!"}), 422, "Invalid", {("metadata.labels", "FieldValueInvalid")}),
        (config_map("a", resourceVersion="5"), 500, None, set()),
        (config_map("a", namespace="elsewhere"), 400, "BadRequest", set()),
        ("{nope", 400, "BadRequest", set()),
        ({**config_map("a"), "data": {"k": 5}}, 400, "BadRequest", set()),
    ],
)
def test_what_cannot_be_created_is_refused_by_field(api, maps, body, code, reason, causes):
    answer = api("POST", maps, body)
    assert (answer.code, answer.reason, answer.causes) == (code, reason, causes)


def test_generated_names_begin_as_asked_and_differ(api, maps):
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "gen-"}}
    names = {api.must("POST", maps, body)["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("gen-") and len(name) == 9 for name in names)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_dry_run_answers_and_changes_nothing(api, maps, method):
    before = api.must("POST", maps, config_map("a", {"k": "1"}))
    body = {"data": {"k": "2"}} if method == "PATCH" else config_map("b" if method == "POST" else "a", {"k": "2"})
    media = "application/merge-patch+json" if method == "PATCH" else "application/json"
    path = maps if method == "POST" else f"{maps}/a"
    answer = api(method, path, None if method == "DELETE" else body, media=media, dryRun="All")
    assert answer.code in (200, 201)
    assert api.must("GET", f"{maps}/a") == before
    assert api("GET", f"{maps}/b").code == 404


def test_an_update_based_on_an_old_revision_conflicts(api, maps):
    old = api.must("POST", maps, config_map("a", {"k": "1"}))
    api.must("PUT", f"{maps}/a", {**old, "data": {"k": "2"}})
    answer = api("PUT", f"{maps}/a", {**old, "data": {"k": "3"}})
    assert (answer.code, answer.reason) == (409, "Conflict")
    assert "the object has been modified" in answer.body["message"]


def test_an_update_that_changes_nothing_keeps_the_revision(api, maps):
    body = api.must("POST", maps, config_map("a", {"k": "1"}))
    assert api.must("PUT", f"{maps}/a", body) == body


def test_an_update_keeps_what_only_the_server_writes(api, maps):
    old = api.must("POST", maps, config_map("a"))["metadata"]
    sent = config_map("a", {"k": "v"}, creationTimestamp="2001-01-01T00:00:00Z")
    new = api.must("PUT", f"{maps}/a", sent)["metadata"]
    assert (new["uid"], new["creationTimestamp"]) == (old["uid"], old["creationTimestamp"])


def test_the_name_in_the_body_must_be_that_of_the_url(api, maps):
    api.must("POST", maps, config_map("a"))
    assert api("PUT", f"{maps}/a", config_map("b")).code == 400


def test_unknown_fields_are_refused_warned_of_or_dropped_as_asked(api, maps):
    body = {**config_map("a"), "nonsense": 1}
    strict = api("POST", maps, body, fieldValidation="Strict")
    assert (strict.code, strict.reason) == (400, "BadRequest")
    assert 'unknown field "nonsense"' in strict.body["message"]
    warned = api("POST", maps, body, fieldValidation="Warn", dryRun="All")
    assert "unknown field" in warned.headers["Warning"]
    ignored = api("POST", maps, body, fieldValidation="Ignore")
    assert ignored.code == 201
    assert "Warning" not in ignored.headers
    assert "nonsense" not in ignored.body


def test_a_finalizer_holds_an_object_until_it_is_removed(api, maps):
    api.must("POST", maps, config_map("a", finalizers=["example.dev/hold"]))
    marked = api.must("DELETE", f"{maps}/a")
    assert marked["metadata"]["deletionTimestamp"]
    more = {"metadata": {"finalizers": ["example.dev/hold", "example.dev/late"]}}
    assert api("PATCH", f"{maps}/a", more, media="application/merge-patch+json").code == 422
    api.must("PATCH", f"{maps}/a", {"metadata": {"finalizers": None}}, media="application/merge-patch+json")
    assert api("GET", f"{maps}/a").code == 404


@pytest.mark.parametrize(
    ("preconditions", "code"),
    [({"uid": "00000000-0000-0000-0000-000000000000"}, 409), ({"resourceVersion": "1"}, 409), ({}, 200)],
)
def test_a_deletion_happens_only_under_its_preconditions(api, maps, preconditions, code):
    api.must("POST", maps, config_map("a"))
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions}
    assert api("DELETE", f"{maps}/a", options).code == code
    assert api("GET", f"{maps}/a").code == (404 if code == 200 else 200)


def test_a_collection_is_deleted_by_selector(api, maps):
    for name, color in (("a", "blue"), ("b", "green")):
        api.must("POST", maps, config_map(name, labels={"color": color}))
    api.must("DELETE", maps, labelSelector="color=blue")
    assert (api("GET", f"{maps}/a").code, api("GET", f"{maps}/b").code) == (404, 200)


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("tier=a", ["one"]),
        ("tier==a", ["one"]),
        ("tier!=a", ["three", "two"]),
        ("tier in (a, b)", ["one", "two"]),
        ("tier notin (a)", ["three", "two"]),
        ("tier", ["one", "two"]),
        ("!tier", ["three"]),
        ("tier,tier!=b", ["one"]),
    ],
)
def test_labels_select(api, maps, selector, found):
    for name, labels in (("one", {"tier": "a"}), ("two", {"tier": "b"}), ("three", {"own": "1"})):
        api.must("POST", maps, config_map(name, labels={"mine": "1", **labels}))
    items = api.must("GET", maps, labelSelector=f"mine,{selector}")["items"]
    assert [i["metadata"]["name"] for i in items] == found


@pytest.mark.parametrize("query", [{"labelSelector": "a==="}, {"fieldSelector": "data.k=1"}, {"limit": "x"}])
def test_selectors_that_cannot_be_read_are_bad_requests(api, maps, query):
    assert api("GET", maps, **query).code == 400


def test_pages_show_the_list_as_it_was_when_it_began(api, maps):
    for name in "abcde":
        api.must("POST", maps, config_map(name, labels={"page": "1"}))
    first = api.must("GET", maps, limit="2", labelSelector="page")
    assert first["metadata"]["continue"]
    api.must("DELETE", f"{maps}/d")
    rest = api.must("GET", maps, limit="9", labelSelector="page", **{"continue": first["metadata"]["continue"]})
    names = [i["metadata"]["name"] for i in first["items"] + rest["items"]]
    assert names == list("abcde")
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_a_table_has_columns_and_the_metadata_of_each_row(api, maps):
    api.must("POST", maps, config_map("a", {"k": "v"}))
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    table = api.must("GET", f"{maps}/a", accept=accept)
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert table["rows"][0]["cells"][:1] == ["a"]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"


def test_what_is_not_served_is_not_found(api, core):
    assert api("GET", f"{core}/nothings").code == 404
    assert api("GET", "/apis/nothing.dev/v1").code == 404
    assert api("GET", f"{core}/configmaps/absent").body["details"] == {"kind": "configmaps", "name": "absent"}

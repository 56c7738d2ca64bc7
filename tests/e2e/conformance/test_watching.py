"""Watches: every write once, in order, from the revision that was asked for."""

import http.client
import json
import select

import pytest
from tests.e2e.conformance.conftest import MERGE, config_map

pytestmark = pytest.mark.e2e


@pytest.fixture
def story(api, maps):
    """Create, change, relabel twice and delete an object; return the revision of its creation."""
    body = api.must("POST", maps, config_map("seen", {"n": "1"}, labels={"w": "1"}))
    api.must("PATCH", f"{maps}/seen", {"data": {"n": "2"}}, media=MERGE)
    api.must("PATCH", f"{maps}/seen", {"metadata": {"labels": {"w": "2"}}}, media=MERGE)
    api.must("PATCH", f"{maps}/seen", {"metadata": {"labels": {"w": "1"}}}, media=MERGE)
    api.must("DELETE", f"{maps}/seen")
    return body["metadata"]["resourceVersion"]


def told(events):
    return [e["type"] for e in events]


def test_a_watch_resumes_after_its_revision(api, maps, story):
    events = api.watch(maps, resourceVersion=story, fieldSelector="metadata.name=seen")
    assert told(events) == ["MODIFIED", "MODIFIED", "MODIFIED", "DELETED"]
    revisions = [int(e["object"]["metadata"]["resourceVersion"]) for e in events]
    assert revisions == sorted(set(revisions))
    assert revisions[0] > int(story)


def test_leaving_the_selection_is_a_deletion_and_coming_back_an_addition(api, maps, story):
    assert told(api.watch(maps, resourceVersion=story, labelSelector="w=1")) == [
        "MODIFIED",
        "DELETED",
        "ADDED",
        "DELETED",
    ]


def test_a_watch_without_a_revision_begins_with_what_is_there(api, maps):
    api.must("POST", maps, config_map("there"))
    events = api.watch(maps, fieldSelector="metadata.name=there")
    assert [(e["type"], e["object"]["kind"], e["object"]["apiVersion"]) for e in events] == [
        ("ADDED", "ConfigMap", "v1")
    ]


def test_initial_events_end_with_a_bookmark_that_says_so(api, maps):
    api.must("POST", maps, config_map("there"))
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    events = api.watch(maps, fieldSelector="metadata.name=there", **query)
    assert told(events)[:2] == ["ADDED", "BOOKMARK"]
    assert set(told(events)[2:]) <= {"BOOKMARK"}  # a server may send one more before the time is over
    assert events[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_a_revision_from_the_future_times_out(api, maps):
    answer = api("GET", maps, resourceVersion="999999999")
    assert (answer.code, answer.reason) == (504, "Timeout")


def test_events_of_both_groups_are_the_same_objects(api, core, namespace):
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "e"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "tests",
        "reportingInstance": "1",
        "action": "Test",
        "reason": "Tested",
        "type": "Normal",
        "note": "it works",
        "regarding": {"kind": "ConfigMap", "name": "c", "namespace": namespace},
    }
    api.must("POST", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", event)
    old = api.must("GET", f"{core}/events/e")
    assert (old["message"], old["involvedObject"]["name"], old["reportingComponent"]) == ("it works", "c", "tests")


@pytest.mark.switchboard
def test_a_compacted_history_ends_old_watches_with_expired(api, maps, story):
    api.must("POST", "/devcluster/compact")
    events = api.watch(maps, resourceVersion=story)
    assert told(events) == ["ERROR"]
    assert (events[0]["object"]["code"], events[0]["object"]["reason"]) == (410, "Expired")


@pytest.mark.switchboard
@pytest.mark.parametrize(("code", "reason"), [(409, "Conflict"), (429, "TooManyRequests"), (500, "InternalError")])
def test_an_injected_failure_hits_what_it_names_as_often_as_it_says(api, maps, namespace, code, reason):
    rule = {"action": "fail", "verb": "patch", "resource": "configmaps", "name": "a", "namespace": namespace}
    api.must("POST", maps, config_map("a"))
    api.must("POST", maps, config_map("b"))
    api.must("POST", "/devcluster/faults", {**rule, "code": code, "count": 2})
    try:
        answers = [api("PATCH", f"{maps}/{name}", {"data": {"k": "v"}}, media=MERGE) for name in "abaa"]
    finally:
        api.must("DELETE", "/devcluster/faults")
    assert [a.code for a in answers] == [code, 200, code, 200]
    assert answers[0].reason == reason
    assert ("Retry-After" in answers[0].headers) == (code == 429)


@pytest.mark.switchboard
def test_a_rule_with_an_unknown_field_is_refused(api):
    answer = api("POST", "/devcluster/faults", {"action": "fail", "reource": "pods"})
    assert answer.code == 422
    assert ("reource", "FieldValueForbidden") in answer.causes


@pytest.fixture
def leases(api, namespace):
    """Leases: only the garbage collector watches them too."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"

    class Leases:
        def create(self, name):
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": {}}
            return api.must("POST", path, lease)

        def follow(self):
            revision = api.must("GET", path)["metadata"]["resourceVersion"]
            return api.stream(path, watch="1", timeoutSeconds="60", resourceVersion=revision)

    yield Leases()
    api.must("DELETE", "/devcluster/faults")


@pytest.mark.switchboard
def test_a_dropped_watch_is_cut_without_a_farewell(api, leases):
    with leases.follow() as lines:
        leases.create("a")
        assert json.loads(lines.readline())["type"] == "ADDED"
        assert api.must("POST", "/devcluster/drop-watches", {"resource": "leases"})["watches"] >= 1
        with pytest.raises((OSError, http.client.IncompleteRead)):
            lines.read()


@pytest.mark.switchboard
def test_a_frozen_watch_is_silent_until_the_faults_are_cleared(api, leases):
    with leases.follow() as frozen:
        assert api.must("POST", "/devcluster/freeze-watches", {"resource": "leases"})["watches"] >= 1
        with leases.follow() as other:
            leases.create("a")
            assert json.loads(other.readline())["object"]["metadata"]["name"] == "a"
            readable, _, _ = select.select([frozen], [], [], 0)
            assert not readable
            api.must("DELETE", "/devcluster/faults")
            assert json.loads(frozen.readline())["object"]["metadata"]["name"] == "a"


@pytest.mark.switchboard
def test_an_injected_reset_gives_no_answer(api, maps, namespace):
    api.must("POST", maps, config_map("a"))
    rule = {"action": "reset", "verb": "get", "resource": "configmaps", "namespace": namespace, "count": 1}
    api.must("POST", "/devcluster/faults", rule)
    try:
        with pytest.raises(OSError, match=r"closed|reset|EOF|abort"):
            api("GET", f"{maps}/a")
        assert api("GET", f"{maps}/a").code == 200
    finally:
        api.must("DELETE", "/devcluster/faults")

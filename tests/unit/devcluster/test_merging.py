"""Patches and ownership, without a server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_devcluster.api import fields, ownership
from anomaly_devcluster.api.authentication import ADMIN
from anomaly_devcluster.api.builtin import schema_of
from anomaly_devcluster.api.call import Call
from anomaly_devcluster.api.errors import StatusError
from anomaly_devcluster.api.merge import json_patch, merge_patch, strategic_merge
from anomaly_devcluster.api.resources import Catalog

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=1), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text("abc", min_size=1, max_size=1), JSON, max_size=3)
MAPS = Catalog().find("", "v1", "configmaps")


@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [  # RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_follows_the_rfc(target, patch, merged):
    assert merge_patch(target, patch) == merged


@given(target=OBJECTS, patch=OBJECTS)
def test_a_merge_patch_applied_twice_changes_nothing_more(target, patch):
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


def test_a_json_patch_that_is_no_list_is_a_bad_request():
    with pytest.raises(StatusError) as caught:
        json_patch({}, {"op": "add"})
    assert caught.value.code == 400


POD = schema_of("PodSpec")


def names(items):
    return [item["name"] for item in items]


@pytest.mark.parametrize(
    ("patch", "left"),
    [
        ([{"name": "c"}], ["a", "b", "c"]),
        ([{"name": "a", "$patch": "delete"}], ["b"]),
        ([{"$patch": "replace"}, {"name": "z"}], ["z"]),
        ([{"name": "b", "image": "i"}], ["a", "b"]),
    ],
)
def test_a_list_with_a_key_is_merged_by_it(patch, left):
    target = {"containers": [{"name": "a"}, {"name": "b"}]}
    assert sorted(names(strategic_merge(target, {"containers": patch}, POD)["containers"])) == left


def test_a_strategic_patch_may_set_the_order():
    target = {"containers": [{"name": "a"}, {"name": "b"}]}
    patch = {
        "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}],
        "containers": [{"name": "c"}],
    }
    assert names(strategic_merge(target, patch, POD)["containers"]) == ["c", "b", "a"]


def test_retained_keys_drop_the_others():
    target = {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}
    patch = {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}
    assert strategic_merge(target, patch, schema_of("DeploymentSpec")) == {"strategy": {"type": "Recreate"}}


def test_a_list_of_scalars_loses_what_the_patch_takes_away():
    target = {"finalizers": ["a", "b"]}
    patch = {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}
    assert strategic_merge(target, patch, schema_of("ObjectMeta")) == {"finalizers": ["b", "c"]}


def test_an_element_without_its_key_is_refused():
    with pytest.raises(StatusError, match="merge key: name"):
        strategic_merge({"containers": []}, {"containers": [{"image": "i"}]}, POD)


def call(manager, **query):
    return Call(user=ADMIN, verb="patch", resource=MAPS, query={"fieldManager": manager, **query})


def applied(live, manager, data, **query):
    body, managers = ownership.apply(call(manager, **query), live, {"metadata": {"name": "a"}, "data": dict(data)})
    ownership.settle(managers, body, MAPS.schema)
    return body


DATA = st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"), max_size=3)


@given(steps=st.lists(st.tuples(st.sampled_from(["alice", "bob"]), DATA), min_size=1, max_size=8))
def test_forced_applies_leave_exactly_what_the_last_applies_say(steps):
    live, last = None, {}
    for manager, data in steps:
        live = applied(live, manager, data, force="true")
        taken = {k for k, v in data.items() for other in last if other != manager and last[other].get(k, v) != v}
        for other, said in last.items():
            if other != manager:
                last[other] = {k: v for k, v in said.items() if k not in taken}
        last[manager] = data
    wanted = {k: v for data in last.values() for k, v in data.items()}
    assert live.get("data", {}) == wanted


@given(data=DATA)
def test_applying_the_same_again_changes_nothing(data):
    once = applied(None, "alice", data)
    assert applied(once, "alice", data) == once


def test_who_applies_the_same_value_shares_it():
    live = applied(applied(None, "alice", {"a": "1"}), "bob", {"a": "1"})
    assert applied(live, "alice", {})["data"] == {"a": "1"}
    with pytest.raises(StatusError, match=r'conflict with "bob": [.]data[.]a'):
        applied(live, "alice", {"a": "2"})


def test_the_fields_form_can_be_read_back():
    pod = {
        "spec": {"containers": [{"name": "a", "image": "i"}], "nodeSelector": {"k": "v"}},
        "metadata": {"labels": {"x": "y"}},
    }
    paths = set(fields.leaves(pod, schema_of("Pod")))
    written = fields.to_fields(paths)
    assert fields.from_fields(written) == paths
    assert written["f:spec"]["f:containers"] == {'k:{"name":"a"}': {".": {}, "f:image": {}, "f:name": {}}}
    assert written["f:spec"]["f:nodeSelector"] == {}


def test_a_path_is_shown_as_conflicts_show_it():
    path = ("f:spec", "f:containers", 'k:{"name":"a"}', "f:image")
    assert fields.shown(path) == '.spec.containers[name="a"].image'

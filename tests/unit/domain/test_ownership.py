import json

import pytest

from anomaly_operator.domain.ownership import holds

MANIFEST = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "m", "namespace": "ns", "labels": {"a": "b"}, "annotations": {"h": "1"}},
    "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {
            "metadata": {"annotations": {}},
            "spec": {
                "containers": [
                    {"name": "detector", "args": ["serve"], "ports": [{"containerPort": 80, "protocol": "TCP"}]}
                ]
            },
        },
    },
}


def owned():
    """What an API server keeps after that was applied."""
    port = {".": {}, "f:containerPort": {}, "f:protocol": {}}
    container = {
        ".": {},
        "f:name": {},
        "f:args": {},
        "f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': port},
    }
    return {
        "f:metadata": {"f:labels": {"f:a": {}}, "f:annotations": {"f:h": {}}},
        "f:spec": {
            "f:selector": {},
            "f:template": {"f:spec": {"f:containers": {'k:{"name":"detector"}': container}}},
        },
    }


def without(path, fields):
    """Return fields without one, and without what held nothing else: an API server keeps no empty parents."""
    first, *rest = path
    left = without(rest, fields[first]) if rest else {}
    others = {name: value for name, value in fields.items() if name != first}
    return others | ({first: left} if left else {})


def test_what_was_applied_and_is_untouched_is_held():
    assert holds([json.dumps(owned())], MANIFEST)


@pytest.mark.parametrize(
    "path",
    [
        ("f:metadata", "f:labels", "f:a"),
        ("f:metadata", "f:annotations"),
        ("f:spec", "f:selector"),
        ("f:spec", "f:template"),
        ("f:spec", "f:template", "f:spec", "f:containers", 'k:{"name":"detector"}'),
        ("f:spec", "f:template", "f:spec", "f:containers", 'k:{"name":"detector"}', "f:args"),
        ("f:spec", "f:template", "f:spec", "f:containers", 'k:{"name":"detector"}', "f:ports"),
    ],
)
def test_a_field_that_somebody_took_is_held_no_longer(path):
    assert not holds([json.dumps(without(path, owned()))], MANIFEST)


def test_nothing_is_held_of_what_was_never_applied():
    assert not holds([], MANIFEST)


def test_an_item_of_a_set_is_held_by_its_value():
    manifest = {"metadata": {}, "spec": {"finalizers": ["a"]}}
    assert holds([json.dumps({"f:spec": {"f:finalizers": {'v:"a"': {}}}})], manifest)
    assert not holds([json.dumps({"f:spec": {"f:finalizers": {'v:"b"': {}}}})], manifest)


def test_an_item_whose_key_is_no_plain_value_is_not_held():
    fields = {"f:spec": {"f:list": {'k:{"name":"a"}': {".": {}, "f:name": {}}}}}
    assert not holds([json.dumps(fields)], {"metadata": {}, "spec": {"list": [{"name": ["a"]}]}})
    assert holds([json.dumps(fields)], {"metadata": {}, "spec": {"list": [{"name": "a"}]}})

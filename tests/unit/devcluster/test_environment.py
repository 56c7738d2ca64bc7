import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_devcluster.node.environment import (
    ConfigurationError,
    build,
    expand,
    field,
    resource_field,
    service_variables,
)
from anomaly_devcluster.node.mounts import Mounts

POD = {
    "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"color": "blue"}, "annotations": {}},
    "spec": {"containers": []},
    "status": {"podIP": "127.64.0.9"},
}


def none(_kind, _name):
    return None


def test_references_are_filled_in_and_unknown_ones_stay():
    assert expand("http://$(HOST):$(PORT)/$(NOBODY)", {"HOST": "h", "PORT": "1"}) == "http://h:1/$(NOBODY)"


def test_two_dollar_signs_are_one_and_protect_a_reference():
    assert expand("$$(HOST) $$", {"HOST": "h"}) == "$(HOST) $"


@given(st.text(alphabet="$()AB ", max_size=20))
def test_expansion_without_dollar_signs_left_changes_nothing_more(text):
    if "$" not in text:
        assert expand(text, {"A": "x"}) == text


def test_a_variable_may_use_those_before_it_and_not_those_after_it():
    container = {
        "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "value": "$(A)$(C)"},
            {"name": "C", "value": "3"},
        ]
    }
    assert build(POD, container, {}, none, {})["B"] == "1$(C)"


def test_a_variable_may_use_those_of_the_node_which_are_not_repeated():
    container = {"env": [{"name": "URL", "value": "https://$(HOST)"}]}
    assert build(POD, container, {"HOST": "h"}, none, {}) == {"URL": "https://h"}


def test_a_value_from_a_secret_is_not_expanded():
    secret = {"kind": "Secret", "data": {"k": base64.b64encode(b"$(A)").decode()}}
    reference = {"secretKeyRef": {"name": "s", "key": "k"}}
    container = {"env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": reference}]}
    assert build(POD, container, {}, lambda *_: secret, {})["B"] == "$(A)"


def test_all_of_a_config_map_comes_with_its_prefix():
    config = {"kind": "ConfigMap", "data": {"a": "1", "not a name": "2"}}
    container = {"envFrom": [{"prefix": "P_", "configMapRef": {"name": "c"}}]}
    assert build(POD, container, {}, lambda *_: config, {}) == {"P_a": "1"}


def test_a_missing_config_map_is_named():
    container = {"envFrom": [{"configMapRef": {"name": "settings"}}]}
    with pytest.raises(ConfigurationError, match='configmap "settings" not found'):
        build(POD, container, {}, none, {})


def test_an_optional_reference_may_be_missing():
    reference = {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}
    assert build(POD, {"env": [{"name": "A", "valueFrom": reference}]}, {}, none, {}) == {}


def test_fields_of_the_pod_are_found():
    assert field(POD, "metadata.name") == "p"
    assert field(POD, "metadata.labels['color']") == "blue"
    assert field(POD, "status.podIP") == "127.64.0.9"
    assert field(POD, "spec.serviceAccountName") == "default"


def test_a_field_that_there_is_not_is_named():
    with pytest.raises(ConfigurationError, match=r"spec\.color"):
        field(POD, "spec.color")


def test_resources_are_divided_and_rounded_up():
    own = {"name": "c", "resources": {"limits": {"memory": "650M", "cpu": "1500m"}}}
    assert resource_field([own], own, {"resource": "limits.memory", "divisor": "1Mi"}, {}) == "620"
    assert resource_field([own], own, {"resource": "limits.cpu"}, {}) == "2"
    assert resource_field([own], own, {"resource": "requests.memory"}, {}) == "650000000"


def test_an_absent_limit_is_the_capacity_of_the_node():
    own = {"name": "c"}
    assert resource_field([own], own, {"resource": "limits.cpu"}, {"cpu": 2.0}) == "2"


def test_service_variables_name_host_and_ports():
    spec = {"ports": [{"name": "http", "port": 8082}, {"name": "admin-api", "port": 8081}]}
    service = {"metadata": {"name": "cpu-watch-blue"}, "spec": spec}
    variables = service_variables([(service, "127.128.0.7")])
    assert variables["CPU_WATCH_BLUE_SERVICE_HOST"] == "127.128.0.7"
    assert variables["CPU_WATCH_BLUE_SERVICE_PORT"] == "8082"
    assert variables["CPU_WATCH_BLUE_SERVICE_PORT_ADMIN_API"] == "8081"
    assert variables["CPU_WATCH_BLUE_PORT_8081_TCP_ADDR"] == "127.128.0.7"


@pytest.mark.parametrize(
    ("text", "translated"),
    [
        ("/etc/anomaly", "/host/config"),
        ("/etc/anomaly/config.json", "/host/config/config.json"),
        ("/etc/anomaly/deeper/x", "/host/deeper/x"),
        ("--config=/etc/anomaly/config.json", "--config=/host/config/config.json"),
        ("/etc/anomaly-credentials", "/etc/anomaly-credentials"),
        ("see /etc/anomaly", "see /etc/anomaly"),
        ("/dev/termination-log", "/host/termination-log"),
        ("", ""),
    ],
)
def test_paths_below_a_mount_are_translated(text, translated):
    mounts = Mounts(
        {
            "/etc/anomaly/": "/host/config",
            "/etc/anomaly/deeper": "/host/deeper",
            "/dev/termination-log": "/host/termination-log",
        }
    )
    assert mounts.text(text) == translated

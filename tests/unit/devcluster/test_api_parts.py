"""Selectors, schemas, rules, roles, quantities and faults, each by itself."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_devcluster.api import custom, jsonpath, protobuf
from anomaly_devcluster.api.authorization import Attributes, allows, covered
from anomaly_devcluster.api.builtin import DecodeError, decode, schema_of
from anomaly_devcluster.api.errors import StatusError
from anomaly_devcluster.api.expressions import CelError, Expression, Scope, broken_rules
from anomaly_devcluster.api.faults import Drop, Fault, Switchboard
from anomaly_devcluster.api.quantities import parse_quantity
from anomaly_devcluster.api.schema import apply_defaults, compile_custom, prune
from anomaly_devcluster.api.selectors import matches_selector, parse_fields, parse_labels, selector_text
from anomaly_devcluster.api.tables import CELLS, duration

LABELS = st.dictionaries(st.sampled_from("ab"), st.sampled_from("12"), max_size=2)
EXPRESSIONS = st.fixed_dictionaries(
    {
        "key": st.sampled_from("ab"),
        "operator": st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]),
        "values": st.lists(st.sampled_from("12"), min_size=1, max_size=2, unique=True),
    }
)


@given(
    labels=LABELS,
    selector=st.fixed_dictionaries({"matchLabels": LABELS, "matchExpressions": st.lists(EXPRESSIONS, max_size=2)}),
)
def test_a_selector_means_the_same_as_object_and_as_text(labels, selector):
    predicate = parse_labels(selector_text(selector))
    assert matches_selector(selector, labels) == (predicate is None or predicate(labels))


@pytest.mark.parametrize("text", ["a===", "a in b", "a in (b", "-a=b", "a=b c"])
def test_a_label_selector_that_cannot_be_read_is_refused(text):
    with pytest.raises(StatusError):
        parse_labels(text)


def test_a_field_is_selected_by_equality():
    predicate = parse_fields("status.phase!=Failed,metadata.name=a", "v1", ("status.phase",))
    assert predicate({"metadata": {"name": "a"}, "status": {"phase": "Running"}})
    assert not predicate({"metadata": {"name": "a"}, "status": {"phase": "Failed"}})


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1), ("250m", 0.25), ("1Ki", 1024), ("1e3", 1000), ("1.5Gi", 1.5 * 2**30), (".5", 0.5)]
)
def test_a_quantity_is_a_number_with_a_suffix(text, value):
    assert float(parse_quantity(text)) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("text", ["", "lots", "1KiB", "1 Gi", "--1", "1e"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(ValueError, match="quantities must look like"):
        parse_quantity(text)


SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "default": {},
            "properties": {
                "n": {"type": "integer", "default": 3},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            },
        },
        "list": {
            "type": "array",
            "items": {"type": "object", "properties": {"on": {"type": "boolean", "default": True}}},
        },
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}


def test_pruning_drops_what_is_unknown_and_says_so():
    body = {"spec": {"free": {"x": 1}, "junk": 1}, "list": [{"junk": 2}], "map": {"any": "thing"}}
    unknown = prune(body, compile_custom(SCHEMA))
    assert body == {"spec": {"free": {"x": 1}}, "list": [{}], "map": {"any": "thing"}}
    assert unknown == ["spec.junk", "list[0].junk"]


def test_defaults_fill_in_absent_fields_and_nulls():
    body = {"list": [{}, {"on": False}], "spec": None}
    apply_defaults(body, compile_custom(SCHEMA))
    assert body == {"list": [{"on": True}, {"on": False}], "spec": {"n": 3}}


def test_a_default_is_never_shared_between_objects():
    schema, one, two = compile_custom(SCHEMA), {}, {}
    apply_defaults(one, schema)
    apply_defaults(two, schema)
    one["spec"]["n"] = 9
    assert two["spec"]["n"] == 3


def test_reading_a_built_in_kind_drops_nulls_and_unknown_fields():
    unknown = []
    spec = decode(
        {"replicas": 2, "paused": None, "junk": 1, "template": {}}, schema_of("DeploymentSpec"), "spec", unknown
    )
    assert spec == {"replicas": 2, "template": {}}
    assert unknown == ["spec.junk"]


@pytest.mark.parametrize("wrong", [{"replicas": "2"}, {"replicas": True}, {"replicas": 1.5}, {"template": []}])
def test_reading_a_wrong_type_names_the_field(wrong):
    with pytest.raises(DecodeError, match=f"spec.{next(iter(wrong))}"):
        decode(wrong, schema_of("DeploymentSpec"), "spec", [])


def broken(rule, body, old=None, **more):
    own = {"type": "object", "x-kubernetes-validations": [{"rule": rule, **more}]}
    return broken_rules({"spec": body}, compile_custom({"properties": {"spec": own}}), old and {"spec": old})


def test_a_rule_that_holds_says_nothing_and_a_broken_one_its_message():
    said = {"message": "a must be under b", "fieldPath": ".a", "reason": "FieldValueForbidden"}
    assert broken("self.a < self.b", {"a": 1, "b": 2}, **said) == []
    [cause] = broken("self.a < self.b", {"a": 2, "b": 2}, **said)
    assert (cause.field, cause.reason, cause.message) == (
        "spec.a",
        "FieldValueForbidden",
        "Forbidden: a must be under b",
    )


def test_a_transition_rule_waits_for_something_to_compare_with():
    assert broken("self.a == oldSelf.a", {"a": 1}) == []
    assert broken("self.a == oldSelf.a", {"a": 1}, {"a": 1}) == []
    assert len(broken("self.a == oldSelf.a", {"a": 1}, {"a": 2})) == 1


def test_a_message_may_be_an_expression():
    [cause] = broken("self.n < 3", {"n": 5}, messageExpression="'n is ' + string(self.n)")
    assert cause.message.endswith("n is 5")


def test_a_definition_with_a_rule_that_cannot_be_compiled_is_refused():
    body = {
        "metadata": {"name": "as.b.dev"},
        "spec": {
            "group": "b.dev",
            "scope": "Cluster",
            "names": {"plural": "as", "kind": "A"},
            "versions": [
                {
                    "name": "v1",
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-validations": [{"rule": "self.("}]}},
                }
            ],
        },
    }
    [cause] = custom.check_definition(body, None)
    assert cause.field.endswith("x-kubernetes-validations[0].rule")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("quantity('1Gi').isGreaterThan(quantity('1M'))", True),
        ("'a-b'.split('-').size() == 2", True),
        ("'abc'.find('[bc]+')", "bc"),
        ("[1, 2, 3].isSorted()", True),
        ("isQuantity('lots')", False),
        ("object.metadata.labels.all(k, k.startsWith('a'))", True),
    ],
)
def test_the_functions_that_kubernetes_adds_are_there(text, value):
    assert Expression(text)(Scope({"object": {"metadata": {"labels": {"ab": "c"}}}})) == value


def test_what_cannot_be_evaluated_is_an_error_not_a_verdict():
    with pytest.raises(CelError):
        Expression("self.absent.field")(Scope({"self": {}}))


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}, False),
        ({"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}, True),
        ({"apiGroups": [""], "resources": ["*/log"], "verbs": ["get"]}, True),
        ({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, True),
        ({"apiGroups": ["apps"], "resources": ["pods/log"], "verbs": ["get"]}, False),
        ({"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"], "resourceNames": ["b"]}, False),
    ],
)
def test_a_rule_allows_what_it_names(rule, allowed):
    assert allows(rule, Attributes("get", "", "pods/log", "ns", "a")) is allowed


def test_rules_cover_another_together():
    held = [{"apiGroups": [""], "resources": ["pods"], "verbs": [verb]} for verb in ("get", "list")]
    assert covered({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}, held)
    assert not covered({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "watch"]}, held)
    assert not covered({"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}, held)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".status.conditions[?(@.type=='Ready')].status", "True"),
        ('.status.conditions[?(@.type=="Ready")].status', "True"),
        (".status.conditions[0].type", "Ready"),
        (".metadata.labels.a\\.b/c", "x"),
        (".metadata.labels['a.b/c']", "x"),
        (".nothing.here", None),
    ],
)
def test_a_json_path_leads_to_its_field(path, found):
    body = {"metadata": {"labels": {"a.b/c": "x"}}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    assert jsonpath.first(body, path) == found


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (119, "119s"), (120, "2m"), (185, "3m5s"), (3600 * 5 + 60, "5h1m"), (86400 * 9, "9d")],
)
def test_an_age_is_written_as_kubectl_writes_it(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ({"phase": "Pending"}, "Pending"),
        ({"phase": "Running", "containerStatuses": [{"ready": True, "state": {"running": {}}}]}, "Running"),
        (
            {"phase": "Running", "containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
            "CrashLoopBackOff",
        ),
        (
            {
                "phase": "Succeeded",
                "containerStatuses": [{"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}],
            },
            "Completed",
        ),
        (
            {
                "phase": "Pending",
                "initContainerStatuses": [{"state": {"terminated": {"exitCode": 65, "reason": "Error"}}}],
            },
            "Init:Error",
        ),
        ({"phase": "Pending", "initContainerStatuses": [{"state": {"running": {}}}]}, "Init:0/1"),
    ],
)
def test_the_status_of_a_pod_is_the_reason_that_matters(status, shown):
    body = {"metadata": {}, "spec": {"containers": [{}], "initContainers": [{}]}, "status": status}
    assert CELLS["pod_status"](body) == shown


def varint(number):
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def part(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def message(kind, version, content):
    return b"k8s\x00" + part(1, part(1, version) + part(2, kind)) + part(2, content)


def test_an_object_in_protobuf_is_read_like_json():
    metadata = part(1, "s") + part(11, part(1, "k") + part(2, "v"))
    content = part(1, metadata) + part(2, part(1, "token") + part(2, b"\xff\x00")) + part(5, 1)
    assert protobuf.decode(message("Secret", "v1", content)) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "labels": {"k": "v"}},
        "data": {"token": base64.b64encode(b"\xff\x00").decode()},
        "immutable": True,
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        message("Unheard", "v1", b""),
        message("ConfigMap", "v1", part(9, "x")),
        message("ConfigMap", "v1", b"\xff"),
    ],
)
def test_protobuf_that_cannot_be_read_is_refused_by_name(body):
    with pytest.raises(StatusError) as caught:
        protobuf.decode(body)
    assert caught.value.code == 415


REQUEST = {"verb": "get", "resource": "pods", "namespace": "ns", "name": "a", "user": "u"}


def hits(seed, probability, times=200):
    fault = Fault.of({"action": "fail", "probability": probability, "seed": seed})
    return [fault.strikes(REQUEST) for _ in range(times)]


def test_faults_are_the_same_for_the_same_seed():
    assert hits(7, 0.3) == hits(7, 0.3)
    assert hits(7, 0.3) != hits(8, 0.3)
    assert 30 < sum(hits(7, 0.3)) < 90


def test_a_fault_hits_only_what_it_names_and_only_so_often():
    fault = Fault.of({"action": "reset", "resource": "pods", "name": "a", "count": 2})
    assert [fault.strikes({**REQUEST, "name": name}) for name in "abaa"] == [True, False, True, False]


async def test_a_reset_cuts_and_a_failure_answers():
    board = Switchboard()
    board.rules = [Fault.of({"action": "reset", "count": 1}), Fault.of({"action": "fail", "code": 429, "seconds": 3})]
    with pytest.raises(Drop):
        await board.apply(REQUEST)
    with pytest.raises(StatusError) as caught:
        await board.apply(REQUEST)
    assert (caught.value.code, caught.value.headers) == (429, {"Retry-After": "3"})

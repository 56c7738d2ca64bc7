import cel
import pytest
import yaml

from anomaly_operator import crdgen
from anomaly_operator.domain.fields import SpecError
from anomaly_operator.domain.spec import Spec

SCHEMA = crdgen.crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
MODEL = {"name": "m", "alias": "champion"}


def walk(schema, path=""):
    for name, below in (schema.get("properties") or {}).items():
        yield f"{path}.{name}", below
        yield from walk(below, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")


def rules(schema, path="self"):
    for rule in schema.get("x-kubernetes-validations", ()):
        yield path, rule
    for name, below in (schema.get("properties") or {}).items():
        yield from rules(below, f"{path}.{name}")


def with_defaults(schema, value):
    for name, below in (schema.get("properties") or {}).items():
        if name not in value and "default" in below:
            value[name] = yaml.safe_load(yaml.safe_dump(below["default"]))
        if isinstance(value.get(name), dict):
            with_defaults(below, value[name])
    return value


def test_the_committed_definition_is_what_the_types_say():
    assert crdgen.main(["--check"]) == 0


def test_a_stale_definition_is_found_and_written_anew(tmp_path, capsys):
    assert crdgen.main(["--check", "--root", str(tmp_path)]) == 1
    assert "is stale: run `make crds`" in capsys.readouterr().err
    assert crdgen.main(["--root", str(tmp_path)]) == 0
    assert crdgen.main(["--check", "--root", str(tmp_path)]) == 0


def test_it_stays_under_200_kilobytes():
    assert len(crdgen.render().encode()) < 200_000


def test_every_field_is_described():
    assert [path for path, schema in walk(SCHEMA["properties"]["spec"]) if not schema.get("description")] == []
    assert [path for path, schema in walk(SCHEMA["properties"]["status"]) if not schema.get("description")] == []


def test_defaults_of_the_definition_and_of_the_operator_are_the_same():
    plain = {"model": MODEL}
    filled = with_defaults(SCHEMA["properties"]["spec"], {"model": dict(MODEL)})
    assert filled["blueGreen"]["shadow"]["guardPercent"] == 10
    assert Spec.parse(filled) == Spec.parse(plain)


def test_phase_gates_have_no_defaults_that_would_hide_the_common_ones():
    green = SCHEMA["properties"]["spec"]["properties"]["blueGreen"]["properties"]
    for phase in ("prePromotionAnalysis", "postPromotionAnalysis"):
        found = list(walk(green[phase]["properties"]["gates"]))
        assert found
        assert [path for path, schema in found if "default" in schema] == []


@pytest.mark.parametrize(
    "spec",
    [
        {"model": MODEL},
        {"model": {"name": "m", "version": "1"}},
        {"model": {"name": "m", "stage": "Production"}},
        {"model": {"name": "m"}},
        {"model": MODEL | {"version": "1"}},
        {"model": MODEL | {"version": "1", "stage": "Staging"}},
        {"model": {"name": "m", "version": "1"}, "retraining": {"enabled": True}},
        {"model": MODEL, "retraining": {"enabled": True}},
        {"model": MODEL, "retraining": {"enabled": True, "data": "influx"}},
        {"model": MODEL, "retraining": {"enabled": False, "data": "influx"}},
        {"model": MODEL, "retraining": {"enabled": True, "data": "influx"}, "source": {}},
        {"model": MODEL, "retraining": {"enabled": True, "data": "influx", "jobTemplate": {"spec": {}}}},
        {
            "model": MODEL,
            "retraining": {"enabled": True, "data": "influx"},
            "source": {"influxdb": {"url": "http://i", "org": "o", "bucket": "b", "measurement": "m"}},
        },
        {"model": MODEL, "detector": {"podLabels": {"anomalymodel.dev/x": "1"}}},
        {"model": MODEL, "detector": {"podAnnotations": {"app.kubernetes.io/name": "1"}}},
        {"model": MODEL, "detector": {"podLabels": {"team": "a"}}},
        {"model": MODEL, "autoscaling": {"minReplicas": 3, "maxReplicas": 2}},
        {"model": MODEL, "autoscaling": {"minReplicas": 2, "maxReplicas": 2}},
    ],
)
def test_rules_of_the_definition_and_of_the_operator_agree(spec):
    try:
        Spec.parse(spec)
        accepted = True
    except SpecError:
        accepted = False
    assert accepts(SCHEMA["properties"]["spec"], with_defaults(SCHEMA["properties"]["spec"], spec)) == accepted


def accepts(schema, value):
    own = all(cel.evaluate(rule["rule"], {"self": value}) for rule in schema.get("x-kubernetes-validations", ()))
    below = schema.get("properties") or {}
    return own and all(accepts(below[name], value[name]) for name in below if isinstance(value.get(name), dict))


def test_messages_of_rules_name_a_way_out():
    found = list(rules(SCHEMA))
    assert found
    for _, rule in found:
        assert ":" in rule["message"]
        assert "messageExpression" not in rule

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_operator.domain import fields
from anomaly_operator.domain.fields import IntOrPercent, SpecError
from anomaly_operator.domain.spec import Spec

INFLUX = {"url": "http://influxdb", "org": "o", "bucket": "b"}
MODEL = {"name": "m", "alias": "champion"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = ["model", "detector", "gates", "blueGreen", "prePromotionAnalysis", "errorRate", "max", "replicas", "duration"]


def test_defaults_are_those_of_the_design():
    spec = Spec.parse({"model": MODEL})
    assert spec.model.poll_interval == 30
    assert spec.detector.replicas == 3
    assert spec.blue_green.scale_down_delay_seconds == 1800
    assert spec.blue_green.pre_promotion_analysis.duration == 300
    assert spec.gates.latency.limit_milliseconds == pytest.approx(7.634)
    assert spec.gates.memory.max == 650_000_000
    assert spec.gates.quorum.drift == IntOrPercent(50, percent=True)
    assert spec.gates.anomaly_rate.target is None
    assert spec.quarantine.duration is None
    assert spec.retraining.min_drift_duration == 1800


def test_gates_of_a_phase_override_the_common_ones_key_by_key():
    spec = Spec.parse(
        {
            "model": MODEL,
            "gates": {"errorRate": {"max": 0.02}, "latency": {"milliseconds": 5}},
            "blueGreen": {"postPromotionAnalysis": {"gates": {"latency": {"tolerancePercent": 50}}}},
        }
    )
    before, after = spec.blue_green.pre_promotion_analysis, spec.blue_green.post_promotion_analysis
    assert after.gates.latency.milliseconds == 5
    assert after.gates.latency.tolerance_percent == 50
    assert after.gates.error_rate.max == 0.02
    assert after.listed_gates == {"latency"}
    assert before.gates.latency.tolerance_percent == 10
    assert before.listed_gates == frozenset()


def test_defaults_are_not_shared_between_specs():
    first, second = Spec.parse({"model": MODEL}), Spec.parse({"model": MODEL})
    first.detector.resources["requests"]["cpu"] = "9"
    assert second.detector.resources["requests"]["cpu"] == "100m"


@pytest.mark.parametrize(
    ("spec", "path", "words"),
    [
        ({}, "spec.model", "is required"),
        ({"model": {"alias": "a"}}, "spec.model.name", "is required"),
        ({"model": {"name": "m"}}, "spec.model", "exactly one of alias, version and stage"),
        ({"model": MODEL | {"version": "1"}}, "spec.model", "exactly one of alias, version and stage"),
        ({"model": MODEL | {"pollInterval": "5"}}, "spec.model.pollInterval", "expected a duration such as 30s"),
        ({"model": MODEL, "detector": {"replicas": "3"}}, "spec.detector.replicas", "expected a whole number"),
        ({"model": MODEL, "detector": {"replicas": 0}}, "spec.detector.replicas", "must be at least 1"),
        ({"model": MODEL, "gates": {"memory": {"max": "lots"}}}, "spec.gates.memory.max", "expected a quantity"),
        ({"model": MODEL, "gates": {"drift": {"mode": "Fast"}}}, "spec.gates.drift.mode", "must be one of"),
        ({"model": MODEL, "gates": {"quorum": {"drift": "150%"}}}, "spec.gates.quorum.drift", "a share such as 50%"),
        ({"model": {"name": "m", "version": "1"}, "retraining": {"enabled": True}}, "spec", "needs spec.model.alias"),
        ({"model": MODEL, "detector": {"podLabels": {"anomalymodel.dev/x": "1"}}}, "spec.detector", "rename the key"),
        ({"model": MODEL, "source": {"influxdb": INFLUX}}, "spec.source.influxdb", "exactly one of measurement and"),
        (
            {"model": MODEL, "source": {"influxdb": INFLUX | {"measurement": "m", "query": "v.timeRange"}}},
            "spec.source.influxdb",
            "exactly one of measurement and query",
        ),
        (
            {"model": MODEL, "source": {"influxdb": INFLUX | {"query": "range(start: -1h)"}}},
            "spec.source.influxdb",
            "range(start: v.timeRangeStart, stop: v.timeRangeStop)",
        ),
        (
            {"model": MODEL, "source": {"influxdb": INFLUX | {"measurement": "anomaly_result"}}},
            "spec.source.influxdb",
            "results would be scored as points",
        ),
        (
            {"model": MODEL, "retraining": {"enabled": True, "data": "influx"}},
            "spec",
            "retraining.data influx needs spec.source.influxdb",
        ),
        ({"model": MODEL, "autoscaling": {"minReplicas": 3, "maxReplicas": 2}}, "spec.autoscaling", "lower the one"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(spec, path, words):
    with pytest.raises(SpecError) as error:
        Spec.parse(spec)
    assert error.value.path == path
    assert words in error.value.problem


@pytest.mark.parametrize(
    "spec",
    [
        {"retraining": {"enabled": False, "data": "influx"}},
        {"retraining": {"enabled": True, "data": "/data/rows.csv"}},
        {"retraining": {"enabled": True, "data": "influx"}, "source": {"influxdb": INFLUX | {"measurement": "m"}}},
        {"retraining": {"enabled": True, "data": "influx", "jobTemplate": {"spec": {}}}},
    ],
    ids=["not enabled", "a file", "with its source", "with a Job that knows"],
)
def test_retraining_from_influxdb_needs_to_know_where_the_points_are(spec):
    assert Spec.parse({"model": MODEL} | spec).retraining.data


def parsed(value):
    try:
        return Spec.parse(value)
    except SpecError as error:
        return error


@given(JSON | st.dictionaries(st.sampled_from(NAMES), JSON | st.dictionaries(st.sampled_from(NAMES), JSON)))
def test_anything_is_either_parsed_or_refused_with_a_reason(value):
    assert str(parsed(value))


@given(st.dictionaries(st.sampled_from(NAMES), JSON | st.dictionaries(st.sampled_from(NAMES), JSON)))
def test_a_spec_with_a_good_model_is_parsed_or_refused_with_a_path_below_spec(value):
    found = parsed(value | {"model": MODEL})
    assert found.path.startswith("spec.") if isinstance(found, SpecError) else found.model.alias == "champion"


@given(
    st.lists(st.tuples(st.integers(0, 999), st.sampled_from(["ms", "s", "m", "h"])), min_size=1, max_size=4),
)
def test_durations_are_the_sum_of_their_parts(parts):
    seconds = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    text = "".join(f"{number}{unit}" for number, unit in parts)
    assert fields.parse_duration(text) == pytest.approx(sum(number * seconds[unit] for number, unit in parts))


@given(st.text(max_size=12))
def test_what_the_schema_accepts_the_operator_can_read(text):
    for pattern, read in (
        (fields.DURATION_PATTERN, fields.parse_duration),
        (fields.QUANTITY_PATTERN, fields.parse_quantity),
    ):
        if re.search(pattern, text) and text == text.strip():
            assert math.isfinite(read(text))


@pytest.mark.parametrize(
    ("quorum", "pods", "needed"), [("50%", 3, 2), ("50%", 4, 2), (1, 3, 1), ("0%", 3, 1), (2, 1, 2)]
)
def test_a_quorum_is_rounded_up_and_never_nobody(quorum, pods, needed):
    spec = Spec.parse({"model": MODEL, "gates": {"quorum": {"drift": quorum}}})
    assert spec.gates.quorum.drift.of(pods) == needed

"""What is asked of InfluxDB, what its answers mean, and what is written back."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.plugins.influx_double import parse_line

from anomaly_detector.config import SourceConfig
from anomaly_detector.protocols import Scored
from anomaly_detector.source import rows
from anomaly_detector.source.rows import AnswerError, Row, nanoseconds, rfc3339

OWN = {"namespace": "ml", "model": "cpu-watch"}
FEATURES = ("cpu", "memory")
AT = 1_767_225_600_000_000_001
TIME = "2026-01-01T00:00:00.000000001Z"


def config(**changes):
    values = {"measurement": "system", "query": None, "fields": {}} | changes
    return SourceConfig(
        url="http://influx", org="o", bucket="telegraf", result_measurement="anomaly_result",
        interval=10, lateness=30, owner_uid="u", **values,
    )  # fmt: skip


def read(text, **changes):
    return list(rows.read_points(text, config(**changes), FEATURES, OWN))


def answer(*records, group="false,false,false,true,true,false,false", names="_time,_measurement,host,cpu,memory"):
    return "\r\n".join([f"#group,{group}", f",result,table,{names}", *(f",,0,{record}" for record in records), "", ""])


@given(st.integers(0, 4_000_000_000 * 10**9))
def test_times_keep_their_nanoseconds(at):
    assert nanoseconds(rfc3339(at)) == at


@pytest.mark.parametrize(
    ("text", "at"),
    [("1970-01-01T00:00:00Z", 0), ("1970-01-01T01:00:00.5+01:00", 500_000_000), (TIME, AT)],
)
def test_times_are_read_as_influxdb_writes_them(text, at):
    assert nanoseconds(text) == at


def test_a_measurement_is_asked_for_by_its_fields_one_row_a_series_and_time():
    assert rows.points_query(config(fields={"cpu": "usage"}), FEATURES, 0, AT).splitlines() == [
        'from(bucket: "telegraf")',
        f"  |> range(start: 1970-01-01T00:00:00.000000000Z, stop: {TIME})",
        '  |> filter(fn: (r) => r._measurement == "system")',
        '  |> filter(fn: (r) => r._field == "usage" or r._field == "memory")',
        '  |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")',
        '  |> drop(columns: ["_start", "_stop"])',
    ]


def test_a_query_of_ones_own_is_given_the_range_as_dashboards_give_it():
    asked = rows.points_query(config(measurement=None, query="from(...)"), FEATURES, 0, AT)
    assert asked == (f"option v = {{timeRangeStart: 1970-01-01T00:00:00.000000000Z, timeRangeStop: {TIME}}}\nfrom(...)")


def test_names_cannot_break_out_of_their_quotes():
    asked = rows.points_query(config(measurement='a"b${c}'), FEATURES, 0, AT)
    assert r'r._measurement == "a\"b\${c}"' in asked


def test_a_row_has_the_features_in_order_and_the_group_key_as_tags():
    found = read(answer(f"{TIME},system,web-1,40.5,50"))
    assert found == [Row(AT, {"host": "web-1", **OWN}, (40.5, 50.0))]


def test_a_field_that_is_not_there_is_missing_and_booleans_are_numbers():
    (found,) = read(answer(f"{TIME},system,web-1,,true"))
    assert math.isnan(found.values[0])
    assert found.values[1] == 1.0
    assert not found.complete


def test_results_that_a_query_lets_through_are_no_points():
    assert read(answer(f"{TIME},anomaly_result,web-1,1,2")) == [None]


def test_a_tag_that_is_called_like_ours_keeps_its_value():
    text = answer(f"{TIME},system,other,1,2", names="_time,_measurement,model,cpu,memory")
    assert read(text)[0].tags == {"source_model": "other", **OWN}


def test_tables_may_have_columns_of_their_own():
    first = answer(f"{TIME},system,web-1,1,2")
    second = answer(f"{TIME},3,4", group="false,false,false,false,false", names="_time,cpu,memory")
    assert [found.tags.get("host") for found in read(first + second)] == ["web-1", None]


def test_an_answer_without_features_says_what_the_query_must_return():
    text = answer(f"{TIME},system,web-1,1,2", names="_time,_measurement,host,_field,_value")
    with pytest.raises(AnswerError, match=r"none of the columns cpu, memory .*pivot"):
        read(text)


def test_a_query_that_fails_on_its_way_is_told_in_influxdb_s_words():
    with pytest.raises(AnswerError, match="the query failed: type conflict"):
        read(",error,reference\r\n,type conflict: int != float,\r\n")


def test_no_points_are_no_rows():
    assert read("\r\n") == []


def scored(*, anomalous=True, said=None):
    return Scored(
        scores=np.array([0.7]), anomalous=np.array([anomalous]), confidence=np.array([0.9]),
        ids={0: "b-1"} if anomalous else {}, explanations={0: said} if said else {},
    )  # fmt: skip


def test_a_result_has_tags_and_time_of_its_point_and_no_trace_of_who_scored_it_among_the_tags():
    said = {"text": "cpu INCREASES", "contributions": [{"feature": "cpu"}]}
    line = rows.result(
        Row(AT, {"host": "a b", **OWN}, (1.0, 2.0)), scored(said=said), 0, measurement="r", version="3", pod="p"
    )
    assert parse_line(line) == (
        "r",
        {"host": "a b", **OWN},
        {
            "anomaly": True, "score": 0.7, "confidence": 0.9, "id": "b-1", "text": "cpu INCREASES",
            "top_feature": "cpu", "version": "3", "pod": "p",
        },
        AT,
    )  # fmt: skip


def test_a_result_leaves_nothing_of_the_one_that_it_overwrites():
    point = Row(AT, OWN, (1.0, 2.0))
    plain = rows.result(point, scored(anomalous=False), 0, measurement="r", version="4", pod="q")
    full = rows.result(point, scored(said={"text": "t", "contributions": []}), 0, measurement="r", version="3", pod="p")
    assert parse_line(plain)[2].keys() == parse_line(full)[2].keys()


def test_what_is_there_already_is_known_by_the_key_of_its_point():
    point = Row(AT, {"host": "web-1", **OWN}, (1.0, 2.0))
    text = answer(
        f"{TIME},anomaly_result,cpu-watch,ml,web-1,0.7,score",
        group="false,false,false,true,true,true,true,false,true",
        names="_time,_measurement,model,namespace,host,_value,_field",
    )
    assert list(rows.read_results(text, OWN)) == [point.key]

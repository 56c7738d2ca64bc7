import pytest

from anomaly_detector.train.errors import DataError
from anomaly_detector.train.influx import InfluxSource, quoted


def source(**changes):
    return InfluxSource(url="http://influx", org="o", **{"bucket": "telegraf", "measurement": "system"} | changes)


def test_a_measurement_becomes_a_table_of_its_fields():
    assert source(start="-7d").query(("cpu", "memory")).splitlines() == [
        'from(bucket: "telegraf")',
        "  |> range(start: -7d, stop: now())",
        '  |> filter(fn: (r) => r._measurement == "system")',
        '  |> filter(fn: (r) => r._field == "cpu" or r._field == "memory")',
        '  |> drop(columns: ["_start", "_stop"])',
        '  |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")',
    ]


def test_a_field_is_asked_for_by_its_own_name():
    query = source(fields={"cpu": "usage", "other": "x"}).query(("cpu", "memory"))
    assert '  |> filter(fn: (r) => r._field == "usage" or r._field == "memory")' in query.splitlines()


def test_a_query_of_ones_own_is_left_alone():
    assert source(flux="buckets()").query(("cpu",)) == "buckets()"


@pytest.mark.parametrize("start", ["-7d) |> drop()", "yesterday", "", "-"])
def test_a_range_that_is_none_is_refused(start):
    with pytest.raises(DataError, match=r"--influx-start .*: expected a duration such as -7d"):
        source(start=start).query(())


def test_names_cannot_break_out_of_their_quotes():
    assert quoted('a"b\\c${d}') == '"a\\"b\\\\c\\${d}"'

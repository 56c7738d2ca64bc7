"""Points of InfluxDB: the line protocol, and what is written of an observation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from influxdb_client import Point
from tests.plugins.influx_double import parse_line

from anomaly_detector.influx import points
from anomaly_detector.influx.lineprotocol import line
from anomaly_detector.observer import Observation
from anomaly_detector.protocols import Scored

TAGS = {"model": "cpu watch", "pod": "p=1"}


def observation(scores, *, source="user"):
    scores = np.array(scores, dtype=float)
    anomalous = scores > 0.5
    ids = {int(row): f"id-{row}" for row in np.flatnonzero(anomalous)}
    scored = Scored(scores=scores, anomalous=anomalous, confidence=scores, ids=ids, explanations={})
    return Observation(np.arange(2.0 * len(scores)).reshape(-1, 2), scored, source, at=1.5)


def written(seen, write, draw=lambda: 0.0):
    made = points.predictions(seen, features=("a", "b c"), tags=TAGS, write=write, clock=points.Clock(), draw=draw)
    return [point for point in made if point is not None]


def test_a_line_escapes_names_and_keeps_types():
    text = line("m x", TAGS | {"empty": ""}, {"n": 1, "f": 1.0, "t": True, "s": 'say "hi" \\ now', "none": None}, 7)
    assert text == r'm\ x,model=cpu\ watch,pod=p\=1 n=1i,f=1,t=true,s="say \"hi\" \\ now" 7'


def test_values_that_are_no_number_are_left_out_and_a_point_without_any_is_none():
    assert line("m", {}, {"a": math.nan, "b": 1.0}, 7) == "m b=1 7"
    assert line("m", {}, {"a": math.nan, "b": math.inf, "c": None}, 7) is None


CHARACTERS = st.sampled_from(list(" ,=\"'\\\n\r\tab5#äß€\u2028🚀"))
NAMES = st.text(CHARACTERS, min_size=1, max_size=8)
PLAIN_NAMES = NAMES.filter(lambda name: not name.endswith("\\") and name[0] != "#")
VALUES = st.one_of(st.text(CHARACTERS, max_size=12), st.integers(-(2**63), 2**63 - 1), st.booleans(), st.floats())


@given(PLAIN_NAMES, st.dictionaries(PLAIN_NAMES, st.just("") | PLAIN_NAMES), st.dictionaries(PLAIN_NAMES, VALUES))
def test_points_are_written_as_the_client_library_writes_them(measurement, tags, fields):
    fields = dict(sorted(fields.items()))
    theirs = Point.from_dict({"measurement": measurement, "tags": tags, "fields": fields, "time": 7})
    assert (line(measurement, tags, fields, 7) or "") == theirs.to_line_protocol()


@given(NAMES, st.dictionaries(NAMES, NAMES), st.dictionaries(NAMES, VALUES, min_size=1))
def test_whatever_names_and_values_hold_a_point_is_read_as_one(measurement, tags, fields):
    """Where the client library's would break: a backslash at the end of a name, which is left out here."""

    def read(name):
        return name.rstrip("\\").replace("\n", r"\n").replace("\r", r"\r").replace("\t", r"\t") or "_"

    written = {name: value for name, value in fields.items() if not isinstance(value, float) or math.isfinite(value)}
    text = line(measurement, tags, fields, 7)
    if not written:
        assert text is None
        return
    name, found, values, time = parse_line(text)
    assert (name, time) == (read(measurement), 7)
    assert found == {read(key): read(value) for key, value in sorted(tags.items())}
    assert values == {read(key): value for key, value in written.items()}


@pytest.mark.parametrize(
    ("write", "draw", "weights"),
    [
        ("all", 0.99, ["1i", "1i", "1i"]),
        ("anomalies", 0.0, ["1i"]),
        ("sampled", 0.99, ["1i"]),
        ("sampled", 0.0, ["100i", "1i", "100i"]),
    ],
)
def test_what_is_written_by_choice_and_what_a_sampled_row_stands_for(write, draw, weights):
    made = written(observation([0.1, 0.9, 0.2]), write, lambda: draw)
    assert [point.split("weight=")[1].split(",")[0] for point in made] == weights


def test_rows_of_one_request_have_times_of_their_own():
    clock = points.Clock()
    seen = observation([0.9] * 5)
    made = [
        point
        for _ in range(2)
        for point in points.predictions(seen, features=("a", "b"), tags=TAGS, write="all", clock=clock)
    ]
    times = [int(point.rsplit(" ", 1)[1]) for point in made]
    assert times == sorted(set(times))
    assert times[0] == 1_500_000_000


def test_an_anomaly_s_point_has_its_values_and_its_id():
    (point,) = written(observation([0.1, 0.9]), "anomalies")
    assert point.startswith(r"anomaly_prediction,model=cpu\ watch,pod=p\=1,source=user anomaly=true,score=0.9,")
    assert r"value_a=2,value_b\ c=3" in point
    assert 'id="id-1"' in point

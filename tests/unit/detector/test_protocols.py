"""Parsing requests: any bytes give rows or a problem that the client can mend, never anything else."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_detector.problems import Problem
from anomaly_detector.protocols import Contract, Payload, Scored
from anomaly_detector.protocols.invocations import Invocations
from anomaly_detector.protocols.predict import Predict
from anomaly_detector.protocols.v2 import HEADER_LENGTH, Infer

CONTRACT = Contract(features=("a", "b", "c"), model="m", version="1", max_rows=50)
STRICT = Contract(features=("a", "b", "c"), model="m", version="1", accepts_missing=False, accepts_infinite=False)
CODECS = (Predict(), Infer(), Invocations())
finite = st.floats(allow_nan=False, allow_infinity=False)
matrices = st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=20)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ("rows", "features", "inputs", "name", "shape", "datatype", "data", "a", "b", "c", "columns", "outputs",
                 "parameters", "binary_data_size", "instances", "dataframe_split", "dataframe_records", "id")
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)  # fmt: skip


def parse(codec, body, contract=CONTRACT, **more):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return codec.parse(Payload(body=data, **more), contract)


def accepts_or_explains(codec, body, **more):
    query, problem = None, None
    try:
        query = parse(codec, body, **more)
    except Problem as raised:
        problem = raised
    if problem is not None:
        assert 400 <= problem.status < 500
        assert problem.message
        answer = codec.refuse(problem)
        assert answer.status == problem.status
        assert json.loads(answer.body)
    else:
        assert query.rows.dtype == np.float64
        assert query.rows.ndim == 2
        assert query.rows.shape[1] == 3
        assert 1 <= len(query.rows) <= 50


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
@given(body=anything)
def test_any_json_is_rows_or_a_problem(codec, body):
    accepts_or_explains(codec, body)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
@given(
    body=st.binary(max_size=200),
    length=st.none() | st.text(max_size=5) | st.integers(-5, 300).map(str) | st.integers(1, 9000).map("0".__mul__),
)
def test_any_bytes_are_rows_or_a_problem(codec, body, length):
    headers = {} if length is None else {HEADER_LENGTH.lower(): length}
    accepts_or_explains(codec, body, headers=headers)


@given(body=st.text(max_size=200))
def test_any_csv_is_rows_or_a_problem(body):
    accepts_or_explains(Invocations(), body.encode(errors="surrogatepass"), content_type="text/csv")


@given(rows=matrices)
def test_all_ways_to_write_the_same_rows_mean_the_same(rows):
    named = [dict(zip("cab", (c, a, b), strict=True)) for a, b, c in rows]
    columns = {name: [row[i] for row in rows] for i, name in enumerate("abc")}
    flat = [cell for row in rows for cell in row]
    tensor = {"name": "x", "shape": [len(rows), 3], "datatype": "FP64"}
    raw = np.array(rows).tobytes()
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": len(raw)}}]}).encode()
    text = "b,c,a,host\n" + "".join(f"{b!r},{c!r},{a!r},h\n" for a, b, c in rows)
    ways = [
        parse(Predict(), {"rows": rows}),
        parse(Predict(), {"rows": named}),
        parse(Predict(), {"features": ["c", "a", "b"], "rows": [(c, a, b) for a, b, c in rows]}),
        parse(Invocations(), {"instances": rows}),
        parse(Invocations(), {"inputs": columns}),
        parse(Invocations(), {"dataframe_records": named}),
        parse(Invocations(), {"dataframe_split": {"columns": list("abc"), "data": rows, "index": [0]}}),
        parse(Invocations(), text.encode(), content_type="text/csv"),
        parse(Infer(), {"inputs": [tensor | {"data": flat}]}),
        parse(Infer(), {"inputs": [tensor | {"data": rows}]}),
        parse(Infer(), head + raw, headers={HEADER_LENGTH.lower(): str(len(head))}),
        parse(
            Infer(),
            {
                "inputs": [
                    {"name": name, "shape": [len(rows), 1], "datatype": "FP64", "data": values}
                    for name, values in columns.items()
                ]
            },
        ),
    ]
    for query in ways:
        np.testing.assert_array_equal(query.rows, np.array(rows))


@pytest.mark.parametrize(
    ("body", "reason", "field"),
    [
        (b'{"rows": [[1, null, 3]]}', "MissingValue", "rows[0].b"),
        (b'{"rows": [[1, 2, 3], [1, NaN, 3]]}', "MissingValue", "rows[1].b"),
        (b'{"rows": [[1, 2, Infinity]]}', "OutOfRange", "rows[0].c"),
        (b'{"rows": [[1, 2, 1e300]]}', "OutOfRange", "rows[0].c"),
    ],
)
def test_values_that_the_model_does_not_take_are_named(body, reason, field):
    with pytest.raises(Problem) as refused:
        parse(Predict(), body, STRICT)
    assert (refused.value.reason, refused.value.field, refused.value.status) == (reason, field, 400)


def test_an_integer_that_fits_no_float_is_refused():
    for codec, body in (
        (Predict(), b'{"rows": [[1, 2, NaN], [1' + b"0" * 400 + b", 2, 3]]}"),
        (Infer(), b'{"id": "NaN", "inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1'
         + b"0" * 400 + b", 2, 3]}]}"),
    ):  # fmt: skip
        with pytest.raises(Problem) as refused:
            parse(codec, body)
        assert refused.value.reason == "OutOfRange"


def test_more_rows_than_allowed_are_413_in_every_protocol():
    rows = [[1.0, 2.0, 3.0]] * 51
    tensor = {"name": "x", "shape": [51, 3], "datatype": "FP64", "data": rows}
    for codec, body in zip(CODECS, ({"rows": rows}, {"inputs": [tensor]}, {"instances": rows}), strict=True):
        with pytest.raises(Problem) as refused:
            parse(codec, body)
        assert refused.value.status == 413


def test_missing_confidence_is_null_and_not_a_number():
    scores = np.array([0.4])
    scored = Scored(scores=scores, anomalous=scores > 1, confidence=None, ids={}, explanations={})
    query = parse(Predict(), {"rows": [[1, 2, 3]]})
    assert json.loads(Predict().render(query, scored, CONTRACT).body)["predictions"][0]["confidence"] is None
    query = parse(Infer(), {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "INT32", "data": [1, 2, 3]}]})
    outputs = json.loads(Infer().render(query, scored, CONTRACT).body)["outputs"]
    assert {one["name"]: one["data"] for one in outputs}["confidence"] == [None]

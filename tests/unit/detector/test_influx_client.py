"""The client of InfluxDB: what is refused, what is tried again and when; answers as the client library reads them."""

import csv
import io
import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from influxdb_client.client.flux_csv_parser import FluxCsvParser, FluxQueryException, FluxSerializationMode
from tests.plugins.influx_double import InfluxDouble

from anomaly_detector.config import InfluxServer, SourceConfig
from anomaly_detector.influx.client import InfluxClient, InfluxError, RejectedError, TooLargeError, by_halves
from anomaly_detector.source.rows import SECOND, AnswerError, read_points, rfc3339

LINES = [f"m,n={number} v={number}i {number}" for number in range(100)]
OWN = {"namespace": "ml", "model": "m"}
START = 1_800_000_000 * SECOND


@pytest.fixture
async def client():
    """Return a function that makes a client of an address."""
    async with aiohttp.ClientSession() as session:
        yield lambda url: InfluxClient(session, InfluxServer(url=url.rstrip("/"), org="o", bucket="b", token_file=None))


@pytest.fixture
async def influx():
    async with InfluxDouble("127.0.0.1", 0) as double:
        yield double


@pytest.fixture
async def answering(client):
    """Return a function that gives a client of a server with one answer to everything."""
    servers = []

    async def start(**answer):
        app = web.Application()

        async def respond(_):
            return web.Response(**answer)

        app.router.add_post("/{path:.*}", respond)
        servers.append(TestServer(app))
        await servers[-1].start_server()
        return client(str(servers[-1].make_url("")))

    yield start
    for server in servers:
        await server.close()


def names(influx):
    return sorted(int(dict(tags)["n"]) for tags, _ in influx.of("m"))


async def test_what_is_too_large_together_is_written_in_parts(client, influx):
    influx.judge = lambda points: 413 if len(points) > 7 else 204
    assert await by_halves(client(influx.url).write, LINES) == []
    assert names(influx) == list(range(100))
    assert set(influx.writes.values()) == {1}


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_points_refused_by_themselves_cost_no_others(client, influx, status):
    bad = {"13", "14", "99"}
    influx.judge = lambda points: status if any(tags["n"] in bad for _, tags, _, _ in points) else 204
    refused = await by_halves(client(influx.url).write, LINES)
    assert names(influx) == sorted(set(range(100)) - {13, 14, 99})
    assert [str(error).split()[0] for error in refused] == [str(status)] * 3


async def test_what_may_be_tried_again_is_told_as_such_in_the_midst_of_halves(client, influx):
    influx.judge = lambda points: 413 if len(points) > 50 else 503
    with pytest.raises(InfluxError, match=r"^503") as told:
        await by_halves(client(influx.url).write, LINES)
    assert not isinstance(told.value, RejectedError | TooLargeError)


async def test_a_long_page_of_a_proxy_that_is_down_is_no_refusal(answering):
    client = await answering(status=502, text="x" * 2**17)
    with pytest.raises(InfluxError, match=r"^502 xxx") as told:
        await client.write(LINES)
    assert not isinstance(told.value, RejectedError | TooLargeError)


async def test_an_answer_that_is_larger_than_asked_for_is_told(answering):
    client = await answering(text="x" * 1001)
    with pytest.raises(TooLargeError, match="more than 1000 bytes"):
        await client.query("", most=1000)
    assert await client.query("", most=1001) == "x" * 1001


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [
        ("3", 3, 3),
        ("86400", 300, 300),
        (timedelta(seconds=120), 60, 120),
        (timedelta(days=1), 300, 300),
        (timedelta(days=-1), 0, 0),
        ("soon", 0, 0),
        ("-5", 0, 0),
        ("", 0, 0),
    ],
)
async def test_retry_after_is_a_number_of_seconds_or_a_date(answering, said, least, most):
    if isinstance(said, timedelta):
        said = format_datetime(datetime.now(UTC) + said, usegmt=True)
    client = await answering(status=429, headers={"retry-after": said})
    with pytest.raises(InfluxError) as told:
        await client.write(LINES)
    assert least <= told.value.retry_after <= most


HOSTS = st.text(st.sampled_from(list(" ,=\"'\\\n\r\tab5#äß€\u2028🚀")), min_size=1, max_size=6)
NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
TABLES = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(["host", "cpu name", "région"]), HOSTS),
        st.lists(st.tuples(st.integers(0, 10**9), NUMBERS, NUMBERS), min_size=1, max_size=3),
    ),
    max_size=3,
)


def annotated(tables, *, annotations):
    """Return the answer of InfluxDB, which gives each schema a header of its own."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    for number, (tags, rows) in enumerate(tables):
        plain, grouped = ["string", "long", "dateTime:RFC3339", "double", "double"], ["false"] * 5
        headers = {
            "#datatype": [*plain, "string", *["string"] * len(tags)],
            "#group": [*grouped, "true", *["true"] * len(tags)],
            "#default": ["_result", *[""] * (5 + len(tags))],
        }
        writer.writerows([name, *headers[name]] for name in annotations)
        writer.writerow(["", "result", "table", "_time", "a", "b", "_measurement", *tags])
        for micros, a, b in rows:
            values = ["" if value is None else repr(value) for value in (a, b)]
            writer.writerow(["", "", number, rfc3339(START + micros * 1000), *values, "m", *tags.values()])
        writer.writerow([])
    return text.getvalue()


def by_the_library(text):
    parser = FluxCsvParser(io.BytesIO(text.encode()), FluxSerializationMode.tables)
    list(parser.generator())
    for table in parser.tables:
        tags = {column.label for column in table.columns if column.group and not column.label.startswith("_")}
        for record in table.records:
            values = [math.nan if record[name] is None else record[name] for name in ("a", "b")]
            yield record.get_time(), {name: record[name] for name in tags} | OWN, repr(values)


def by_us(text):
    config = SourceConfig(
        url="http://influx", org="o", bucket="b", measurement="m", query=None, fields={}, result_measurement="r",
        interval=10, lateness=30, owner_uid="u",
    )  # fmt: skip
    for row in read_points(text, config, ("a", "b"), OWN):
        at = datetime.fromtimestamp(row.time // SECOND, UTC) + timedelta(microseconds=row.time % SECOND // 1000)
        yield at, row.tags, repr(list(row.values))  # NaN is not equal to itself


@given(TABLES)
def test_answers_are_read_as_the_client_library_reads_them(tables):
    full = annotated(tables, annotations=("#datatype", "#group", "#default"))
    ours = list(by_us(full))
    assert ours == list(by_the_library(full))
    assert ours == list(by_us(annotated(tables, annotations=("#group",)))), "as it is asked for"


def test_an_error_in_the_midst_of_an_answer_is_one_to_both():
    text = annotated([({"host": "a"}, [(0, 1.0, 2.0)])], annotations=("#datatype", "#group", "#default"))
    text += "#datatype,string,string\r\n#group,true,true\r\n#default,,\r\n,error,reference\r\n,it broke,897\r\n"
    with pytest.raises(FluxQueryException):
        list(by_the_library(text))
    with pytest.raises(AnswerError, match="it broke"):
        list(by_us(text))

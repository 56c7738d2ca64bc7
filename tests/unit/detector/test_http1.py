"""Which requests are everyday ones: those that cannot be read in two ways, and no others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_detector import http1

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json; charset=utf-8\r\n"
WHOLE = HEAD + b"X-Request-Id:  a b \r\nContent-Length: 13\r\n\r\n" + b'{"rows": [1]}'


def test_a_request_is_read_with_its_headers_by_lower_case_name():
    request = http1.read(WHOLE)
    assert (request.path, request.body, request.end) == ("/predict", b'{"rows": [1]}', len(WHOLE))
    assert request.headers["x-request-id"] == "a b"
    assert request.content_type == "application/json"


@given(st.integers(0, len(WHOLE) - 1))
def test_a_part_of_a_request_is_incomplete_wherever_it_ends(length):
    assert http1.read(WHOLE[:length]) is None


@given(st.binary(max_size=40))
def test_what_follows_a_request_is_left_alone(more):
    assert http1.read(WHOLE + more) == http1.read(WHOLE)
    assert http1.read(more + WHOLE, len(more)).body == http1.read(WHOLE).body


@pytest.mark.parametrize(
    "request_line",
    [b"GET / HTTP/1.1", b"POST / HTTP/1.0", b"POST  / HTTP/1.1", b"POST /\x80 HTTP/1.1", b"\r\nPOST / HTTP/1.1"],
)
def test_another_request_line_is_unusual(request_line):
    with pytest.raises(http1.UnusualError):
        http1.read(request_line + b"\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    "header",
    [
        b"Transfer-Encoding: chunked",
        b"Content-Encoding: gzip",
        b"Expect: 100-continue",
        b"Upgrade: h2c",
        b"Connection: close",
        b"Content-Length: 5",
        b"content-length : 5",
        b" continued: line",
        b"Name: \x00",
        b"Name: \xc3\xa4",
        b"no colon",
        b"bare: line feed\nContent-Length: 7",
        b"Filler: " + b"x" * http1.MOST_HEAD,
    ],
)
def test_what_could_be_read_otherwise_is_unusual(header):
    with pytest.raises(http1.UnusualError):
        http1.read(HEAD + b"Content-Length: 0\r\n" + header + b"\r\n\r\n")


@pytest.mark.parametrize(
    "length", [b"", b"-1", b"+1", b"1,1", b"0x1", b"1 1", b"9" * 5000, b"%d" % (http1.MOST_BODY + 1)]
)
def test_a_length_that_is_no_small_number_is_unusual(length):
    with pytest.raises(http1.UnusualError):
        http1.read(HEAD + b"Content-Length: " + length + b"\r\n\r\n")


def test_a_head_that_does_not_end_is_unusual():
    with pytest.raises(http1.UnusualError):
        http1.read(HEAD + b"x" * http1.MOST_HEAD)


def test_answers_have_the_constant_headers_their_own_and_a_length():
    head = http1.Head({"x-color": "blue"}).write(503, 2, {"retry-after": "1"}).decode()
    first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    assert first == "HTTP/1.1 503 Service Unavailable"
    headers = dict(line.split(": ", 1) for line in lines)
    assert headers.pop("Date").endswith(" GMT")
    assert headers == {"x-color": "blue", "retry-after": "1", "Content-Length": "2"}

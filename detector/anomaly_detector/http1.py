"""Everyday requests and answers of HTTP/1.1, told from all others, which are left to a whole implementation."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time
from types import MappingProxyType

MOST_HEAD, MOST_BODY = 8 * 1024, 16 * 1024
"""Bytes of a request that may be an everyday one."""
_DIGITS = 10
_END = b"\r\n\r\n"
# Visible characters, blanks and tabs alone, and no line that continues another (RFC 9112, section 5.2).
_HEAD = re.compile(rb"POST ([!-~]++) HTTP/1\.1\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t -~]*+\r\n)++)\r\n")
_ANSWER = re.compile(rb"HTTP/1\.1 ([2-5][0-9]{2}) [\t -~]*+\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t -~]*+\r\n)++)\r\n")
_NOT_EVERYDAY = frozenset({"content-encoding", "expect", "te", "trailer", "transfer-encoding", "upgrade"})
"""Headers that change how a message is read."""
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class UnusualError(Exception):
    """Say that somebody else should read this."""


@dataclass(slots=True)
class Request:
    """A POST whose body is there."""

    path: str
    headers: Mapping[str, str]
    """By name in lower case."""
    content_type: str
    """Media type without parameters; as RFC 9110 says where none is given."""
    body: bytes
    end: int
    """Where the next request begins."""


@dataclass(slots=True)
class Response:
    """An answer whose body is there."""

    status: int
    headers: Mapping[str, str]
    """By name in lower case, or whatever its case."""
    body: bytes


def read(data: bytes, start: int = 0) -> Request | None:
    """Return the request that begins at `start`; None while it is incomplete.

    Raises UnusualError for anything but an HTTP/1.1 POST of limited size with a Content-Length, whole as it is,
    on a connection that is to stay open.
    """
    end = data.find(_END, start, start + MOST_HEAD)
    if end < 0:
        if len(data) - start >= MOST_HEAD or not b"POST ".startswith(data[start : start + 5]):
            raise UnusualError
        return None
    body = end + len(_END)
    path, headers, content_type, length = _head(data[start:body])
    after = body + length
    return Request(path, headers, content_type, data[body:after], after) if after <= len(data) else None


@lru_cache(maxsize=256)  # clients that keep their connection send the same head again and again
def _head(head: bytes) -> tuple[str, Mapping[str, str], str, int]:
    """Return the path, the headers, the content type and the length of the body."""
    found = _HEAD.fullmatch(head)
    if found is None:
        raise UnusualError
    headers = _headers(found[2])
    length = headers.get("content-length", "")
    unusual = not _NOT_EVERYDAY.isdisjoint(headers) or headers.get("connection", "keep-alive").lower() != "keep-alive"
    if unusual or not length.isdigit() or len(length) > _DIGITS or int(length) > MOST_BODY:
        raise UnusualError
    content_type = headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    return found[1].decode(), MappingProxyType(headers), content_type, int(length)


def read_answer(data: bytes) -> Response | None:
    """Return the answer to one request; None while it is incomplete.

    Raises UnusualError for what has no Content-Length, needs decoding, or is followed by more.
    """
    end = data.find(_END, 0, MOST_HEAD)
    if end < 0:
        if len(data) >= MOST_HEAD:
            raise UnusualError
        return None
    found = _ANSWER.fullmatch(data, 0, end + len(_END))
    if found is None:
        raise UnusualError
    headers = _headers(found[2])
    length = headers.get("content-length", "")
    if not _NOT_EVERYDAY.isdisjoint(headers) or not length.isdigit() or len(length) > _DIGITS:
        raise UnusualError
    missing = found.end() + int(length) - len(data)
    if missing < 0:
        raise UnusualError
    return Response(int(found[1]), headers, data[found.end() :]) if not missing else None


def _headers(block: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    lines = block.decode().split("\r\n")
    for line in lines[:-1]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip(" \t")
    if len(headers) != len(lines) - 1:  # some header is there twice
        raise UnusualError
    return headers


class Head:
    """Writes heads of answers; `constant` are headers that all of them have."""

    def __init__(self, constant: dict[str, str]) -> None:
        self._constant = "".join(f"{name}: {value}\r\n" for name, value in constant.items())
        self._second = 0
        self._date = ""

    def write(self, status: int, length: int, headers: dict[str, str]) -> bytes:
        """Return the head of an answer with a body of `length` bytes."""
        if (second := int(time())) != self._second:
            self._second, self._date = second, formatdate(second, usegmt=True)
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        return (
            f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n{lines}{self._constant}"
            f"Content-Length: {length}\r\nDate: {self._date}\r\n\r\n"
        ).encode("latin-1")

"""Kubernetes' protobuf, read as far as kubectl's imperative commands write it.

kubectl sends the objects that it builds itself (`create namespace`, `auth can-i`, `create token`) in this form and
accepts JSON in return. What is not in the table is refused by name; files that are applied or created come as JSON.
"""

import base64
from collections.abc import Iterator
from typing import Any

from anomaly_devcluster.api.errors import StatusError, unsupported_media_type
from anomaly_devcluster.data import data

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"

_FIELDS = {name: [part.partition(":")[::2] for part in text.split()] for name, text in data("api/protobuf").items()}


def decode(body: bytes) -> dict[str, Any]:
    """Return the object in a request's body; raises StatusError(415) naming what cannot be read."""
    if not body.startswith(_MAGIC):
        raise unsupported_media_type(f"{CONTENT_TYPE}: the body does not begin with its magic number")
    try:
        envelope = _message(body[len(_MAGIC) :], "Unknown")
        about = envelope["typeMeta"]
        content = _message(envelope.get("raw", b""), about["kind"])
    except (IndexError, ValueError, KeyError) as error:
        raise unsupported_media_type(f"{CONTENT_TYPE}: cannot be read: {error}") from None
    return {**about, **content}


def _message(data: bytes, kind: str) -> dict[str, Any]:
    fields = _FIELDS.get(kind)
    if fields is None:
        raise _refused(kind)
    out: dict[str, Any] = {}
    for number, value in _parts(data):
        name, form = fields[number - 1] if number <= len(fields) else ("", "")
        if name in ("-", ""):
            if value in (b"", 0) or name == "-":
                continue
            raise _refused(f"field {number} of {kind}")
        _set(out, name, form, value)
    return out


def _set(out: dict[str, Any], name: str, form: str, value: Any) -> None:
    if form.startswith("["):
        out.setdefault(name, []).append(_value(form[1:], value))
    elif form.startswith("{"):
        entry = dict(_parts(value))
        out.setdefault(name, {})[entry.get(1, b"").decode()] = _value(form[1:], entry.get(2, b""))
    elif (read := _value(form, value)) not in ("", {}):
        out[name] = read


def _value(form: str, value: Any) -> Any:
    match form:
        case "string":
            return value.decode()
        case "bytes":
            return base64.b64encode(value).decode()
        case "raw":
            return value
        case "int":
            return value if value < 1 << 63 else value - (1 << 64)
        case "bool":
            return bool(value)
        case _:
            return _message(value, form)


def _parts(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield field numbers and raw values."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                value, at = _varint(data, at)
                yield tag >> 3, value
            case 2:
                length, at = _varint(data, at)
                yield tag >> 3, data[at : at + length]
                at += length
            case wire:
                raise ValueError(f"wire type {wire}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            return value, at
        shift += 7


def _refused(what: str) -> StatusError:
    return unsupported_media_type(
        f"devcluster does not read {what} as protobuf; write it to a file and use kubectl apply or create -f"
    )

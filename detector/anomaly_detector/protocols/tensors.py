"""Tensors of the Open Inference Protocol: as JSON, and as raw bytes of its binary extension."""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_detector.problems import Problem, bad_input
from anomaly_detector.protocols.rows import kind

DTYPES = {
    "BOOL": "?",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
"""NumPy's names of the datatypes in which a table of numbers arrives."""
_CELLS = frozenset({float, int, bool, type(None)})
_MAX_DIMENSIONS = 2
_MOST_DIGITS = 12


def read_tensor(value: Any, where: str, raw: bytes | None) -> NDArray[np.float64]:
    """Return an input tensor in its shape; `raw` are its bytes if it came by the binary extension. Raises Problem."""
    datatype, shape = value.get("datatype"), value.get("shape")
    if type(datatype) is not str or datatype not in DTYPES:
        raise bad_input("WrongDatatype", f"{where}.datatype", expected=", ".join(DTYPES), received=str(datatype)[:80])
    if not _is_shape(shape):
        raise bad_input("WrongShape", f"{where}.shape", expected="[rows] or [rows, columns]", received=str(shape)[:80])
    size = math.prod(shape)
    if raw is not None:
        dtype = np.dtype(DTYPES[datatype])
        if len(raw) != size * dtype.itemsize:
            raise bad_input(
                "WrongShape", f"{where}.shape", expected=f"{size * dtype.itemsize} bytes", received=f"{len(raw)} bytes"
            )
        return np.frombuffer(raw, dtype).astype(np.float64).reshape(shape)
    flat = _flatten(value.get("data"), f"{where}.data")
    if len(flat) != size:
        raise bad_input("WrongShape", f"{where}.data", expected=f"{size} values (shape {shape})", received=len(flat))
    try:
        return np.array(flat, dtype=np.float64).reshape(shape)
    except OverflowError:
        raise Problem(400, "OutOfRange", f"{where}.data: a number does not fit into 64 bits", f"{where}.data") from None


def write_tensor(name: str, datatype: str, values: Any, *, binary: bool) -> tuple[dict[str, Any], bytes]:
    """Return an output tensor as JSON, and its bytes if it goes by the binary extension."""
    if datatype == "BYTES":
        tensor: dict[str, Any] = {"name": name, "shape": [len(values)], "datatype": datatype}
        raw = b"".join(len(text).to_bytes(4, "little") + text for text in (value.encode() for value in values))
        data = values
    else:
        array = np.ascontiguousarray(values, dtype=DTYPES[datatype])
        tensor = {"name": name, "shape": list(array.shape), "datatype": datatype}
        raw, data = array.tobytes(), array.ravel()
    if binary:
        return tensor | {"parameters": {"binary_data_size": len(raw)}}, raw
    return tensor | {"data": data}, b""


def split_binary(body: bytes, header_length: str | None) -> tuple[bytes, bytes]:
    """Return the JSON and the raw tensors behind it, by the header `Inference-Header-Content-Length`."""
    if header_length is None:
        return body, b""
    digits = header_length.isascii() and header_length.isdigit() and len(header_length) <= _MOST_DIGITS
    if not digits or int(header_length) > len(body):
        raise bad_input(
            "WrongHeader",
            "Inference-Header-Content-Length",
            expected=f"a length of at most {len(body)} bytes",
            received=header_length[:80],
        )
    return body[: int(header_length)], body[int(header_length) :]


def _is_shape(shape: Any) -> bool:
    return (
        type(shape) is list
        and 1 <= len(shape) <= _MAX_DIMENSIONS
        and all(type(side) is int and 0 < side < 2**31 for side in shape)
    )


def _flatten(data: Any, where: str) -> Sequence[Any]:
    """Return the values of a flat or nested list, in row-major order."""
    if type(data) is not list:
        raise bad_input("WrongType", where, expected="a list of numbers", received=kind(data))
    if data and all(type(row) is list for row in data):
        data = list(chain.from_iterable(data))
    if not _CELLS.issuperset(map(type, data)):
        wrong = next(cell for cell in data if type(cell) not in _CELLS)
        raise bad_input("WrongType", where, expected="numbers", received=kind(wrong))
    return data  # type: ignore[no-any-return]

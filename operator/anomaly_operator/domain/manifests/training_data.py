"""Where a retraining Job gets its rows from, when that is InfluxDB: the points of `spec.source.influxdb`."""

import json

from anomaly_operator.domain.records import Json
from anomaly_operator.domain.spec import Spec
from anomaly_operator.domain.spec_influxdb import InfluxSource

INFLUX = "influx"
TOKEN_DIR = "/etc/anomaly-training-influxdb"  # noqa: S105 - a folder
RANGE_START = "-30d"


def source(spec: Spec) -> InfluxSource | None:
    """Return where the points are, if the Job is to read them and the spec says where."""
    return spec.source.influxdb if spec.source and spec.retraining.data == INFLUX else None


def arguments(points: InfluxSource) -> tuple[str, ...]:
    """Return what `anomaly-train` is told of the points."""
    if points.query is not None:
        times = f"option v = {{timeRangeStart: {RANGE_START}, timeRangeStop: now()}}"
        return ("--flux", f"{times}\n{points.query}")
    if points.fields:
        return ("--flux", _renamed(points))
    return ("--influx-bucket", points.bucket, "--influx-measurement", points.measurement or "")


def environment(points: InfluxSource) -> dict[str, str]:
    """Return the variables that say where InfluxDB is and which file holds the token."""
    token = {"INFLUXDB_TOKEN_FILE": f"{TOKEN_DIR}/token"} if points.token_secret_ref else {}
    return {"INFLUXDB_URL": points.url, "INFLUXDB_ORG": points.org} | token


def volume(points: InfluxSource) -> tuple[Json, Json] | None:
    """Return the volume with the token and its mount, if there is a token."""
    reference = points.token_secret_ref
    if reference is None:
        return None
    items = [{"key": reference.key, "path": "token"}]
    return (
        {"name": "influxdb", "secret": {"secretName": reference.name, "items": items}},
        {"name": "influxdb", "mountPath": TOKEN_DIR, "readOnly": True},
    )


def _renamed(points: InfluxSource) -> str:
    """Return a query for the fields that are features, under the features' names."""
    fields = " or ".join(f"r._field == {_quoted(name)}" for name in points.fields.values())
    names = ", ".join(f"{_quoted(name)}: {_quoted(feature)}" for feature, name in points.fields.items())
    return "\n  |> ".join(
        [
            f"from(bucket: {_quoted(points.bucket)})",
            f"range(start: {RANGE_START})",
            f"filter(fn: (r) => r._measurement == {_quoted(points.measurement or '')})",
            f"filter(fn: (r) => {fields})",
            "group()",
            'pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")',
            f"rename(columns: {{{names}}})",
            'sort(columns: ["_time"])',
        ]
    )


def _quoted(text: str) -> str:
    """Return a Flux string literal; `${` would begin an interpolation."""
    return json.dumps(text, ensure_ascii=False).replace("${", "\\${")

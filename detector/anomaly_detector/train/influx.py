"""Training data from InfluxDB 2: a Flux query, or a bucket and a measurement as a table of their fields."""

import io
import json
import re
from dataclasses import dataclass
from typing import Any

import pandas as pd
from influxdb_client import InfluxDBClient
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from anomaly_detector.train.environment import setting
from anomaly_detector.train.errors import DataError, RegistryError
from anomaly_detector.train.features import FeatureNotes
from anomaly_detector.train.frames import Missing, Place, to_table
from anomaly_detector.train.table import Table

OWN_COLUMNS = ("result", "table", "_start", "_stop", "_measurement", "Unnamed: 0")
RANGE = re.compile(r"-?(\d+(ns|us|ms|s|m|h|d|w|mo|y))+|\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)|\d{4}-\d\d-\d\d")


@dataclass(frozen=True, slots=True, kw_only=True)
class InfluxSource:
    """Where to ask and for what."""

    url: str
    org: str
    flux: str | None = None
    """A query of one's own: one row a time, one column a feature (pivoted)."""
    bucket: str = ""
    measurement: str = ""
    start: str = "-30d"
    stop: str = "now()"
    timeout: float = 60.0

    def query(self, fields: tuple[str, ...]) -> str:
        """Return the Flux query. Raises DataError for a range that is none."""
        if self.flux is not None:
            return self.flux
        for name, value in (("start", self.start), ("stop", self.stop)):
            if value != "now()" and not RANGE.fullmatch(value):
                raise DataError(f"--influx-{name} {value}: expected a duration such as -7d or an RFC 3339 time")
        wanted = " or ".join(f"r._field == {quoted(field)}" for field in fields)
        return "\n  |> ".join(
            [
                f"from(bucket: {quoted(self.bucket)})",
                f"range(start: {self.start}, stop: {self.stop})",
                f"filter(fn: (r) => r._measurement == {quoted(self.measurement)})",
                *([f"filter(fn: (r) => {wanted})"] if wanted else []),
                # Series of all tags together, one column a field, in the order of time.
                "group()",
                'pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")',
                'sort(columns: ["_time"])',
            ]
        )


def quoted(text: str) -> str:
    """Return a Flux string literal; `${` would begin an interpolation."""
    return json.dumps(text, ensure_ascii=False).replace("${", "\\${")


def read_influx(source: InfluxSource, *, notes: FeatureNotes, missing: Missing = "refuse") -> Table:
    """Ask InfluxDB and return the answer as a Table; the token comes from INFLUXDB_TOKEN or INFLUXDB_TOKEN_FILE.

    Raises DataError for an answer that is no table and RegistryError when the server refuses or does not answer.
    """
    token = setting("INFLUXDB_TOKEN")
    if token is None:
        raise DataError("--data influx: no token; set INFLUXDB_TOKEN or INFLUXDB_TOKEN_FILE")
    wanted = tuple(name for name in (*notes.names, notes.label) if name)
    frame = _ask(source, source.query(wanted), token)
    frame = frame.drop(columns=[name for name in OWN_COLUMNS if name in frame.columns])
    place = Place(source=f"influx {source.bucket or 'query'} {source.measurement}".strip())
    return to_table(frame, place, notes=notes, missing=missing)


def _ask(source: InfluxSource, query: str, token: str) -> Any:
    client = InfluxDBClient(url=source.url, token=token, org=source.org, timeout=int(source.timeout * 1000))
    try:
        text = client.query_api().query_raw(query).data.decode()
    except ApiException as error:
        hint = "check the token and its permissions" if error.status in (401, 403) else (error.message or error.reason)
        raise RegistryError(f"InfluxDB {source.url}: {error.status} {error.reason}: {hint}") from None
    except (HTTPError, OSError) as error:
        raise RegistryError(f"InfluxDB {source.url}: {error}") from None
    finally:
        client.close()
    lines = "\n".join(line for line in text.splitlines() if line and not line.startswith("#"))
    return pd.read_csv(io.StringIO(lines)) if lines else pd.DataFrame()

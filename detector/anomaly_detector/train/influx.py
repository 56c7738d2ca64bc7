"""Training data from InfluxDB 2: a Flux query, or a bucket and a measurement as a table of their fields."""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from influxdb_client import InfluxDBClient
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from anomaly_detector.train.environment import setting
from anomaly_detector.train.errors import DataError, RegistryError
from anomaly_detector.train.features import FeatureNotes
from anomaly_detector.train.frames import TIME_COLUMNS, Missing, Place, to_table
from anomaly_detector.train.table import Table

OWN_COLUMNS = ("", "result", "table", "_start", "_stop", "_measurement")
RANGE = re.compile(r"-?(\d+(ns|us|ms|s|m|h|d|w|mo|y))+|\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)|\d{4}-\d\d-\d\d")


@dataclass(frozen=True, slots=True, kw_only=True)
class InfluxSource:
    """Where to ask and for what."""

    url: str
    org: str
    flux: str | None = None
    """A query of one's own: one row a time and series, one column a feature (pivoted)."""
    bucket: str = ""
    measurement: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Field, or column of an own query, by feature, where they are not called the same."""
    start: str = "-30d"
    stop: str = "now()"
    timeout: float = 60.0

    def query(self, features: tuple[str, ...]) -> str:
        """Return the Flux query; without features it asks for all fields. Raises DataError for a range that is none.

        The series are not grouped together: `pivot` makes one row of all that shares its row key *and* group key, so
        two hosts with the same time keep a row each only as long as their tags are in the group key.
        """
        if self.flux is not None:
            return self.flux
        for name, value in (("start", self.start), ("stop", self.stop)):
            if value != "now()" and not RANGE.fullmatch(value):
                raise DataError(f"--influx-{name} {value}: expected a duration such as -7d or an RFC 3339 time")
        wanted = " or ".join(f"r._field == {quoted(self.fields.get(name, name))}" for name in features)
        return "\n  |> ".join(
            [
                f"from(bucket: {quoted(self.bucket)})",
                f"range(start: {self.start}, stop: {self.stop})",
                f"filter(fn: (r) => r._measurement == {quoted(self.measurement)})",
                *([f"filter(fn: (r) => {wanted})"] if wanted else []),
                'drop(columns: ["_start", "_stop"])',
                'pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")',
            ]
        )


def quoted(text: str) -> str:
    """Return a Flux string literal; `${` would begin an interpolation."""
    return json.dumps(text, ensure_ascii=False).replace("${", "\\${")


def read_influx(source: InfluxSource, *, notes: FeatureNotes, missing: Missing = "refuse") -> Table:
    """Ask InfluxDB and return the answer as a Table; the token comes from INFLUXDB_TOKEN or INFLUXDB_TOKEN_FILE.

    Tags, which are the columns of the answer's group key, are no features unless they are named as such. Raises
    DataError for an answer that is no table and RegistryError when the server refuses or does not answer.
    """
    token = setting("INFLUXDB_TOKEN")
    if token is None:
        raise DataError("--data influx: no token; set INFLUXDB_TOKEN or INFLUXDB_TOKEN_FILE")
    # With a label alone, all other fields are features, so that all are asked for.
    wanted = (*notes.names, *((notes.label,) if notes.label else ())) if notes.names else ()
    text = _ask(source, source.query(wanted), token)
    place = Place(source=f"influx {source.bucket or 'query'} {source.measurement}".strip())
    columns = {name for name in (*notes.names, notes.label, notes.time, *TIME_COLUMNS) if name}
    return to_table(_frame(text, source, place, columns), place, notes=notes, missing=missing)


def _ask(source: InfluxSource, query: str, token: str) -> str:
    client = InfluxDBClient(url=source.url, token=token, org=source.org, timeout=int(source.timeout * 1000))
    try:
        answer: bytes = client.query_api().query_raw(query).data
    except ApiException as error:
        hint = "check the token and its permissions" if error.status in (401, 403) else (error.message or error.reason)
        raise RegistryError(f"InfluxDB {source.url}: {error.status} {error.reason}: {hint}") from None
    except (HTTPError, OSError) as error:
        raise RegistryError(f"InfluxDB {source.url}: {error}") from None
    finally:
        client.close()
    return answer.decode(errors="replace")


def _frame(text: str, source: InfluxSource, place: Place, columns: set[str]) -> Any:
    """Return the rows of all tables of an answer, without the tags that are none of `columns`.

    Series of other tags come as other tables. They are put in the order of their tags, so that the same points are
    the same data in whatever order the server sends them.
    """
    named = {name: feature for feature, name in source.fields.items()}
    frames, tags = [], set()
    for names, group, lines in _tables(text):
        if "error" in names and "_time" not in names:
            raise DataError(f"{place.source}: the query failed: {next(csv.reader(lines), ['?'])[names.index('error')]}")
        grouped = {name for name in group if named.get(name, name) not in columns} - {*OWN_COLUMNS}
        kept = [name for name in names if name not in OWN_COLUMNS]
        texts = dict.fromkeys(grouped, "str")
        frame = pd.read_csv(io.StringIO("\n".join(lines)), names=names, usecols=kept, dtype=texts)
        frames.append(frame.rename(columns=named))
        tags |= grouped
    if not frames:
        return pd.DataFrame()
    whole = pd.concat(frames, ignore_index=True)
    return whole.sort_values(sorted(tags), kind="stable", ignore_index=True).drop(columns=list(tags)) if tags else whole


def _tables(text: str) -> Iterator[tuple[list[str], set[str], list[str]]]:
    """Yield column names, those of the group key, and the lines of each run of tables in annotated CSV.

    A run begins with annotations, or after an empty line, and then with a line of column names.
    """
    group, names, lines = "", list[str](), list[str]()
    for line in [*text.replace("\r\n", "\n").split("\n"), ""]:
        if not line or line.startswith("#"):
            if lines:
                flags = next(csv.reader([group]), [])
                yield names, {name for name, flag in zip(names, flags, strict=False) if flag == "true"}, lines
                group, lines = "", []
            names = []
            group = line if line.startswith("#group") else group
        elif not names:
            names = next(csv.reader([line]))
        else:
            lines.append(line)

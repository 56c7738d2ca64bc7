"""From configuration to Flux, from the answers to rows, and from scores to points. Pure: nothing here does I/O."""

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from anomaly_detector.config import SourceConfig
from anomaly_detector.influx.lineprotocol import Field, line
from anomaly_detector.protocols import Scored

OWN_TAGS = ("namespace", "model")
"""Tags of a result besides those of its point. Neither pod nor version is among them: whoever scores a point anew
overwrites its result."""
SECOND = 1_000_000_000
_NOT_TAGS = frozenset({"", "result", "table"})
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_BOOLEANS = {"true": 1.0, "false": 0.0}

Key = tuple[int, frozenset[tuple[str, str]]]
"""Time and tags of a result: what makes it the same."""


class AnswerError(ValueError):
    """Say what in InfluxDB's answer cannot be used, and what the query has to return."""


@dataclass(frozen=True, slots=True)
class Row:
    """One point with the fields that the model asks for; NaN for those that it has not."""

    time: int
    """Nanoseconds since the epoch."""
    tags: Mapping[str, str]
    """Of its result."""
    values: tuple[float, ...]

    @property
    def key(self) -> Key:
        """Return what makes its result the same."""
        return self.time, frozenset(self.tags.items())

    @property
    def complete(self) -> bool:
        """Say whether every feature has a value."""
        return not any(map(math.isnan, self.values))


def rfc3339(nanoseconds: int) -> str:
    """Return a time with nine digits, as Flux and the Lease's annotation have it."""
    seconds, rest = divmod(nanoseconds, SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def nanoseconds(text: str) -> int:
    """Return an RFC 3339 time as nanoseconds since the epoch. Raises ValueError."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"expected an RFC 3339 time, got {text[:80]!r}")
    moment, fraction, zone = found.groups()
    seconds = int(datetime.fromisoformat(moment + zone.replace("Z", "+00:00")).timestamp())
    return seconds * SECOND + int((fraction or "").ljust(9, "0"))


def points_query(config: SourceConfig, features: Sequence[str], start: int, stop: int) -> str:
    """Return the Flux query for the points from `start` until before `stop`, one row a series and time."""
    if config.query is not None:
        span = f"{{timeRangeStart: {rfc3339(start)}, timeRangeStop: {rfc3339(stop)}}}"
        return f"option v = {span}\n{config.query}"
    wanted = " or ".join(f"r._field == {_quoted(config.fields.get(name, name))}" for name in features)
    return "\n  |> ".join(
        [
            f"from(bucket: {_quoted(config.bucket)})",
            f"range(start: {rfc3339(start)}, stop: {rfc3339(stop)})",
            f"filter(fn: (r) => r._measurement == {_quoted(config.measurement or '')})",
            f"filter(fn: (r) => {wanted})",
            'pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")',
            'drop(columns: ["_start", "_stop"])',
        ]
    )


def results_query(config: SourceConfig, own: Mapping[str, str], start: int, stop: int) -> str:
    """Return the Flux query for the results that are there from `start` until before `stop`."""
    mine = " and ".join(f"r[{_quoted(name)}] == {_quoted(own[name])}" for name in OWN_TAGS)
    return "\n  |> ".join(
        [
            f"from(bucket: {_quoted(config.bucket)})",
            f"range(start: {rfc3339(start)}, stop: {rfc3339(stop)})",
            f'filter(fn: (r) => r._measurement == {_quoted(config.result_measurement)} and r._field == "score")',
            f"filter(fn: (r) => {mine})",
            'drop(columns: ["_start", "_stop"])',
        ]
    )


def read_points(
    text: str, config: SourceConfig, features: Sequence[str], own: Mapping[str, str]
) -> Iterator[Row | None]:
    """Yield the rows of an answer; None in between where a record is passed over. Raises AnswerError.

    Tags are the columns of a table's group key. Results of ours that a query let through are passed over.
    """
    columns = {name: config.fields.get(name, name) for name in features}
    for record, tags in _records(text):
        if record.get("_measurement") == config.result_measurement:
            yield None
            continue
        missing = [column for column in columns.values() if column not in record]
        if len(missing) == len(columns):
            raise AnswerError(
                f"source: none of the columns {', '.join(missing)[:300]} is in the answer: the query must return one"
                " column a feature (pivot), or spec.source.influxdb.fields must name them"
            )
        values = tuple(_number(record.get(column, "")) for column in columns.values())
        # A column that is a feature is no tag, even if somebody grouped by it.
        found = {name: tags[name] for name in tags if name not in columns.values()}
        yield Row(_time(record), _result_tags(found, own), values)


def read_results(text: str, own: Mapping[str, str]) -> Iterator[Key]:
    """Yield what is there already. Raises AnswerError."""
    for record, tags in _records(text):
        kept = {name: value for name, value in tags.items() if name not in OWN_TAGS}
        yield _time(record), frozenset({**kept, **own}.items())


def result(row: Row, scored: Scored, place: int, *, measurement: str, version: str, pod: str) -> str | None:
    """Return the point of a result. It always has the same fields, so that nothing of an earlier one shows through."""
    said = scored.explanations.get(place) or {}
    parts = said.get("contributions") or ()
    fields: dict[str, Field] = {
        "anomaly": bool(scored.anomalous[place]),
        "score": float(scored.scores[place]),
        "confidence": None if scored.confidence is None else float(scored.confidence[place]),
        "id": scored.ids.get(place, ""),
        "text": str(said.get("text", "")),
        "top_feature": str(parts[0]["feature"]) if parts else "",
        "version": version,
        "pod": pod,
    }
    return line(measurement, row.tags, fields, row.time)


def _result_tags(tags: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Return a point's tags and our own; one of the point's that is called like ours becomes `source_...`."""
    return {(f"source_{name}" if name in OWN_TAGS else name): value for name, value in tags.items()} | dict(own)


def _records(text: str) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Yield each record of annotated CSV with its tags. A table begins with `#group` and a line of column names."""
    names: list[str] = []
    group: list[bool] = []
    header = False
    for cells in csv.reader(io.StringIO(text, newline="")):
        if not cells or cells == [""]:
            names = []
        elif cells[0] == "#group":
            group, header = [cell == "true" for cell in cells], True
        elif cells[0].startswith("#"):
            continue
        elif header or not names:
            names, header = cells, False
            if "error" in names and "_time" not in names:
                group = []
        elif "error" in names and "_time" not in names:
            raise AnswerError(f"source: the query failed: {cells[names.index('error')][:300]}")
        else:
            record = dict(zip(names, cells, strict=False))
            yield (
                record,
                {
                    name: record[name]
                    for name, grouped in zip(names, group, strict=False)
                    if grouped and name not in _NOT_TAGS and not name.startswith("_") and record.get(name)
                },
            )


def _time(record: Mapping[str, str]) -> int:
    try:
        return nanoseconds(record.get("_time", ""))
    except ValueError as error:
        raise AnswerError(f"source: column _time: {error}") from None


def _number(text: str) -> float:
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value


def _quoted(text: str) -> str:
    """Return a Flux string literal; `${` would begin an interpolation."""
    return json.dumps(text, ensure_ascii=False).replace("${", "\\${")

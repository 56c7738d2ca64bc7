"""`spec.influxdb` and `spec.source`: where predictions are written, and where points to score may come from."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from anomaly_operator.domain.fields import Rule, field

_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_URI = r"^https?://[^\s]+$"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretKeyRef:
    """One key of a Secret in the namespace of the AnomalyModel."""

    name: str = field("Name of a Secret in the same namespace.", maxLength=253, pattern=_NAME)
    key: str = field("Key in the Secret.", default="token", maxLength=253)


@dataclass(frozen=True, slots=True, kw_only=True)
class InfluxServer:
    """A bucket of an InfluxDB 2."""

    url: str = field("Address of InfluxDB 2.", maxLength=2048, pattern=_URI)
    org: str = field("Organisation.", maxLength=256)
    bucket: str = field("Bucket.", maxLength=256)
    token_secret_ref: SecretKeyRef | None = field("Secret with the token, re-read as it rotates.", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class InfluxDB(InfluxServer):
    """Where the detectors write what they saw."""

    write: Literal["all", "sampled", "anomalies"] = field("Which predictions are written.", default="anomalies")


@dataclass(frozen=True, slots=True, kw_only=True)
class InfluxSource(InfluxServer):
    """Points that land in a bucket and are to be scored."""

    RULES: ClassVar = (
        Rule(
            "has(self.measurement) != has(self.query)",
            "exactly one of measurement and query is needed: keep the one that says which points to score",
            lambda source: (source.measurement is None) != (source.query is None),
            ".measurement",
        ),
        Rule(
            "!has(self.measurement) || self.measurement != self.resultMeasurement",
            "resultMeasurement must not be measurement, or results would be scored as points: rename it",
            lambda source: source.measurement != source.result_measurement,
            ".resultMeasurement",
        ),
        Rule(
            "!has(self.query) || (self.query.contains('v.timeRangeStart') && self.query.contains('v.timeRangeStop'))",
            "query must read range(start: v.timeRangeStart, stop: v.timeRangeStop), which are set for each reading",
            lambda source: (
                source.query is None or all(f"v.timeRange{end}" in source.query for end in ("Start", "Stop"))
            ),
            ".query",
        ),
    )

    measurement: str | None = field(
        "Measurement whose fields are the features. Each series (host, for example) is scored by itself.",
        default=None, minLength=1, maxLength=256,
    )  # fmt: skip
    query: str | None = field(
        "Flux query instead of measurement: one row a time and series, one column a feature, with"
        " range(start: v.timeRangeStart, stop: v.timeRangeStop).",
        default=None, minLength=1, maxLength=8192,
    )  # fmt: skip
    fields: dict[str, str] = field(
        "Field (or column) of a feature, by feature, where they are not called the same.", default={}, maxProperties=512
    )
    result_measurement: str = field(
        "Measurement that results are written to, with the tags and time of their point.",
        default="anomaly_result", minLength=1, maxLength=256,
    )  # fmt: skip
    interval: float = field("How often new points are read.", default="10s", format="duration")
    lateness: float = field(
        "How late a point may arrive; one that is later is not scored. A point without all features waits as long for"
        " the rest of them.",
        default="30s", format="duration",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """Points to score without a client."""

    influxdb: InfluxSource | None = field(
        "Points of an InfluxDB 2 bucket. Results go to the same: the token must be allowed to read and write it.",
        default=None,
    )

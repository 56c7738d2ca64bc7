"""`spec.influxdb` and `spec.source`: where predictions are written, and where points to score may come from."""

from dataclasses import dataclass
from typing import Literal

from anomaly_operator.domain.fields import field

_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_URI = r"^https?://[^\s]+$"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretKeyRef:
    """One key of a Secret in the namespace of the AnomalyModel."""

    name: str = field("Name of a Secret in the same namespace.", maxLength=253, pattern=_NAME)
    key: str = field("Key in the Secret.", default="token", maxLength=253)


@dataclass(frozen=True, slots=True, kw_only=True)
class InfluxDB:
    """Where the detectors write what they saw."""

    url: str = field("Address of InfluxDB 2.", maxLength=2048, pattern=_URI)
    org: str = field("Organisation.", maxLength=256)
    bucket: str = field("Bucket.", maxLength=256)
    token_secret_ref: SecretKeyRef | None = field("Secret with the token, re-read as it rotates.", default=None)
    write: Literal["all", "sampled", "anomalies"] = field("Which predictions are written.", default="anomalies")


@dataclass(frozen=True, slots=True, kw_only=True)
class InfluxSource:
    """Points that land in a bucket and are to be scored."""

    url: str = field("Address of InfluxDB 2.", maxLength=2048, pattern=_URI)
    org: str = field("Organisation.", maxLength=256)
    bucket: str = field("Bucket.", maxLength=256)
    measurement: str = field("Measurement whose fields are the features.", maxLength=256)
    query: str | None = field("Flux query instead of bucket and measurement.", default=None, maxLength=8192)
    token_secret_ref: SecretKeyRef | None = field("Secret with the token.", default=None)
    interval: float = field("How often new points are read.", default="10s", format="duration")
    lateness: float = field("How late a point may arrive.", default="30s", format="duration")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """Points to score without a client."""

    influxdb: InfluxSource | None = field("Points of an InfluxDB 2 bucket.", default=None)

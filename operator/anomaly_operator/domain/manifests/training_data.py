"""What a retraining Job has to do with InfluxDB: the points that it trains on, and the bucket that it tells."""

from collections.abc import Iterator

from anomaly_operator.domain.records import Json
from anomaly_operator.domain.spec import INFLUX, Spec
from anomaly_operator.domain.spec_influxdb import InfluxSource, SecretKeyRef

POINTS_DIR = "/etc/anomaly-training-influxdb"
TOLD_DIR = "/etc/anomaly-influxdb"
RANGE_START = "-30d"


def arguments(spec: Spec) -> tuple[str, ...]:
    """Return what `anomaly-train` is told of the points, if it is to train on those of `spec.source.influxdb`."""
    points = _points(spec)
    if points is None:
        return ()
    names = tuple(word for pair in points.fields.items() for word in ("--influx-field", "=".join(pair)))
    if points.query is not None:
        times = f"option v = {{timeRangeStart: {RANGE_START}, timeRangeStop: now()}}"
        return ("--flux", f"{times}\n{points.query}", *names)
    return ("--influx-bucket", points.bucket, "--influx-measurement", points.measurement or "", *names)


def environment(spec: Spec) -> dict[str, str]:
    """Return the variables that say where the points are, and which bucket is told what came of the training."""
    values = {}
    if points := _points(spec):
        values = {"INFLUXDB_URL": points.url, "INFLUXDB_ORG": points.org}
        if points.token_secret_ref:
            values["INFLUXDB_TOKEN_FILE"] = f"{POINTS_DIR}/token"
    if told := spec.influxdb:
        values["ANOMALY_INFLUXDB_URL"] = told.url
        values["ANOMALY_INFLUXDB_ORG"] = told.org
        values["ANOMALY_INFLUXDB_BUCKET"] = told.bucket
        if told.token_secret_ref:
            values["ANOMALY_INFLUXDB_DIR"] = TOLD_DIR
    return values


def secrets(spec: Spec) -> Iterator[tuple[str, str, Json]]:
    """Yield volume name, folder and source of each Secret with a token."""
    points, told = _points(spec), spec.influxdb
    if points and points.token_secret_ref:
        yield "anomaly-points", POINTS_DIR, _token(points.token_secret_ref)
    if told and told.token_secret_ref:
        yield "anomaly-influxdb", TOLD_DIR, _token(told.token_secret_ref)


def _token(secret: SecretKeyRef) -> Json:
    # Optional: without it the training says what is missing, instead of a pod that waits until its deadline.
    return {"secretName": secret.name, "items": [{"key": secret.key, "path": "token"}], "optional": True}


def _points(spec: Spec) -> InfluxSource | None:
    return spec.source.influxdb if spec.source and spec.retraining.data == INFLUX else None

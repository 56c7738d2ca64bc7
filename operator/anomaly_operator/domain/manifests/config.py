"""The ConfigMap that pods re-read live: limits of the gates, drift detection, public keys."""

import json

from anomaly_operator.domain import names
from anomaly_operator.domain.manifests.common import child
from anomaly_operator.domain.manifests.pods import INFLUXDB_DIR, SOURCE_INFLUXDB_DIR
from anomaly_operator.domain.model import Observed, PodSettings
from anomaly_operator.domain.records import Json
from anomaly_operator.domain.spec import Spec
from anomaly_operator.domain.spec_influxdb import InfluxDB, InfluxServer, SourceSpec

SCHEMA_VERSION = 1


def config_map(observed: Observed, spec: Spec, settings: PodSettings) -> Json:
    """Return the ConfigMap of docs/pod-contract.md. Its gates are the guard's: a pod reports their breach at once."""
    gates = spec.blue_green.post_promotion_analysis.gates
    drift, tests = spec.drift, spec.drift.tests
    config = {
        "schemaVersion": SCHEMA_VERSION,
        "heartbeatSeconds": settings.heartbeat_seconds,
        "gates": {
            "errorRate": {"enabled": gates.error_rate.enabled, "max": gates.error_rate.max},
            "drift": {"enabled": gates.drift.enabled, "maxConfidence": gates.drift.max_confidence},
        },
        "drift": {
            "window": drift.window,
            "consecutiveChecks": drift.consecutive_checks,
            "falseAlarmsPerDay": drift.false_alarms_per_day,
            "minVotes": drift.min_votes,
            "tests": {
                "ks": tests.ks,
                "wasserstein": tests.wasserstein,
                "anderson": tests.anderson,
                "jensenShannon": tests.jensen_shannon,
                "welch": tests.welch,
            },
        },
        "explanations": {"enabled": spec.explanations.enabled, "topK": spec.explanations.top_k},
        "influxdb": _influxdb(spec.influxdb),
        "source": _source(observed, spec.source),
    }
    text = json.dumps(config, indent=1, sort_keys=True)
    return child(
        observed,
        "v1",
        "ConfigMap",
        names.detector(observed.name),
        data={"config.json": text, "jwks.json": settings.jwks},
    )


def _influxdb(influxdb: InfluxDB | None) -> Json | None:
    return None if influxdb is None else _server(influxdb, INFLUXDB_DIR) | {"write": influxdb.write}


def _source(observed: Observed, source: SourceSpec | None) -> Json | None:
    if source is None or source.influxdb is None:
        return None
    influxdb = source.influxdb
    return _server(influxdb, SOURCE_INFLUXDB_DIR) | {
        "measurement": influxdb.measurement,
        "query": influxdb.query,
        "fields": dict(influxdb.fields),
        "resultMeasurement": influxdb.result_measurement,
        "intervalSeconds": influxdb.interval,
        "latenessSeconds": influxdb.lateness,
        "ownerUid": observed.uid,
    }


def _server(server: InfluxServer, folder: str) -> Json:
    token = f"{folder}/token" if server.token_secret_ref else None
    return {"url": server.url, "org": server.org, "bucket": server.bucket, "tokenFile": token}

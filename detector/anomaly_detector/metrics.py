"""Prometheus metrics of the pod, read at scrape time from what is counted anyway."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from anomaly_detector.memory import resident_bytes
from anomaly_detector.report import SOURCES, Source

if TYPE_CHECKING:
    from anomaly_detector.pod import Pod
    from anomaly_detector.source.reader import StreamSource

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.0001, 0.0002, 0.0003, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5)
PHASES = ("parse", "score", "render")
"""`score` includes the explanations of the answer."""
OUTCOMES = ("ok", "failed", "client_error", "shed")


class RequestMetrics:
    """Counters and histograms that requests move."""

    def __init__(self, registry: CollectorRegistry) -> None:
        requests = Counter(
            "anomaly_requests", "Requests by source and outcome.", ["source", "outcome"], registry=registry
        )
        rows = Counter("anomaly_rows", "Rows scored.", ["source"], registry=registry)
        anomalies = Counter("anomaly_anomalies", "Rows labelled anomalous.", ["source"], registry=registry)
        phases = Histogram(
            "anomaly_phase_seconds", "Time spent by phase of a request.", ["phase"], buckets=_SECONDS, registry=registry
        )
        whole = Histogram(
            "anomaly_request_seconds", "Time to answer, body read.", ["source"], buckets=_SECONDS, registry=registry
        )
        self._requests = {(s, o): requests.labels(s, o) for s in SOURCES for o in OUTCOMES}
        self._rows = {source: rows.labels(source) for source in SOURCES}
        self._anomalies = {source: anomalies.labels(source) for source in SOURCES}
        self._phases = [phases.labels(phase) for phase in PHASES]
        self._whole = {source: whole.labels(source) for source in SOURCES}

    def refused(self, source: Source, outcome: str) -> None:
        """Count a request that was not scored."""
        self._requests[source, outcome].inc()

    def answered(self, source: Source, *, times: tuple[float, ...], rows: int, anomalies: int) -> None:
        """Count a scored request; `times` are the moments between its phases, seconds."""
        self._requests[source, "ok"].inc()
        self._rows[source].inc(rows)
        self._anomalies[source].inc(anomalies)
        for phase, start, end in zip(self._phases, times, times[1:], strict=False):
            phase.observe(end - start)
        self._whole[source].observe(times[-1] - times[0])


class PodCollector(Collector):
    """What stands in the pod's own state."""

    def __init__(self, pod: "Pod") -> None:
        self._pod = pod

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of this moment."""
        pod = self._pod
        yield GaugeMetricFamily("anomaly_ready", "1 while the pod is ready.", value=float(pod.ready))
        yield GaugeMetricFamily("anomaly_resident_bytes", "Resident set of the process tree.", value=resident_bytes())
        yield GaugeMetricFamily("anomaly_open_user_connections", "Open on port 8080.", value=pod.open_connections())
        info = InfoMetricFamily("anomaly_model", "What is served, and how it is scored.")
        info.add_metric([], {**pod.labels(), "scoring": pod.scoring})
        yield info
        role = pod.roles.current.role
        yield GaugeMetricFamily("anomaly_epoch", "Of the newest role.", value=pod.roles.current.epoch)
        state = GaugeMetricFamily("anomaly_role", "1 for the pod's role.", labels=["role"])
        state.add_metric([role], 1.0)
        yield state
        if pod.serving is None:
            return
        yield from _serving(pod)


def _serving(pod: "Pod") -> Iterator[Metric]:
    serving = pod.serving
    if serving is None:
        return
    drift, copies = serving.observer.drift, serving.shadow.comparison
    yield GaugeMetricFamily(
        "anomaly_drift_confidence", "Vote share of the drift verdict.", value=drift.confidence or 0.0
    )
    yield CounterMetricFamily("anomaly_drift_checks", "Drift checks in this role.", value=drift.checks)
    yield CounterMetricFamily("anomaly_observations_dropped", "Not watched for drift.", value=serving.observer.dropped)
    sent = CounterMetricFamily("anomaly_shadow_copies", "Copies to the other color, by outcome.", labels=["outcome"])
    for outcome in ("answered", "failed", "refused", "dropped"):
        sent.add_metric([outcome], getattr(copies, outcome))
    yield sent
    yield CounterMetricFamily("anomaly_passed_on", "Requests passed on while draining.", value=pod.pass_through.passed)
    yield CounterMetricFamily(
        "anomaly_explanations_failed", "Explanations that raised.", value=serving.plane.failed_explanations
    )
    if pod.influx is not None:
        points = CounterMetricFamily("anomaly_influxdb_points", "Points, by outcome.", labels=["outcome"])
        for outcome in ("written", "dropped", "rejected"):
            points.add_metric([outcome], getattr(pod.influx.outcomes, outcome))
        yield points
    if pod.source is not None and pod.source_config() is not None:
        yield from _source(pod.source)
    if pod.reporter is not None:
        yield CounterMetricFamily("anomaly_reports_written", "Reports written.", value=pod.reporter.written)
        yield CounterMetricFamily("anomaly_reports_failed", "Reports not written.", value=pod.reporter.failures)


def _source(source: "StreamSource") -> Iterator[Metric]:
    points = CounterMetricFamily("anomaly_source_points", "Points of spec.source, by outcome.", labels=["outcome"])
    for outcome in ("written", "refused", "failed", "rejected"):
        points.add_metric([outcome], getattr(source.counters, outcome))
    yield points
    yield CounterMetricFamily("anomaly_source_errors", "Looks for points that failed.", value=source.counters.errors)
    yield GaugeMetricFamily("anomaly_source_holder", "1 while this pod reads.", value=float(source.lease.holds()))
    if source.position is not None:
        lag = max(0.0, time.time() - source.position / 1e9)
        yield GaugeMetricFamily("anomaly_source_lag_seconds", "How far behind now this pod has read.", value=lag)


def exposition(registry: CollectorRegistry) -> bytes:
    """Return the text format."""
    return generate_latest(registry)

"""Prometheus metrics of the operator, named by convention; docs/operator.md lists them."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
_PREFIX = "anomaly_operator_"
_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """All metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.leader = self._gauge("leader", "1 while this replica holds the Lease.")
        self.models = self._gauge("watched_objects", "Objects known, by kind.", "kind")
        self.loop_lag = self._gauge("loop_lag_seconds", "Delay of the event loop.")
        self.queue_depth = self._gauge("queue_depth", "Models that are due and wait.")
        self.queue_wait = self._gauge("queue_longest_wait_seconds", "How long the oldest of them has waited.")
        self.reconciles = self._counter("reconciles", "Models looked at, by outcome.", "outcome")
        self.reconcile_seconds = self._histogram("reconcile_seconds", "Time to observe, plan and execute.")
        self.actions = self._counter("actions", "Actions carried out, by kind and outcome.", "action", "outcome")
        self.decisions = self._counter("decisions", "Promotions, rollbacks, aborts, by reason.", "outcome", "reason")
        self.switch_seconds = self._histogram(
            "switch_seconds",
            "From the receipt of what caused a plan to the acknowledged write of the users' Service.",
            "rollback",
        )
        self.malformed = self._counter(
            "malformed_annotations", "Values of annotations that could not be read and were ignored."
        )
        self.watch_missed = self._counter("watch_missed", "Changes that only a resync found, by kind.", "kind")
        self.registry_requests = self._counter(
            "registry_requests", "Questions to the model registry, by answer.", "answer"
        )
        self.webhooks = self._counter("webhooks", "Webhooks received from the registry, by outcome.", "outcome")

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(_PREFIX + name, about, labels, registry=self.registry)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(_PREFIX + name, about, labels, registry=self.registry)

    def _histogram(self, name: str, about: str, *labels: str) -> Histogram:
        return Histogram(_PREFIX + name, about, labels, buckets=_FAST, registry=self.registry)

    def render(self) -> bytes:
        """Return the exposition text."""
        return generate_latest(self.registry)

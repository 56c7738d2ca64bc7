"""Prometheus metrics of the operator, named by convention; docs/operator.md lists them."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """All metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        prefix = "anomaly_operator_"
        self.leader = Gauge(prefix + "leader", "1 while this replica holds the Lease.", registry=self.registry)
        self.models = Gauge(prefix + "watched_objects", "Objects known, by kind.", ["kind"], registry=self.registry)
        self.queue_depth = Gauge(prefix + "queue_depth", "Models that are due and wait.", registry=self.registry)
        self.queue_wait = Gauge(
            prefix + "queue_longest_wait_seconds", "How long the oldest of them has waited.", registry=self.registry
        )
        self.loop_lag = Gauge(prefix + "loop_lag_seconds", "Delay of the event loop.", registry=self.registry)
        self.reconciles = Counter(
            prefix + "reconciles", "Models looked at, by outcome.", ["outcome"], registry=self.registry
        )
        self.reconcile_seconds = Histogram(
            prefix + "reconcile_seconds", "Time to observe, plan and execute.", buckets=_FAST, registry=self.registry
        )
        self.actions = Counter(
            prefix + "actions",
            "Actions carried out, by kind and outcome.",
            ["action", "outcome"],
            registry=self.registry,
        )
        self.decisions = Counter(
            prefix + "decisions",
            "Promotions, rollbacks, aborts, by reason.",
            ["outcome", "reason"],
            registry=self.registry,
        )
        self.malformed = Counter(
            prefix + "malformed_annotations",
            "Values of annotations that could not be read and were ignored.",
            registry=self.registry,
        )
        self.switch_seconds = Histogram(
            prefix + "switch_seconds",
            "From the receipt of what caused a plan to the acknowledged write of the users' Service.",
            ["rollback"], buckets=_FAST, registry=self.registry,
        )  # fmt: skip
        self.watch_missed = Counter(
            prefix + "watch_missed", "Changes that only a resync found, by kind.", ["kind"], registry=self.registry
        )
        self.registry_requests = Counter(
            prefix + "registry_requests",
            "Questions to the model registry, by answer.",
            ["answer"],
            registry=self.registry,
        )
        self.webhooks = Counter(
            prefix + "webhooks", "Webhooks received from the registry, by outcome.", ["outcome"], registry=self.registry
        )

    def render(self) -> bytes:
        """Return the exposition text."""
        return generate_latest(self.registry)

"""`spec.gates`: the limits that a revision must keep, and `spec.drift`: how drift is detected."""

from dataclasses import dataclass
from typing import Literal

from anomaly_operator.domain.fields import IntOrPercent, field, nested

_ENABLED = "Whether this gate is judged. (A default cannot be removed by null, hence this switch.)"


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyGate:
    """95th percentile of the latency measured in the server."""

    enabled: bool = field(_ENABLED, default=True)
    milliseconds: float = field(
        "Limit of the 95th percentile of requests with up to 16 rows, pooled over a track.", default=6.94, minimum=0
    )
    tolerance_percent: float = field("Allowed excess over milliseconds, percent.", default=10, minimum=0, maximum=1000)
    relative: float | None = field(
        "In analysis also: at most this many times the active track's percentile (or 1 ms above it).",
        default=1.5, minimum=1, maximum=1000,
    )  # fmt: skip

    @property
    def limit_milliseconds(self) -> float:
        """Return the absolute limit with its tolerance."""
        return self.milliseconds * (1 + self.tolerance_percent / 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyRateGate:
    """Share of rows that are labelled anomalous."""

    enabled: bool = field(_ENABLED, default=True)
    target: float | None = field(
        "Expected share of anomalous rows; default: the contamination logged with the version.",
        default=None, nullable=True, minimum=0, maximum=1,
    )  # fmt: skip
    tolerance: float = field("Allowed distance, as a share.", default=0.05, minimum=0, maximum=1)
    min_rows: int = field("Rows needed for a verdict.", default=1000, minimum=1, maximum=1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRateGate:
    """Share of requests answered 5xx or timed out."""

    enabled: bool = field(_ENABLED, default=True)
    max: float = field("A breach is over this share.", default=0.01, minimum=0, maximum=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryGate:
    """Resident set of a detector container's process tree, highest pod."""

    enabled: bool = field(_ENABLED, default=True)
    max: int = field("Limit, as a quantity.", default="650M", format="quantity")


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftGate:
    """Share of drift tests that vote for drift."""

    enabled: bool = field(_ENABLED, default=True)
    max_confidence: float = field(
        "A breach is over this share of votes; three votes of five are 0.6.", default=0.5, minimum=0, maximum=1
    )
    mode: Literal["Differential", "Absolute"] = field(
        "Differential: roll back only if the last good revision does better on the same traffic. Absolute: any breach"
        " rolls back at once.",
        default="Differential",
    )
    control_timeout: float = field(
        "Differential: without a verdict of the control in this time, roll back.", default="120s", format="duration"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Quorum:
    """How many pods must be over a limit."""

    error_rate: IntOrPercent = field(
        "Pods of the active color whose error-rate annotation must be over its limit, a number or a share. (Reports on"
        " errors are pooled instead.)",
        default=1, format="intOrPercent",
    )  # fmt: skip
    drift: IntOrPercent = field(
        "Pods of the active color whose drift confidence must be over its limit: a number, or a share of the pods that"
        " have a verdict, at least 1. A pod that too few users reached has none and does not count.",
        default="50%", format="intOrPercent",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """Limits that a revision must keep: in the smoke test, in analysis, and as guard of the active revision."""

    latency: LatencyGate = nested("Latency measured in the server; an upper bound.", LatencyGate)
    anomaly_rate: AnomalyRateGate = nested("Share of anomalous rows.", AnomalyRateGate)
    error_rate: ErrorRateGate = nested("Share of failed requests.", ErrorRateGate)
    memory: MemoryGate = nested("Resident memory of a pod.", MemoryGate)
    drift: DriftGate = nested("Drift of the input or the score.", DriftGate)
    quorum: Quorum = nested("Pods whose annotation must be over a limit.", Quorum)
    on_inconclusive: Literal["Replay", "Pause"] = field(
        "When traffic is too thin to judge: replay the model's reference rows at both tracks, or pause.",
        default="Replay",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftTests:
    """Thresholds of the five tests; the one in force is the stricter to fire of these and the calibrated one."""

    ks: float = field("Kolmogorov-Smirnov votes below this p-value.", default=0.05, minimum=0, maximum=1)
    wasserstein: float = field(
        "Wasserstein votes above this distance, in reference standard deviations.", default=0.3, minimum=0
    )
    anderson: float = field("Anderson-Darling (normalised, k=2) votes above this.", default=1.961, minimum=0)
    jensen_shannon: float = field(
        "Jensen-Shannon votes above this distance (natural logarithm).", default=0.2, minimum=0, maximum=1
    )
    welch: float = field("Welch's test votes above this |t|.", default=2.0, minimum=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftSpec:
    """How the detectors look for drift."""

    window: int = field("Rows in a window; a check is made every half window.", default=500, minimum=50, maximum=100000)
    consecutive_checks: int = field("Checks in a row that must agree.", default=3, minimum=1, maximum=20)
    false_alarms_per_day: float = field(
        "False alarms per day and model that the calibrated thresholds aim at.", default=1, minimum=0, maximum=1440
    )
    tests: DriftTests = nested("Thresholds of the five tests.", DriftTests)
    min_votes: int = field("Votes of five that mean drift.", default=3, minimum=1, maximum=5)

"""What `status` shows of the moment, beside what it remembers (`records`)."""

from dataclasses import dataclass
from typing import Literal

from anomaly_operator.domain.times import Time


@dataclass(frozen=True, slots=True, kw_only=True)
class LastReport:
    """What the active color's pods last said, pooled; written on a change of verdict or every five minutes."""

    time: Time
    error_rate: float | None = None
    drift_confidence: float | None = None
    drift_verdict: str = "inconclusive"
    anomaly_rate: float | None = None
    latency_p95_milliseconds: float | None = None
    requests: int = 0
    pods: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """metav1.Condition."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    observed_generation: int = 0
    last_transition_time: Time

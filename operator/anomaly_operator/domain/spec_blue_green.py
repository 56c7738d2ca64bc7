"""`spec.blueGreen`: how a new revision is tried, takes over and is watched."""

from dataclasses import dataclass

from anomaly_operator.domain.fields import field, nested, overrides
from anomaly_operator.domain.spec_gates import Gates


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeTest:
    """The first trial of a candidate: reference rows of the model, sent to every pod by its own address."""

    rows: int = field("Reference rows to send to each pod.", default=256, minimum=1, maximum=4096)
    timeout: float = field("Time limit of the whole smoke test.", default="60s", format="duration")


@dataclass(frozen=True, slots=True, kw_only=True)
class PrePromotionAnalysis:
    """The trial of a candidate before users see it."""

    smoke_test: SmokeTest = nested("Reference rows sent to every candidate pod.", SmokeTest)
    duration: float = field("How long the candidate is judged on shadow traffic.", default="5m", format="duration")
    interval: float = field("How often it is judged.", default="10s", format="duration")
    gates: Gates = overrides("Gates of this phase; they override spec.gates key by key.", Gates)
    listed_gates: frozenset[str] = frozenset()
    """Gates (as in JSON) that this phase names itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostPromotionAnalysis:
    """The guard: it watches the active revision for as long as it lives."""

    gates: Gates = overrides("Gates of this phase; they override spec.gates key by key.", Gates)
    listed_gates: frozenset[str] = frozenset()
    """Gates (as in JSON) that this phase names itself: latency and memory roll back only if named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """Copies of users' requests, sent to the other color."""

    percent: float = field("Share of requests copied during analysis, percent.", default=100, minimum=0, maximum=100)
    guard_percent: float = field("Share copied while guarding, percent.", default=10, minimum=0, maximum=100)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlueGreen:
    """How a new revision takes over."""

    auto_promotion_enabled: bool = field(
        "Promote by itself after a passed analysis; false: wait for `kubectl anomaly promote`.", default=True
    )
    auto_promotion_seconds: int = field(
        "Wait between a passed analysis and the switch.", default=0, minimum=0, maximum=604800
    )
    preview_replica_count: int | None = field(
        "Candidate's size before promotion; it always gets the full size before traffic.",
        default=None, nullable=True, minimum=1, maximum=1000,
    )  # fmt: skip
    scale_down_delay_seconds: int = field(
        "How long the losing color is kept warm after a switch.", default=1800, minimum=0, maximum=604800
    )
    abort_scale_down_delay_seconds: int = field(
        "How long a rejected candidate is kept for a look at it.", default=30, minimum=0, maximum=604800
    )
    pre_promotion_analysis: PrePromotionAnalysis = nested("Trial before users see it.", PrePromotionAnalysis)
    post_promotion_analysis: PostPromotionAnalysis = nested("The guard after the switch.", PostPromotionAnalysis)
    shadow: Shadow = nested("Copies of users' requests for the other color.", Shadow)

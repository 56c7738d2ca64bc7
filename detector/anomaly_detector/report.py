"""The report contract: what a detector pod says of itself, and under which annotation keys.

The operator imports this module and nothing else of the detector, so it needs the standard library only.
A report is evidence about one process: `bootId` and `startedAt` say which one. Counters are sums over `window`
seconds that end at `time`; the histogram can be added to those of other pods, quantiles could not.
"""

import json
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from datetime import datetime
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

PREFIX = "anomalymodel.dev/"
DRIFT_CONFIDENCE = PREFIX + "drift-confidence"
ERROR_RATE = PREFIX + "error-rate"
REPORT = PREFIX + "report"
FIELD_MANAGER = "anomaly-detector"
SCHEMA_VERSION = 1
MAX_BYTES = 8192

Role = Literal["active", "candidate", "standby", "draining"]
Source = Literal["user", "shadow", "replay"]
SOURCES: tuple[Source, ...] = ("user", "shadow", "replay")

LATENCY_BOUNDS_MS: tuple[float, ...] = (
    0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.0, 6.0, 6.94, 7.634,
    9.0, 11.0, 14.0, 20.0, 28.0, 40.0, 70.0, 100.0, 200.0, 500.0, 1000.0, 5000.0,
)  # fmt: skip
"""Upper bounds (inclusive) of the latency buckets, milliseconds; one more bucket counts what lies above."""


class MalformedReportError(ValueError):
    """Say why an annotation is no report: which field, what was expected, what was there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Requests of one source within the window."""

    served: int = 0
    """Answered at all, whatever the answer, less client errors and shed requests."""
    failed: int = 0
    """Answered 5xx or timed out; part of `served`."""
    shed: int = 0
    """Refused with 503 because too many were in flight."""
    clientErrors: int = 0  # noqa: N815 - the contract is JSON
    """Answered 4xx."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureDrift:
    """Raw statistics and votes of one feature (or of the score, named `score`), newest check."""

    feature: str
    votes: int
    ks: float | None = None
    """Kolmogorov-Smirnov p-value, for the effective sample size."""
    wasserstein: float | None = None
    """Wasserstein distance in reference standard deviations."""
    anderson: float | None = None
    """Normalised Anderson-Darling statistic, k = 2."""
    jensenShannon: float | None = None  # noqa: N815
    """Jensen-Shannon distance, natural logarithm, ten reference-quantile bins."""
    welch: float | None = None
    """Absolute Welch t for the effective sample size."""
    thresholds: dict[str, float] | None = None
    """What each statistic is compared with; only where enough of them voted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What the drift detector says."""

    verdict: Literal["drift", "ok", "inconclusive"] = "inconclusive"
    confidence: float | None = None
    """Max over features of the smallest votes / 5 in the last consecutive checks; none while inconclusive."""
    calibrated: bool = False
    checks: int = 0
    """Checks made since the window began to fill in this role."""
    windowStart: str | None = None  # noqa: N815
    """When the oldest row of the newest window arrived, RFC 3339."""
    breachStart: str | None = None  # noqa: N815
    """When the oldest row of the first of the consecutive drifting windows arrived; none without drift."""
    features: tuple[FeatureDrift, ...] = ()
    """The worst ten, most votes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """How the other color answered copies of this pod's requests, as this pod compared them.

    Sums since the pod's role, or the other color's revision, last changed: not over the window.
    """

    sent: int = 0
    """The sum of the next three."""
    answered: int = 0
    """Answered 200."""
    failed: int = 0
    """Answered 5xx (but 503), answered 200 with what is no answer, or not answered within the time limit."""
    refused: int = 0
    """Answered otherwise: 4xx, for example 413 to a copy that is longer than the request was, or 503. As in `Counts`,
    that is no failure of the other model."""
    dropped: int = 0
    """No word about the other color: no room, an open circuit, nobody there, or an answer that could not be read."""
    rows: int = 0
    labelAgreement: float | None = None  # noqa: N815
    """Share of rows that both label alike."""
    meanScoreDifference: float | None = None  # noqa: N815
    """Mean of other minus own score."""
    meanOwnMilliseconds: float | None = None  # noqa: N815
    """Mean time in which this pod answered the requests whose answers were compared, measured within the server."""
    meanOtherMilliseconds: float | None = None  # noqa: N815
    """Mean time until the answers to their copies were here: with the way there and back."""
    ownAnomalies: int = 0  # noqa: N815
    otherAnomalies: int = 0  # noqa: N815
    """Anomalies that each track saw in the same rows."""
    otherRevision: str | None = None  # noqa: N815
    """The other color's revision, as its answers name it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that a detector pod says of itself."""

    schemaVersion: int = SCHEMA_VERSION  # noqa: N815
    seq: int
    time: str
    """When it was written, RFC 3339, the pod's clock."""
    bootId: str  # noqa: N815
    """Drawn anew by each process."""
    startedAt: str  # noqa: N815
    """When the process began, RFC 3339; comparable with the container's `state.running.startedAt` of the same node."""
    role: Role = "standby"
    roleSince: str | None = None  # noqa: N815
    epoch: int = 0
    """Of the newest role that the pod was told."""
    shadowPercent: float | None = None  # noqa: N815
    """Share of users' requests that the pod was told to copy to the other color, percent; none: not said."""
    passThrough: bool | None = None  # noqa: N815
    """Whether the pod was told to pass on what still arrives while it drains; none: not said."""
    window: float = 30.0
    """Seconds that the counters cover."""
    counts: dict[str, Counts] = field(default_factory=dict)
    """By source."""
    rows: dict[str, int] = field(default_factory=dict)
    """Rows scored, by source."""
    anomalies: dict[str, int] = field(default_factory=dict)
    """Rows labelled anomalous, by source."""
    latency: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """By source: requests with up to 16 rows per bucket of LATENCY_BOUNDS_MS, the last bucket above all bounds."""
    rssBytes: int = 0  # noqa: N815
    """Resident set of the container's process tree."""
    openUserConnections: int = 0  # noqa: N815
    lastOwnUserAnswer: str | None = None  # noqa: N815
    """When a user's request was last answered by this pod itself, well or 5xx, RFC 3339."""
    ownUserAnswers: int | None = None  # noqa: N815
    """Users' requests that this pod itself answered since its role began, counted as `served`; none: not said."""
    passedOn: int | None = None  # noqa: N815
    """Users' requests that the other color answered for this pod since its role began; none: not said."""
    drift: Drift = field(default_factory=Drift)
    shadow: Shadow = field(default_factory=Shadow)
    scikitLearn: str = ""  # noqa: N815
    """Version in the image: it says which models the image can read."""
    reference: bool = True
    """Whether the model came with a reference sample."""
    notes: tuple[str, ...] = ()
    """Short remarks for people: `NoReference`, `Fallback: ...`."""

    def to_json(self) -> str:
        """Return the annotation value, dropping the least drifted features until it fits into MAX_BYTES."""
        value = asdict(self)
        while len(text := json.dumps(value, separators=(",", ":"), default=list)) > MAX_BYTES:
            if not value["drift"]["features"]:
                raise ValueError(f"report: {len(text)} bytes without drift features, limit {MAX_BYTES}")
            value["drift"]["features"] = value["drift"]["features"][:-1]
        return text

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """Read an annotation value; unknown fields are ignored, so that newer detectors can be read.

        Raises MalformedReportError for anything else that is not as declared above.
        """
        if len(text) > MAX_BYTES:
            raise MalformedReportError(f"{REPORT}: {len(text)} bytes, expected at most {MAX_BYTES}")
        try:
            value = json.loads(text)
        except ValueError as error:
            raise MalformedReportError(f"{REPORT}: not JSON: {error}") from None
        if isinstance(value, dict) and value.get("schemaVersion") != SCHEMA_VERSION:
            raise MalformedReportError(
                f"{REPORT}.schemaVersion: expected {SCHEMA_VERSION}, got {value.get('schemaVersion')!r}"
            )
        report: Report = _parse(cls, value, REPORT)
        for name in ("time", "startedAt"):
            timestamp(getattr(report, name), f"{REPORT}.{name}")
        for source, buckets in report.latency.items():
            if len(buckets) != len(LATENCY_BOUNDS_MS) + 1:
                raise MalformedReportError(
                    f"{REPORT}.latency.{source}: expected {len(LATENCY_BOUNDS_MS) + 1} buckets, got {len(buckets)}"
                )
        return report


def timestamp(text: str, where: str) -> datetime:
    """Parse an RFC 3339 time with its zone; raises MalformedReportError naming `where`."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise MalformedReportError(f"{where}: expected an RFC 3339 time, got {text!r}") from None
    return at


def _parse(kind: Any, value: Any, where: str) -> Any:
    """Build `kind` from plain JSON, checking types on the way down."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return None if value is None else _parse(next(a for a in arguments if a is not type(None)), value, where)
    if origin is Literal:
        accepted, shown = value in arguments, f"one of {', '.join(arguments)}"
    elif is_dataclass(kind):
        if isinstance(value, dict):
            return _parse_fields(kind, value, where)
        accepted, shown = False, "an object"
    elif origin is dict:
        if isinstance(value, dict):
            return {k: _parse(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
        accepted, shown = False, "an object"
    elif origin is tuple:
        if isinstance(value, list):
            return tuple(_parse(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
        accepted, shown = False, "a list"
    elif kind is float:
        accepted = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")
        shown = "a finite number"
    elif kind is int:
        accepted, shown = (
            isinstance(value, int) and not isinstance(value, bool) and value >= 0,
            "a whole number, 0 or more",
        )
    else:
        accepted, shown = isinstance(value, kind), kind.__name__
    if not accepted:
        raise MalformedReportError(f"{where}: expected {shown}, got {json.dumps(value)[:80]}")
    return value


_hints = cache(get_type_hints)
"""Resolving them anew at each report would take longer than all the rest."""


def _parse_fields(kind: Any, value: dict[str, Any], where: str) -> Any:
    hints = _hints(kind)
    known = {f.name: _parse(hints[f.name], value[f.name], f"{where}.{f.name}") for f in fields(kind) if f.name in value}
    try:
        return kind(**known)
    except TypeError as error:
        raise MalformedReportError(f"{where}: {error}") from None

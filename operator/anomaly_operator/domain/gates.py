"""The gates: small predicates over what a track's pods said, each with its numbers.

A gate that is turned off, or that has nothing to be judged against, says nothing (None). `Inconclusive` is too little
evidence: it neither promotes nor fails by itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from anomaly_detector.report import Counts, Report, Source
from anomaly_operator.domain import evidence as counting
from anomaly_operator.domain import reasons
from anomaly_operator.domain.fields import IntOrPercent
from anomaly_operator.domain.model import Pod, ReplayResult
from anomaly_operator.domain.records import Evidence
from anomaly_operator.domain.spec_gates import AnomalyRateGate, ErrorRateGate, LatencyGate, MemoryGate
from anomaly_operator.domain.statistics import CONFIDENCE, lower_bound, pooled, quantile, tail

MIN_FAILED = 3
"""So few failures never are a breach: one broken client must not roll a model back."""
MIN_REQUESTS = 100
"""Requests of a track that an analysis needs to say that error rate and latency are well."""
MIN_LATENCIES = 20
"""Requests of which a 95th percentile can be told at all."""
RELATIVE_SLACK_MS = 1.0
P95 = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a gate says, and why."""

    result: Literal["Passed", "Failed", "Inconclusive"]
    reason: str
    """What it is called if it fails."""
    evidence: Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """What the pods of a track said, added up."""

    pods: int
    """Pods that said something."""
    served: int = 0
    failed: int = 0
    rows: int = 0
    anomalies: int = 0
    latency: tuple[int, ...] = ()
    rss_bytes: int | None = None
    """Of the highest pod."""
    replayed: bool = False


def pool(reports: Iterable[Report], sources: tuple[Source, ...]) -> Pooled:
    """Add up what reports say of some sources."""
    reports = tuple(reports)
    counts = [report.counts.get(source, Counts()) for report in reports for source in sources]
    return Pooled(
        pods=len(reports),
        served=sum(count.served for count in counts),
        failed=sum(count.failed for count in counts),
        rows=sum(report.rows.get(source, 0) for report in reports for source in sources),
        anomalies=sum(report.anomalies.get(source, 0) for report in reports for source in sources),
        latency=pooled(report.latency.get(source, ()) for report in reports for source in sources),
        rss_bytes=max((report.rssBytes for report in reports), default=None),
    )


def pool_replays(results: Iterable[ReplayResult]) -> Pooled:
    """Add up what came of replayed rows."""
    results = tuple(results)
    return Pooled(
        pods=len(results),
        served=sum(result.requests for result in results),
        failed=sum(result.failed for result in results),
        rows=sum(result.rows for result in results if not result.no_reference),
        anomalies=sum(result.anomalies for result in results if not result.no_reference),
        latency=pooled(result.latency for result in results),
        rss_bytes=max((r.rss_bytes for r in results if r.rss_bytes is not None), default=None),
        replayed=True,
    )


def error_rate(gate: ErrorRateGate, track: Pooled, enough: int = 0) -> Verdict | None:
    """Judge failed / served: over the limit beyond doubt, by the exact binomial bound.

    Failed is what the 99.9 % one-sided Clopper-Pearson lower bound puts over the limit: 3 of 3 is, 6 of 200 is not.
    """
    if not gate.enabled:
        return None
    failed, served = min(track.failed, track.served), track.served
    beyond_doubt = failed >= MIN_FAILED and tail(failed, served, gate.max) < 1.0 - CONFIDENCE
    text = f"{failed} of {served} requests failed, limit {gate.max:.2%}"
    if beyond_doubt:
        text += f" (with 99.9 % confidence at least {lower_bound(failed, served):.2%})"
    seen = Evidence(
        metric="errorRate",
        value=_rounded(failed / served) if served else None,
        limit=gate.max,
        samples=served,
        kind=_kind("absolute", track),
        text=text,
    )
    return _verdict(seen, reasons.ERROR_RATE, failed=beyond_doubt, enough=served >= enough)


def annotated_error_rate(gate: ErrorRateGate, quorum: IntOrPercent, pods: Iterable[Pod]) -> Verdict | None:
    """Judge error-rate annotations that others than the detectors set: they count as they stand, by quorum."""
    pods = tuple(pods)
    values = [value for pod in pods if (value := counting.foreign_error_rate(pod)) is not None and value > gate.max]
    if not gate.enabled or not values:
        return None
    needed = quorum.of(len(pods))
    seen = Evidence(
        metric="errorRate",
        value=max(values),
        limit=gate.max,
        samples=len(values),
        kind="annotation",
        text=f"{len(values)} of {len(pods)} pods annotated with an error rate of up to {max(values):g}, limit"
        f" {gate.max:g}, quorum {needed}",
    )
    return _verdict(seen, reasons.ERROR_RATE, failed=len(values) >= needed)


def latency(gate: LatencyGate, track: Pooled, enough: int = 0) -> Verdict | None:
    """Judge the 95th percentile against the limit with its tolerance."""
    return _latency(gate.limit_milliseconds, "absolute", track, enough) if gate.enabled else None


def relative_latency(gate: LatencyGate, track: Pooled, active: Pooled) -> Verdict | None:
    """Judge the 95th percentile against the active track's: over `relative` times it, and over 1 ms above it."""
    theirs = quantile(active.latency, P95)
    if not gate.enabled or gate.relative is None or theirs is None or sum(active.latency) < MIN_LATENCIES:
        return None
    return _latency(max(gate.relative * theirs, theirs + RELATIVE_SLACK_MS), "relative", track, 0)


def memory(gate: MemoryGate, track: Pooled) -> Verdict | None:
    """Judge the resident set of the highest pod."""
    if not gate.enabled or track.rss_bytes is None:
        return None
    highest = track.rss_bytes
    seen = Evidence(
        metric="memory",
        value=highest,
        limit=gate.max,
        samples=track.pods,
        kind=_kind("absolute", track),
        text=f"{highest / 1e6:.0f} MB resident in the highest of {track.pods} pods, limit {gate.max / 1e6:.0f} MB",
    )
    return _verdict(seen, reasons.MEMORY, failed=highest > gate.max)


def anomaly_rate(gate: AnomalyRateGate, target: float | None, track: Pooled, enough: int) -> Verdict | None:
    """Judge the share of anomalous rows against its target."""
    if not gate.enabled or target is None:
        return None
    return _anomaly_rate(gate, track.anomalies, track.rows, target, kind=_kind("absolute", track), enough=enough)


def anomaly_rate_difference(gate: AnomalyRateGate, active: Iterable[Report], revision: str) -> Verdict | None:
    """Judge the share of anomalous rows against what the active track says of the same rows.

    The active track's pods compare: they know their own labels and the answers to their copies.
    """
    if not gate.enabled:
        return None
    shadows = [r.shadow for r in active if r.shadow.otherRevision == revision]
    rows = sum(shadow.rows for shadow in shadows)
    own = sum(shadow.ownAnomalies for shadow in shadows) / rows if rows else 0.0
    theirs = sum(shadow.otherAnomalies for shadow in shadows)
    return _anomaly_rate(gate, theirs, rows, own, kind="differential", enough=gate.min_rows)


def failure(verdicts: Iterable[Verdict | None]) -> Verdict | None:
    """Return the first gate that failed."""
    return next((v for v in verdicts if v is not None and v.result == "Failed"), None)


def inconclusive(verdicts: Iterable[Verdict | None]) -> tuple[Verdict, ...]:
    """Return the gates with too little evidence."""
    return tuple(v for v in verdicts if v is not None and v.result == "Inconclusive")


def passed(verdicts: Iterable[Verdict | None]) -> tuple[Evidence, ...]:
    """Return the evidence of the gates that passed."""
    return tuple(v.evidence for v in verdicts if v is not None and v.result == "Passed")


def _latency(limit: float, kind: str, track: Pooled, enough: int) -> Verdict:
    samples, value = sum(track.latency), quantile(track.latency, P95)
    shown = "none measured" if value is None else f"{value:.2f} ms" if isfinite(value) else "over 5000 ms"
    seen = Evidence(
        metric="latencyP95",
        value=None if value is None or not isfinite(value) else _rounded(value),
        limit=_rounded(limit),
        samples=samples,
        kind=_kind(kind, track),
        text=f"95th percentile of the latency {shown} over {samples} requests, limit {limit:.2f} ms ({kind})",
    )
    over = value is not None and value > limit and samples >= MIN_LATENCIES
    return _verdict(seen, reasons.LATENCY, failed=over, enough=samples >= enough)


def _anomaly_rate(
    gate: AnomalyRateGate, anomalies: int, rows: int, target: float, *, kind: str, enough: int
) -> Verdict:
    share = anomalies / rows if rows else None
    of_what = "the active revision's on the same rows" if kind == "differential" else "the target"
    shown = "no rows" if share is None else f"{share:.1%} of {rows} rows anomalous"
    seen = Evidence(
        metric="anomalyRate",
        value=None if share is None else _rounded(share),
        limit=_rounded(target),
        samples=rows,
        kind=kind,
        text=f"{shown}, {of_what} is {target:.1%} +- {gate.tolerance:.1%}",
    )
    off = share is not None and abs(share - target) > gate.tolerance + 1e-9
    return _verdict(
        seen, reasons.ANOMALY_RATE, failed=off and rows >= enough, enough=rows >= enough and share is not None
    )


def _verdict(seen: Evidence, reason: str, *, failed: bool, enough: bool = True) -> Verdict:
    result: Literal["Passed", "Failed", "Inconclusive"] = "Failed" if failed else "Passed" if enough else "Inconclusive"
    return Verdict(result=result, reason=reason, evidence=seen)


def _kind(kind: str, track: Pooled) -> str:
    return "replay" if track.replayed else kind


def _rounded(value: float) -> float:
    return round(value, 6)

"""`status` as a whole, after a step: what is remembered, and what is shown."""

from dataclasses import replace
from math import isfinite

from anomaly_operator.domain import drift, gates, names
from anomaly_operator.domain.conditions import conditions
from anomaly_operator.domain.records import Status, TrackStatus
from anomaly_operator.domain.shown import LastReport
from anomaly_operator.domain.situation import Situation
from anomaly_operator.domain.statistics import quantile
from anomaly_operator.domain.step import Step

REPORT_EVERY = 300.0


def status(s: Situation, step: Step) -> Status:
    """Return the status to write after the step."""
    memory, active = s.memory, s.memory.active
    delay = s.spec.blue_green.scale_down_delay_seconds
    standby = memory.standby and replace(memory.standby, expires_at=memory.standby.since + delay)
    return replace(
        memory,
        observed_generation=s.observed.generation,
        phase=step.phase,
        step=step.name,
        message=step.message,
        conditions=conditions(s, step),
        active=_counted(s, active),
        candidate=_counted(s, memory.candidate),
        standby=_counted(s, standby),
        replicas=len(s.pods(active.color, active.revision)) if active else 0,
        selector=_selector(s, active),
        last_report=_last_report(s),
    )


def _counted(s: Situation, track: TrackStatus | None) -> TrackStatus | None:
    return track and replace(track, ready_replicas=len(s.ready(track.color, track.revision)))


def _selector(s: Situation, active: TrackStatus | None) -> str:
    color = active.color if active else names.NO_COLOR
    return ",".join(f"{key}={value}" for key, value in sorted(names.selector(s.observed.name, color).items()))


def _last_report(s: Situation) -> LastReport | None:
    """Return what the active pods say: a new one when the verdict changes, or the old one is five minutes old."""
    old, reports = s.memory.last_report, s.reports(s.active_pods(), "active")
    if not reports:
        return old
    now = _pooled(s, len(reports))
    if old is None or _verdict(s, old) != _verdict(s, now) or s.is_past(old.time + REPORT_EVERY):
        return now
    return old


def _pooled(s: Situation, pods: int) -> LastReport:
    reports = s.reports(s.active_pods(), "active")
    track, reading = gates.pool(reports, ("user",)), drift.of_active(s)
    p95 = quantile(track.latency, gates.P95)
    verdicts = {report.drift.verdict for report in reports}
    worst = next(v for v in ("drift", "ok", "inconclusive") if v in verdicts or v == "inconclusive")
    return LastReport(
        time=s.now,
        error_rate=round(track.failed / track.served, 4) if track.served else None,
        drift_confidence=reading.highest,
        drift_verdict=worst,
        anomaly_rate=round(track.anomalies / track.rows, 4) if track.rows else None,
        latency_p95_milliseconds=round(p95, 3) if p95 is not None and isfinite(p95) else None,
        requests=track.served,
        pods=pods,
    )


def _verdict(s: Situation, report: LastReport) -> tuple[str, bool]:
    limit = s.spec.blue_green.post_promotion_analysis.gates.error_rate.max
    return report.drift_verdict, (report.error_rate or 0.0) > limit

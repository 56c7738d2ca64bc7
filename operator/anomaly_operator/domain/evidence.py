"""Which annotations count. A detector's own value is evidence about one process, in one role, for a short while.

A value that somebody else holds counts as it stands. What does not count neither triggers nor blocks anything.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from anomaly_detector.report import Report, Role
from anomaly_operator.domain.model import Pod
from anomaly_operator.domain.times import parse_time

HEARTBEATS = 3
TOLD_SECONDS = 10.0
"""How long it may take until a pod has been told its role and has reported in it."""
_START_SLACK = 0.5
"""Seconds by which a process may say that it began before its container: clocks of node and kubelet tick apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a report must be to count."""

    now: float
    heartbeat: float
    role: Role
    """The role that the pod has by now: an older role's report says nothing of this one."""
    epoch: int
    """Of the newest order."""


def report_of(pod: Pod, rules: Rules) -> Report | None:
    """Return the pod's own report if it counts."""
    report = pod.report
    if report is None or pod.terminating or pod.report_foreign:
        return None
    facts = (
        is_of_the_running_container(pod, report),
        _is_fresh(pod, rules),
        report.role == rules.role,
        report.epoch >= rules.epoch,
    )
    return report if all(facts) else None


def reports_of(pods: Iterable[Pod], rules: Rules) -> tuple[Report, ...]:
    """Return the reports that count."""
    found = (report_of(pod, rules) for pod in pods)
    return tuple(report for report in found if report is not None)


def of_users(pods: Iterable[Pod], rules: Rules, since: float) -> tuple[Report, ...]:
    """Return the reports that tell of users' requests, who came at `since`.

    Those of pods that could not be told that they have users count, too: nothing gates a rollback.
    """
    found = (report_of(pod, rules) or _of_untold(pod, rules, since) for pod in pods)
    return tuple(report for report in found if report is not None)


def _of_untold(pod: Pod, rules: Rules, since: float) -> Report | None:
    report, received = pod.report, pod.report_received
    if report is None or received is None or pod.terminating or pod.report_foreign:
        return None
    facts = (
        is_of_the_running_container(pod, report),
        _is_fresh(pod, rules),
        report.role != rules.role,
        received >= since + TOLD_SECONDS,
    )
    return report if all(facts) else None


def foreign_error_rate(pod: Pod) -> float | None:
    """Return the error rate that somebody else than the detector says the pod has."""
    return pod.error_rate.value if pod.error_rate and pod.error_rate.foreign and not pod.terminating else None


def foreign_drift(pod: Pod) -> float | None:
    """Return the drift confidence that somebody else than the detector says the pod has: it comes without a report."""
    held = pod.drift_confidence
    return held.value if held and held.foreign and not pod.terminating else None


def is_of_the_running_container(pod: Pod, report: Report) -> bool:
    """Return whether the process that runs by now wrote a report."""
    began = parse_time(report.startedAt)
    return pod.started_at is not None and began is not None and began >= pod.started_at - _START_SLACK


def _is_fresh(pod: Pod, rules: Rules) -> bool:
    return pod.report_received is not None and rules.now - pod.report_received <= HEARTBEATS * rules.heartbeat

"""The first trial of a candidate: reference rows of its own model, sent to each pod of it by the pod's own address.

Pods that come later (full size, an autoscaler, a replacement) are tried beside the analysis; the switch waits for them.
"""

from collections.abc import Iterator
from dataclasses import replace

from anomaly_operator.domain import analysis, reasons
from anomaly_operator.domain.actions import Replay
from anomaly_operator.domain.gates import failure
from anomaly_operator.domain.model import Pod, ReplayResult
from anomaly_operator.domain.rollout import abort, progress
from anomaly_operator.domain.situation import Situation
from anomaly_operator.domain.step import Step

RETRY_SECONDS = 2.0


def smoke_test(s: Situation) -> Step | None:
    """Judge what the pods answered; before the analysis, wait until every pod has."""
    candidate, trial = s.memory.candidate, s.memory.trial
    if candidate is None or trial is None:
        return None
    failed = failure(analysis.smoke_verdicts(s, _answers(s)))
    if failed is not None:
        return abort(s, failed.reason, f"smoke test: {failed.evidence.text}", (failed.evidence,))
    if trial.smoke_tested_at is not None or (_pods(s) and not untested(s)):
        return None
    return replace(waiting(s, "SmokeTest", candidate.since), actions=tuple(_replay(s)))


def untested(s: Situation) -> tuple[Pod, ...]:
    """Return the candidate's ready pods that have not passed the smoke test."""
    return tuple(pod for pod in _pods(s) if _answer(s, pod) is None)


def of_newcomers(s: Situation) -> Iterator[Replay]:
    """Try the pods that have come since the others were tried."""
    if s.memory.trial is not None and s.memory.trial.smoke_tested_at is not None:
        yield from _replay(s)


def waiting(s: Situation, name: str, since: float) -> Step:
    """Wait for pods that have not answered yet; after the deadline say why they do not."""
    version = s.memory.candidate.version if s.memory.candidate else "?"
    step = progress(s, name, reasons.SMOKE_TESTING, f"smoke-testing version {version}")
    known = (s.observed.smoke_tests.get(pod.uid) for pod in _pods(s))
    errors = sorted({result.error for result in known if result is not None and result.error})
    if not errors or not s.is_past(since + s.spec.progress_deadline_seconds):
        return step
    words = f"version {version} cannot be smoke-tested: {errors[0]}"
    return replace(step, stalled=True, phase="Degraded", reason=reasons.CANDIDATE_NOT_READY, message=words)


def _replay(s: Situation) -> Iterator[Replay]:
    spec = s.spec.blue_green.pre_promotion_analysis.smoke_test
    pods = tuple((pod.name, pod.uid, pod.ip) for pod in untested(s) if _is_due(s, pod))
    if pods:
        yield Replay(purpose="smoke", pods=pods, reference=None, rows=spec.rows, timeout=spec.timeout)


def _pods(s: Situation) -> tuple[Pod, ...]:
    candidate = s.memory.candidate
    return s.ready(candidate.color, candidate.revision) if candidate is not None else ()


def _answers(s: Situation) -> list[ReplayResult]:
    return [answer for pod in _pods(s) if (answer := _answer(s, pod)) is not None]


def _answer(s: Situation, pod: Pod) -> ReplayResult | None:
    result = s.observed.smoke_tests.get(pod.uid)
    return result if result is not None and result.done and result.error is None else None


def _is_due(s: Situation, pod: Pod) -> bool:
    result = s.observed.smoke_tests.get(pod.uid)
    if result is None:
        return bool(pod.ip)
    return result.done and s.is_past(result.at + RETRY_SECONDS)

"""What the gates say of a candidate: in the smoke test, and in the analysis on shadow traffic."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from anomaly_operator.domain import drift, gates, reasons
from anomaly_operator.domain.actions import Action, Replay
from anomaly_operator.domain.gates import Verdict
from anomaly_operator.domain.model import Pod, ReplayResult
from anomaly_operator.domain.records import Evidence, TrackStatus
from anomaly_operator.domain.situation import Situation
from anomaly_operator.domain.spec_gates import Gates
from anomaly_operator.domain.times import whole_seconds

NONE_READY_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How the analysis stands, while nothing failed."""

    passed: bool = False
    paused: bool = False
    reason: str = reasons.ANALYSING
    message: str = ""
    evidence: tuple[Evidence, ...] = ()
    actions: tuple[Action, ...] = ()
    trouble: str | None = None
    """What keeps it from coming to an end, if that lasts."""


def smoke_verdicts(s: Situation, results: Sequence[ReplayResult]) -> tuple[Verdict | None, ...]:
    """Judge what came of the reference rows: error rate, latency, anomaly rate, memory, all absolute."""
    limits, candidate = _limits(s), s.memory.candidate
    if not results or candidate is None:
        return ()
    track = gates.pool_replays(results)
    logged = next((result.contamination for result in results if result.contamination is not None), None)
    return (
        gates.error_rate(limits.error_rate, track),
        gates.latency(limits.latency, track),
        gates.memory(limits.memory, track),
        gates.anomaly_rate(limits.anomaly_rate, _target(s, candidate, logged), track, enough=1),
    )


def smoke_evidence(s: Situation) -> tuple[Evidence, ...]:
    """Return what the candidate passed the smoke test with."""
    done = [r for r in s.observed.smoke_tests.values() if r.done and r.error is None]
    return gates.passed(smoke_verdicts(s, done))


def evidence_so_far(s: Situation) -> tuple[Evidence, ...]:
    """Return what speaks for the candidate now, for somebody who does not wait for the end."""
    return (*smoke_evidence(s), *gates.passed(_verdicts(s)))


def failed(s: Situation) -> Verdict | None:
    """Return the gate that the candidate fails now."""
    return gates.failure((*_verdicts(s), *_replayed(s), _unavailable(s)))


def judge(s: Situation) -> Judgement:
    """Say how the analysis stands: at its end passed, or too little was seen to tell."""
    candidate, trial, spec = s.memory.candidate, s.memory.trial, s.spec.blue_green.pre_promotion_analysis
    if candidate is None or trial is None or trial.analysis_started_at is None:
        return Judgement()
    ends = trial.analysis_started_at + spec.duration
    s.is_past(min(s.now + spec.interval, ends))
    if not s.is_past(ends):
        words = f"judging version {candidate.version} on shadow traffic until {whole_seconds(ends)}"
        return Judgement(message=words)
    pods = s.pods(candidate.color, candidate.revision)
    if not pods or not all(pod.ready for pod in pods):
        words = f"version {candidate.version} passes only with every pod ready"
        troubles = sorted({pod.trouble for pod in pods if pod.trouble})
        why = troubles[0] if troubles else f"{sum(pod.ready for pod in pods)} of {len(pods)} pods are ready"
        return Judgement(reason=reasons.WAITING_FOR_CAPACITY, message=words, trouble=why)
    verdicts = tuple(_verdicts(s))
    unsure = gates.inconclusive(verdicts)
    if not unsure:
        return Judgement(passed=True, evidence=gates.passed(verdicts))
    return _inconclusive(s, candidate, verdicts, unsure)


def _inconclusive(
    s: Situation, candidate: TrackStatus, verdicts: tuple[Verdict | None, ...], unsure: tuple[Verdict, ...]
) -> Judgement:
    if _limits(s).on_inconclusive == "Pause":
        thin = ", ".join(sorted({verdict.evidence.metric for verdict in unsure}))
        words = (
            f"too little traffic to judge {thin} of version {candidate.version};"
            f" `kubectl anomaly promote {s.observed.name}` overrules"
        )
        return Judgement(paused=True, reason=reasons.INCONCLUSIVE, message=words)
    replayed = tuple(_replayed(s))
    if replayed:
        return Judgement(passed=True, evidence=(*gates.passed(verdicts), *gates.passed(replayed)))
    waiting = tuple(pod for pod in _both_tracks(s) if _needs_replay(s, pod))
    words = f"too little traffic to judge version {candidate.version}: replaying reference rows at both tracks"
    known = (s.observed.replays.get(pod.uid) for pod in s.ready(candidate.color, candidate.revision))
    errors = sorted({result.error for result in known if result is not None and result.error})
    return Judgement(
        reason=reasons.INCONCLUSIVE, message=words, actions=_replay(s, waiting), trouble=errors[0] if errors else None
    )


def _replay(s: Situation, pods: tuple[Pod, ...]) -> tuple[Action, ...]:
    candidate = s.memory.candidate
    if not pods or candidate is None:
        return ()
    spec = s.spec.blue_green.pre_promotion_analysis.smoke_test
    source = s.ready(candidate.color, candidate.revision)[0]
    return (
        Replay(
            purpose="analysis",
            pods=tuple((pod.name, pod.uid, pod.ip) for pod in pods),
            reference=(source.name, source.uid, source.ip),
            rows=spec.rows,
            timeout=spec.timeout,
        ),
    )


def _verdicts(s: Situation) -> Iterator[Verdict | None]:
    """Judge the candidate's reports on shadow traffic, and annotations that others set."""
    limits, candidate = _limits(s), s.memory.candidate
    if candidate is None:
        return
    pods = s.pods(candidate.color, candidate.revision)
    track = gates.pool(s.reports(pods, "candidate"), ("shadow",))
    theirs = s.reports(s.active_pods(), "active")
    active = gates.pool(theirs, ("user",))
    yield gates.annotated_error_rate(limits.error_rate, limits.quorum.error_rate, pods)
    yield gates.error_rate(limits.error_rate, track, gates.MIN_REQUESTS)
    yield gates.latency(limits.latency, track, gates.MIN_REQUESTS)
    yield gates.relative_latency(limits.latency, track, active)
    yield gates.memory(limits.memory, track)
    if s.memory.drift is None:
        yield gates.anomaly_rate_difference(limits.anomaly_rate, theirs, candidate.revision)
    else:  # the active revision sees drift, so it is no yardstick for what is anomalous
        target = _target(s, candidate, None)
        yield gates.anomaly_rate(limits.anomaly_rate, target, track, limits.anomaly_rate.min_rows)
    yield _drift(s, limits, pods)


def _replayed(s: Situation) -> Iterator[Verdict | None]:
    """Judge replayed reference rows, once every candidate pod has answered them.

    Active pods are the yardstick only: those that are not ready, or could not be replayed at, hold nothing up.
    """
    candidate = s.memory.candidate
    if candidate is None or not s.observed.replays:
        return
    ours = _results(s, s.pods(candidate.color, candidate.revision))
    theirs = [s.observed.replays.get(pod.uid) for pod in s.active_pods() if pod.ready]
    if ours is None or not all(result is not None and result.done for result in theirs):
        return
    active = [result for result in theirs if result is not None and result.error is None]
    limits, track = _limits(s), gates.pool_replays(ours)
    yield gates.error_rate(limits.error_rate, track)
    yield gates.latency(limits.latency, track)
    yield gates.relative_latency(limits.latency, track, gates.pool_replays(active))
    yield gates.memory(limits.memory, track)


def _drift(s: Situation, limits: Gates, pods: tuple[Pod, ...]) -> Verdict | None:
    """Judge the candidate's drift: by itself in Absolute mode, else only if the active revision is well."""
    reading = drift.read(limits, pods, s.rules("candidate"))
    if not limits.drift.enabled or not pods or not reading.is_breach:
        return None
    active = drift.of_active(s)
    excused = limits.drift.mode == "Differential" and not reading.is_breach_without_reports
    if excused and (active.is_breach or active.well < active.needed):
        return None
    seen = Evidence(
        metric="drift",
        value=reading.highest,
        limit=limits.drift.max_confidence,
        samples=reading.over,
        kind="differential" if excused else "absolute",
        text=f"{reading.over} of {reading.pods} candidate pods with a verdict report a drift confidence of up to"
        f" {reading.highest},"
        f" limit {limits.drift.max_confidence:g}" + ("; the active revision is well" if excused else ""),
    )
    return Verdict(result="Failed", reason=reasons.DRIFT, evidence=seen)


def _unavailable(s: Situation) -> Verdict | None:
    candidate = s.memory.candidate
    since = s.track(candidate.color).none_ready_since if candidate else None
    if candidate is None or since is None or s.ready(candidate.color, candidate.revision):
        return None
    if not s.is_past(since + NONE_READY_SECONDS):
        return None
    words = f"no candidate pod has been ready for {NONE_READY_SECONDS:g} s"
    seen = Evidence(metric="availability", value=0, limit=1, kind="absolute", text=words)
    return Verdict(result="Failed", reason=reasons.UNAVAILABLE, evidence=seen)


def _target(s: Situation, candidate: TrackStatus, logged: float | None) -> float | None:
    """Return the share of anomalies that is expected: as the gate says, else as logged with the version."""
    known = s.observed.revisions.get(candidate.revision)
    said = _limits(s).anomaly_rate.target
    if said is not None:
        return said
    return known.contamination if known is not None and known.contamination is not None else logged


def _both_tracks(s: Situation) -> tuple[Pod, ...]:
    candidate = s.memory.candidate
    return (*(s.ready(candidate.color, candidate.revision) if candidate else ()), *s.active_pods())


def _needs_replay(s: Situation, pod: Pod) -> bool:
    result = s.observed.replays.get(pod.uid)
    if result is None:
        return bool(pod.ip) and pod.ready
    interval = s.spec.blue_green.pre_promotion_analysis.interval
    return result.done and result.error is not None and s.is_past(result.at + interval)


def _results(s: Situation, pods: Sequence[Pod]) -> list[ReplayResult] | None:
    """Return what came of a replay, None until all of these pods have answered."""
    ready = [pod for pod in pods if pod.ready]
    found = [s.observed.replays.get(pod.uid) for pod in ready]
    done = [result for result in found if result is not None and result.done and result.error is None]
    return done if ready and len(done) == len(ready) else None


def _limits(s: Situation) -> Gates:
    return s.spec.blue_green.pre_promotion_analysis.gates

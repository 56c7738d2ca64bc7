"""The guard: is the active revision in breach? It looks for as long as the revision lives, and needs nothing else.

Neither spec nor registry, a pause or a running analysis is asked here: only the Service, its pods and the decision.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from anomaly_operator.domain import drift, evidence, gates, reasons
from anomaly_operator.domain.gates import Verdict
from anomaly_operator.domain.records import Evidence
from anomaly_operator.domain.situation import Situation

NONE_READY_SECONDS = 3.0
HALF_UNREADY_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """What is wrong with the active revision."""

    reason: str
    message: str
    evidence: tuple[Evidence, ...]
    passing: bool = False
    """Whether it is a fact of this moment only (availability), not to be remembered when it is over."""


def breach(s: Situation) -> Breach | None:
    """Return the first reason to roll back, most urgent first."""
    if s.active is None:
        return None
    return next(_breaches(s), None)


def warnings(s: Situation) -> tuple[Verdict, ...]:
    """Return the gates that the active revision is over and that do not roll back: an Event each."""
    over = (v for v in (*_latency_and_memory(s), _anomaly_rate(s)) if v is not None and v.result == "Failed")
    return tuple(over)


def _breaches(s: Situation) -> Iterator[Breach]:
    limits, pods = s.spec.blue_green.post_promotion_analysis.gates, s.active_pods()
    yield from _failed(gates.annotated_error_rate(limits.error_rate, limits.quorum.error_rate, pods))
    users = evidence.of_users(pods, s.rules("active"), s.switched_at)
    yield from _failed(gates.error_rate(limits.error_rate, gates.pool(users, ("user",))))
    yield from _unavailable(s)
    found = drift.verdict_to_roll_back(s)
    if found is not None:
        yield Breach(reason=reasons.DRIFT, message=found.text or "", evidence=(found,))
    listed = s.spec.blue_green.post_promotion_analysis.listed_gates
    for name, verdict in zip(("latency", "memory"), _latency_and_memory(s), strict=True):
        if name in listed:
            s.is_past(s.now + s.desired.settings.heartbeat_seconds)  # no report is queued for such a number
            yield from _failed(verdict)


def _latency_and_memory(s: Situation) -> tuple[Verdict | None, Verdict | None]:
    limits = s.spec.blue_green.post_promotion_analysis.gates
    track = gates.pool(s.reports(s.active_pods(), "active"), ("user",))
    return gates.latency(limits.latency, track), gates.memory(limits.memory, track)


def _anomaly_rate(s: Situation) -> Verdict | None:
    limits = s.spec.blue_green.post_promotion_analysis.gates.anomaly_rate
    known = s.observed.revisions.get(s.active.revision) if s.active else None
    target = limits.target if limits.target is not None else known.contamination if known else None
    track = gates.pool(s.reports(s.active_pods(), "active"), ("user",))
    return gates.anomaly_rate(limits, target, track, limits.min_rows)


def _failed(verdict: Verdict | None) -> Iterator[Breach]:
    if verdict is not None and verdict.result == "Failed":
        yield Breach(reason=verdict.reason, message=verdict.evidence.text or "", evidence=(verdict.evidence,))


def _unavailable(s: Situation) -> Iterator[Breach]:
    if s.active is None:
        return
    track = s.track(s.active.color)
    size = track.deployment.replicas if track.deployment else s.full_size
    ready, pods = len(s.ready(s.active.color, s.active.revision)), len(s.active_pods())
    if not ready and track.none_ready_since is not None and s.is_past(track.none_ready_since + NONE_READY_SECONDS):
        yield _availability(ready, size, f"no pod of {pods} has been ready for {NONE_READY_SECONDS:g} s")
    elif (
        2 * ready < size
        and _standby_has_more(s, ready)
        and track.half_unready_since is not None
        and s.is_past(track.half_unready_since + HALF_UNREADY_SECONDS)
    ):
        words = f"{ready} of {size} pods have been ready for {HALF_UNREADY_SECONDS:g} s while the standby has more"
        yield _availability(ready, size, words)


def _standby_has_more(s: Situation, ready: int) -> bool:
    good = s.last_good
    return good is not None and len(s.ready(s.idle_color, good.name)) > ready


def _availability(ready: int, size: int, words: str) -> Breach:
    seen = Evidence(metric="availability", value=ready, limit=size, samples=size, kind="absolute", text=words)
    return Breach(reason=reasons.UNAVAILABLE, message=words, evidence=(seen,), passing=True)

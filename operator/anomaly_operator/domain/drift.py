"""Drift of the active revision, and whether going back would cure it.

Input drift is not cured by going back; a worse model is. So in `Differential` mode the last good revision looks at the
same traffic, as control: if all is well with it, the active one is to blame. An episode (`status.drift`) begins with
the breach and remembers what was found out, so that nothing flaps.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import ceil

from anomaly_detector.report import Report
from anomaly_operator.domain import drift_event, evidence, history
from anomaly_operator.domain.model import Pod
from anomaly_operator.domain.records import DriftedFeature, DriftEpisode, Evidence, Status
from anomaly_operator.domain.situation import Situation, placed
from anomaly_operator.domain.spec_gates import DriftGate, Gates
from anomaly_operator.domain.times import parse_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the pods of a track say about drift, together."""

    pods: int
    """Pods with a verdict: their own, or a scalar that somebody else set."""
    needed: int
    """How many of these must be over the limit: a pod that no user reached says nothing for either side."""
    over: int
    """Pods over the limit."""
    over_by_hand: int
    """Those of them whose scalar comes without a report."""
    highest: float | None
    since: float | None
    """When the oldest row of their breaching windows arrived, by the pods' clocks."""
    well: int
    """Pods whose report says that all is well."""
    features: tuple[DriftedFeature, ...]
    """What those over the limit saw it in."""

    @property
    def is_breach(self) -> bool:
        """Return whether enough pods are over the limit."""
        return self.over >= self.needed

    @property
    def is_breach_without_reports(self) -> bool:
        """Return whether enough are by scalars alone: then there is nothing to compare."""
        return self.over_by_hand >= self.needed


def read(limits: Gates, pods: Iterable[Pod], rules: evidence.Rules) -> Reading:
    """Read what the pods of a track say."""
    pods, highest = tuple(pods), None
    drifting: list[Report] = []
    over = over_by_hand = well = 0
    for pod in pods:
        report, by_hand = evidence.report_of(pod, rules), evidence.foreign_drift(pod)
        value = by_hand if by_hand is not None else report.drift.confidence if report else None
        if value is None:
            continue
        highest = value if highest is None else max(highest, value)
        if value > limits.drift.max_confidence:
            over += 1
            over_by_hand += by_hand is not None
            if report:
                drifting.append(report)
        else:
            well += 1
    starts = (parse_time(report.drift.breachStart) for report in drifting)
    return Reading(
        pods=over + well,
        needed=limits.quorum.drift.of(over + well),
        over=over,
        over_by_hand=over_by_hand,
        highest=highest,
        since=min((start for start in starts if start is not None), default=None),
        well=well,
        features=drift_event.worst_features(drifting, limits.drift.max_confidence),
    )


def of_active(s: Situation) -> Reading:
    """Read what the active revision's pods say."""
    return read(_limits(s), s.active_pods(), s.rules("active"))


def review(s: Situation) -> Status:
    """Return the memory with the drift episode as it is now: begun, decided, cleared or dropped."""
    memory, gate = s.memory, _limits(s).drift
    if s.active is None or not gate.enabled:
        return replace(memory, drift=None)
    reading, episode = of_active(s), memory.drift
    if episode is not None and episode.revision != s.active.revision:
        episode = None
    if not reading.is_breach:
        return replace(memory, drift=_quiet(s, episode, reading, gate))
    episode = _judged(s, episode or _begun(s, reading), gate)
    return _making_room(s, replace(memory, drift=replace(episode, cleared_since=None)))


def verdict_to_roll_back(s: Situation) -> Evidence | None:
    """Return why drift means to go back, None while it does not (yet)."""
    gate, reading = _limits(s).drift, of_active(s)
    if s.active is None or not gate.enabled or not reading.is_breach:
        return None
    worst = drift_event.in_words(s.memory.drift.features) if s.memory.drift else ""
    if gate.mode == "Absolute" or reading.is_breach_without_reports:
        return _evidence(reading, gate, "absolute" if gate.mode == "Absolute" else "annotation", worst)
    why = _why_control_says_so(s, gate)
    return _evidence(reading, gate, "differential", f"{worst}; {why}") if why is not None else None


def _why_control_says_so(s: Situation, gate: DriftGate) -> str | None:
    """Return why the comparison with the control speaks for going back, None while it does not (yet)."""
    episode = s.memory.drift
    if episode is None or episode.verdict != "Pending":
        return None
    control = _control(s, episode, gate)
    if control is not None:
        words = f"the control, revision {episode.control}, is well on the same traffic ({control.text})"
        return words if control.is_well else None
    if _time_is_up(s, episode, gate):
        return f"the control, revision {episode.control}, gave no verdict within {gate.control_timeout:g} s"
    return None


def needs_control(status: Status) -> bool:
    """Return whether the idle color is needed as yardstick."""
    return status.drift is not None and status.drift.verdict == "Pending"


def _making_room(s: Situation, memory: Status) -> Status:
    """Give the idle color to the control while it is needed; a candidate that stands there has to wait."""
    if not needs_control(memory) or memory.drift is None:
        return memory
    control = s.observed.revisions.get(memory.drift.control or "")
    if control is None:
        return memory
    standby = memory.standby
    if standby is None or standby.revision != control.name:
        standby = history.track_at(placed(s.idle_color, control), s.now)
    return replace(memory, candidate=None, trial=None, standby=standby)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ControlVerdict:
    is_well: bool
    text: str


def _begun(s: Situation, reading: Reading) -> DriftEpisode:
    episode = DriftEpisode(
        revision=s.active.revision if s.active else "",
        since=s.now,
        window_start=reading.since,
        evidence=(_evidence(reading, _limits(s).drift, "absolute", drift_event.in_words(reading.features)),),
        features=reading.features,
    )
    if s.stepped_back_recently:
        return replace(episode, verdict="NoStepBack")
    if s.last_good is None:
        return replace(episode, verdict="NoControl")
    return replace(episode, control=s.last_good.name)


def _judged(s: Situation, episode: DriftEpisode, gate: DriftGate) -> DriftEpisode:
    """Return the episode with what the control says."""
    if episode.verdict != "Pending" or episode.control is None:
        return episode
    if episode.control not in s.observed.revisions or s.is_quarantined(episode.control):
        return replace(episode, verdict="NoControl")
    if episode.control_since is None and s.ready(s.idle_color, episode.control):
        episode = replace(episode, control_since=s.now)
    if episode.control_since is not None:
        s.is_past(_timeout(episode, gate))
    elif s.is_past(episode.since + s.spec.progress_deadline_seconds):
        return replace(episode, verdict="NoControl")  # it never got ready: there is no yardstick
    control = _control(s, episode, gate)
    return replace(episode, verdict="Drifted") if control is not None and not control.is_well else episode


def _quiet(s: Situation, episode: DriftEpisode | None, reading: Reading, gate: DriftGate) -> DriftEpisode | None:
    """Return the episode while the active track is not in breach: it ends after a while of good news, not of none."""
    if episode is None:
        return None
    if reading.well < reading.needed or not reading.pods:
        return None if episode.verdict == "Pending" and _is_given_up(s, episode, gate) else episode
    if episode.verdict == "Pending":
        return None
    if episode.cleared_since is None:
        s.is_past(s.now + gate.control_timeout)
        return replace(episode, cleared_since=s.now)
    return None if s.is_past(episode.cleared_since + gate.control_timeout) else episode


def _is_given_up(s: Situation, episode: DriftEpisode, gate: DriftGate) -> bool:
    """Return whether nothing has been heard for so long that no candidate shall wait for a verdict any more."""
    if episode.control_since is not None:
        return s.is_past(_timeout(episode, gate))
    return s.is_past(episode.since + s.spec.progress_deadline_seconds)


def _control(s: Situation, episode: DriftEpisode, gate: DriftGate) -> _ControlVerdict | None:
    """Return the control's verdict, once at least half of its pods judged rows after the breaching window began.

    Copies of one user's requests may all reach one pod: when the time is up, whoever has judged decides.
    """
    if episode.control is None:
        return None
    pods = s.pods(s.idle_color, episode.control)
    judged = [r for r in s.reports(pods, "standby") if _judged_later(r, episode)]
    if not judged or (len(judged) < ceil(len(pods) / 2) and not _time_is_up(s, episode, gate)):
        return None
    limits = _limits(s)
    over = sum((r.drift.confidence or 0.0) > limits.drift.max_confidence for r in judged)
    well = over < limits.quorum.drift.of(len(judged))
    return _ControlVerdict(is_well=well, text=f"{over} of {len(judged)} pods see drift")


def _judged_later(report: Report, episode: DriftEpisode) -> bool:
    start = parse_time(report.drift.windowStart)
    known = report.drift.verdict != "inconclusive" and report.drift.confidence is not None
    return known and start is not None and start >= (episode.window_start or episode.since)


def _time_is_up(s: Situation, episode: DriftEpisode, gate: DriftGate) -> bool:
    return episode.control_since is not None and s.is_past(_timeout(episode, gate))


def _timeout(episode: DriftEpisode, gate: DriftGate) -> float:
    return (episode.control_since or episode.since) + gate.control_timeout


def _limits(s: Situation) -> Gates:
    return s.spec.blue_green.post_promotion_analysis.gates


def _evidence(reading: Reading, gate: DriftGate, kind: str, more: str) -> Evidence:
    shown = "" if reading.highest is None else f" of up to {reading.highest:g}"
    return Evidence(
        metric="drift",
        value=reading.highest,
        limit=gate.max_confidence,
        samples=reading.over,
        kind=kind,
        text=f"{reading.over} of {reading.pods} pods with a verdict report a drift confidence{shown}, limit"
        f" {gate.max_confidence:g}, quorum {reading.needed}{more}",
    )

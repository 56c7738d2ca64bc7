"""The facts that stages ask for, named as one would say them. Derived from the observed world, never stored."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from anomaly_detector.report import Report, Role
from anomaly_operator.domain import evidence, history, names, revisions
from anomaly_operator.domain.evidence import Rules
from anomaly_operator.domain.model import Desired, Observed, Pod, Revision, Track
from anomaly_operator.domain.records import COLORS, Color, Decision, Placed, Status, other
from anomaly_operator.domain.revisions import Obstacle
from anomaly_operator.domain.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Situation:
    """One AnomalyModel at one moment, and what is remembered of it so far in this plan."""

    observed: Observed
    desired: Desired
    now: float
    memory: Status
    alarms: list[float] = field(default_factory=list)
    """When some fact may change by time alone; the plan looks again at the earliest."""

    def remembering(self, memory: Status) -> "Situation":
        """Return the situation with another memory, and the same alarms."""
        return replace(self, memory=memory)

    def is_past(self, at: float) -> bool:
        """Return whether a time has come; if not, look again then."""
        if self.now >= at:
            return True
        self.alarms.append(at)
        return False

    @property
    def spec(self) -> Spec:
        """Return the spec in force."""
        return self.desired.spec

    @cached_property
    def decision(self) -> Decision | None:
        """Return the decision on the users' Service, if the Service is ours."""
        return self.observed.service.decision if self.observed.service and self.owns("Service", "") else None

    @cached_property
    def active(self) -> Placed | None:
        """Return who serves users: by the decision; only without one by status; without both by the selector."""
        if self.decision is not None:
            return self.decision.to
        if self.memory.active is not None:
            return history.place_of(self.memory.active)
        return self._selected()

    @cached_property
    def wanted(self) -> Revision | Obstacle:
        """Return the revision that spec and registry want, or why there is none."""
        return revisions.wanted(self.observed, self.desired)

    @cached_property
    def idle_color(self) -> Color:
        """Return the color that does not serve users: where a candidate, a standby or a control stands."""
        return other(self.active.color) if self.active else "blue"

    @property
    def epoch(self) -> int:
        """Return the epoch of the newest decision."""
        return max(self.decision.epoch if self.decision else 0, self.memory.decision_epoch)

    @property
    def switched_at(self) -> float:
        """Return when users came to the active revision."""
        if self.decision is not None:
            return self.decision.time
        return self.memory.active.since if self.memory.active else self.now

    def next_epoch(self) -> int:
        """Return an epoch for a new decision: it grows even if all records of earlier ones were lost."""
        return max(self.epoch + 1, int(self.now))

    def track(self, color: Color) -> Track:
        """Return a color's track, empty if nothing stands there."""
        return self.observed.tracks.get(color) or Track(color=color)

    def pods(self, color: Color, revision: str) -> tuple[Pod, ...]:
        """Return the pods of a revision on a color that are not on their way out."""
        return tuple(p for p in self.track(color).pods if p.revision == revision and not p.terminating)

    def ready(self, color: Color, revision: str) -> tuple[Pod, ...]:
        """Return those of them that are ready."""
        return tuple(pod for pod in self.pods(color, revision) if pod.ready)

    def active_pods(self) -> tuple[Pod, ...]:
        """Return the active revision's pods."""
        return self.pods(self.active.color, self.active.revision) if self.active else ()

    def revision(self, name: str) -> Revision | None:
        """Return a revision as recorded, or as it is about to be."""
        if name in self.observed.revisions:
            return self.observed.revisions[name]
        return self.wanted if isinstance(self.wanted, Revision) and self.wanted.name == name else None

    def is_quarantined(self, revision: str) -> bool:
        """Return whether a revision must not get users."""
        return any(entry.revision == revision for entry in self.memory.quarantine)

    @cached_property
    def last_good(self) -> Revision | None:
        """Return the revision to go back to: it served users before the active one and is not quarantined."""
        return next(self._earlier_good(), None)

    @cached_property
    def full_size(self) -> int:
        """Return how many pods the active track shall have: the live size if something scales it."""
        spec = self.spec
        if spec.autoscaling is None:
            return spec.detector.replicas
        deployment = self.track(self.active.color).deployment if self.active else None
        live = deployment.replicas if deployment and deployment.replicas > 0 else spec.detector.replicas
        return min(max(live, spec.autoscaling.min_replicas), spec.autoscaling.max_replicas)

    @property
    def paused(self) -> bool:
        """Return whether nothing new may be begun or promoted."""
        return self.spec.paused or self.memory.paused is not None

    def rules(self, role: Role) -> Rules:
        """Return what a report of a pod in this role must be to count."""
        return Rules(now=self.now, heartbeat=self.desired.settings.heartbeat_seconds, role=role, epoch=self.epoch)

    def reports(self, pods: Iterable[Pod], role: Role) -> tuple[Report, ...]:
        """Return the reports that count of pods in this role."""
        return evidence.reports_of(pods, self.rules(role))

    def owns(self, kind: str, suffix: str) -> bool:
        """Return whether a child is this AnomalyModel's, or does not exist."""
        child = self.observed.children.get((kind, self.observed.name + suffix))
        return child is None or child.owner_uid == self.observed.uid

    @cached_property
    def stepped_back_recently(self) -> bool:
        """Return whether the active revision is where a rollback led to, not long ago: no second step by itself."""
        at = self._rolled_back_at()
        return at is not None and not self.is_past(at + self.spec.blue_green.scale_down_delay_seconds)

    def _rolled_back_at(self) -> float | None:
        """Return when a rollback led to the active revision, None if something else did.

        The decision itself says so; history is shorter, and rejected candidates may fill it.
        """
        if self.decision is not None and self.decision.outcome in ("RolledBack", "Promoted"):
            return self.decision.time if self.decision.outcome == "RolledBack" else None
        newest = next((e for e in self.memory.history if e.epoch and e.outcome in ("RolledBack", "Promoted")), None)
        return newest.ended_at if newest is not None and newest.outcome == "RolledBack" else None

    def _earlier_good(self) -> Iterator[Revision]:
        served = [self.memory.standby.revision] if self.memory.standby else []
        if self.decision is not None and self.decision.source is not None:
            served.append(self.decision.source.revision)
        served += [entry.active or entry.revision for entry in self.memory.history if entry.epoch]
        active = self.active.revision if self.active else None
        for name in served:
            known = self.observed.revisions.get(name)
            if known is not None and name != active and not self.is_quarantined(name):
                yield known

    def _selected(self) -> Placed | None:
        """Return what the Service selects, if neither decision nor status is left to say who is active."""
        if self.observed.service is None or not self.owns("Service", ""):
            return None
        for color in COLORS:
            deployment = self.track(color).deployment
            selects = self.observed.service.selector == names.selector(self.observed.name, color)
            if selects and deployment is not None:
                known = self.observed.revisions.get(deployment.revision)
                return placed(color, known) if known else Placed(color=color, revision=deployment.revision)
        return None


def placed(color: Color, revision: Revision) -> Placed:
    """Return a revision on a color."""
    return Placed(
        color=color,
        revision=revision.name,
        version=revision.version,
        digest=revision.digest,
        run_id=revision.run_id,
    )

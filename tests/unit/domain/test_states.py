"""Random lives of a model: after every step, all invariants of the rollout hold on the simulated world."""

import json
from typing import Any

from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.domain.world import NAME, SPEC, Quality, World

from anomaly_operator.domain import codec, names, revisions
from anomaly_operator.domain.actions import SwitchTraffic, WriteStatus
from anomaly_operator.domain.history import verify
from anomaly_operator.domain.model import Revision
from anomaly_operator.domain.plan import Plan
from anomaly_operator.domain.records import Decision

VERSIONS = ("1", "2", "3")
QUALITIES = {
    "good": Quality(),
    "errors": Quality(error_rate=0.3),
    "drifts": Quality(drift=0.8),
    "alarmed": Quality(anomalies=0.5),
    "slow": Quality(latency_ms=20.0),
    "hungry": Quality(rss=900_000_000),
    "never ready": Quality(gets_ready=False),
    "refused": Quality(refuses="digest differs"),
}


class Lives(RuleBasedStateMachine):
    """Everything that can happen to a model, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(SPEC)
        self.selector_is_foreign = False
        execute = self.world.execute

        def watched(action: Any) -> None:
            if isinstance(action, SwitchTraffic):
                self.about_to_switch(action)
            execute(action)
            if isinstance(action, SwitchTraffic):
                self.selector_is_foreign = False

        self.world.execute = watched  # type: ignore[method-assign]

    @initialize(lived=st.booleans())
    def begins(self, *, lived: bool) -> None:
        """Begin with nothing, or with a second version in production and the first one warm beside it."""
        self.world.alias = "1"
        if lived:
            self.world.promote("1")
            self.world.run(8)
            self.world.promote("2")

    # What happens

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.advance(seconds)
        self.world.reconcile()
        self.world.reconcile()

    @rule(seconds=st.sampled_from([5.0, 12.0, 70.0]))
    def long_time_passes(self, seconds: float) -> None:
        self.world.run(seconds)

    @rule(version=st.sampled_from([*VERSIONS, None]))
    def alias_moves(self, version: str | None) -> None:
        self.world.alias = version

    @rule(version=st.sampled_from(VERSIONS), kind=st.sampled_from(sorted(QUALITIES)))
    def version_turns(self, version: str, kind: str) -> None:
        self.world.qualities[version] = QUALITIES[kind]

    @precondition(lambda self: self.world.serving_version() is not None)
    @rule(kind=st.sampled_from(["errors", "drifts"]))
    def the_serving_version_turns_bad(self, kind: str) -> None:
        world, bad = self.world, self.world.serving_version()
        way_back = self.way_back()
        world.qualities[bad or ""] = QUALITIES[kind]
        world.run(6)
        if kind == "errors" and way_back and world.requests >= 40:
            assert world.serving_version() != bad, "rollback is never gated"

    def way_back(self) -> bool:
        """Return whether a good standby has a ready pod, and no rollback led here a short while ago."""
        world, status = self.world, codec.status_from_json(self.world.status)
        newest = next((e for e in status.history if e.epoch), None)
        recent = newest is not None and newest.outcome == "RolledBack" and world.now - newest.ended_at < 80
        standby, quarantined = status.standby, {q.revision for q in status.quarantine}
        if standby is None or recent or standby.revision in quarantined or world.now - standby.since > 50:
            return False
        ready = [p for p in world.of_color(standby.color) if p.ready and p.revision == standby.revision]
        return bool(ready) and world.quality(standby.version) == Quality()

    @rule(drift=st.sampled_from([0.0, 0.8]))
    def world_drifts(self, drift: float) -> None:
        self.world.world_drift = drift

    @rule(up=st.sampled_from([True, True, False]))
    def registry_goes_and_comes(self, *, up: bool) -> None:
        self.world.registry_up = up

    @rule(requests=st.sampled_from([0.0, 1.0, 40.0]))
    def traffic_changes(self, requests: float) -> None:
        self.world.requests = requests

    @rule(
        verb=st.sampled_from(["promote", "abort", "retry", "rollback", "pause", "resume", "dance"]),
        revision=st.sampled_from([None, *VERSIONS]),
    )
    def somebody_commands(self, verb: str, revision: str | None) -> None:
        self.world.say(verb, **({"revision": revision} if revision and verb == "rollback" else {}))
        self.world.reconcile()

    @rule(mode=st.sampled_from(["Differential", "Absolute"]), paused=st.booleans(), auto=st.booleans())
    def spec_is_edited(self, *, mode: str, paused: bool, auto: bool) -> None:
        spec = self.world.spec
        spec["gates"] = {"drift": {"mode": mode}}
        spec["paused"] = paused
        spec["blueGreen"]["autoPromotionEnabled"] = auto
        self.world.generation += 1

    @rule(image=st.sampled_from(["a", "b"]), replicas=st.integers(1, 4))
    def pods_are_edited(self, image: str, replicas: int) -> None:
        self.world.spec["detector"] = {"replicas": replicas, "image": image}
        self.world.generation += 1

    @precondition(lambda self: self.world.pods)
    @rule(data=st.data())
    def pod_dies(self, data: Any) -> None:
        pod = data.draw(st.sampled_from(self.world.pods))
        pod.ready = pod.alive = False

    @precondition(lambda self: self.world.pods)
    @rule(data=st.data())
    def pod_is_replaced(self, data: Any) -> None:
        self.world.pods.remove(data.draw(st.sampled_from(self.world.pods)))
        self.world.controllers()

    @precondition(lambda self: self.world.pods)
    @rule(data=st.data(), key=st.sampled_from(["errors", "drift"]), value=st.sampled_from([0.0, 0.5, 0.9]))
    def somebody_annotates(self, data: Any, key: str, value: float) -> None:
        data.draw(st.sampled_from(self.world.pods)).annotations[key] = value

    @precondition(lambda self: self.world.pods)
    @rule()
    def annotations_are_removed(self) -> None:
        for pod in self.world.pods:
            pod.annotations.clear()

    @precondition(lambda self: self.world.service is not None)
    @rule(color=st.sampled_from(["blue", "green", None]))
    def selector_is_edited(self, color: str | None) -> None:
        assert self.world.service is not None
        selector = names.selector(NAME, color) if color else {}
        if self.world.service["spec"]["selector"] != selector:
            self.world.service["spec"]["selector"] = selector
            self.world.service["metadata"]["resourceVersion"] += "x"
            self.selector_is_foreign = True

    @rule()
    def service_is_deleted(self) -> None:
        self.world.service = None

    @precondition(lambda self: self.world.deployments)
    @rule(data=st.data(), replicas=st.integers(0, 5))
    def somebody_scales_a_child(self, data: Any, replicas: int) -> None:
        color = data.draw(st.sampled_from(sorted(self.world.deployments)))
        self.world.deployments[color]["replicas"] = replicas
        self.world.controllers()

    @rule(after=st.integers(0, 6))
    def operator_is_killed(self, after: int) -> None:
        self.world.reconcile(crash_after=after)
        self.world.restart()

    @rule(failing=st.sets(st.sampled_from(["WriteStatus", "Scale", "TellRole", "ApplyChild", "Replay"]), max_size=2))
    def api_fails(self, failing: set[str]) -> None:
        self.world.failing = failing
        self.world.reconcile()
        self.world.failing = set()

    # What must hold

    def about_to_switch(self, action: SwitchTraffic) -> None:
        """Check what invariants 1 to 4 say of every write of the users' Service."""
        text = action.manifest["metadata"]["annotations"].get(names.DECISION)
        color = action.manifest["spec"]["selector"][names.COLOR_LABEL]
        if text is None:
            assert color == names.NO_COLOR
            return
        decision = codec.from_json(Decision, json.loads(text), "decision")
        assert decision.to.color == color, "selector and decision in one write"
        before = self.decision()
        if before is not None and before.to == decision.to:
            return
        world = self.world
        ready = [p for p in world.of_color(color) if p.ready]
        status = codec.status_from_json(world.status)
        if decision.outcome == "Restored":
            assert world.service is None or before is None
            return
        assert ready, "nobody is sent where nobody answers"
        assert {p.revision for p in ready} == {decision.revision}, "users get the decided revision and no other"
        assert decision.revision not in {q.revision for q in status.quarantine}, "the quarantined get no users"
        if decision.outcome == "Promoted":
            relieved = [p for p in world.of_color(world.selected()) if p.ready] if before else []
            assert len(ready) >= len(relieved), "capacity before traffic"

    def decision(self) -> Decision | None:
        service = self.world.service
        text = service["metadata"]["annotations"].get(names.DECISION) if service else None
        return codec.from_json(Decision, json.loads(text), "decision") if text else None

    @invariant()
    def selector_says_what_was_decided(self) -> None:
        decision, selected = self.decision(), self.world.selected()
        if self.world.service is None or self.selector_is_foreign:
            return
        assert selected == (decision.to.color if decision else names.NO_COLOR)

    @invariant()
    def history_is_a_chain(self) -> None:
        status = codec.status_from_json(self.world.status)
        assert verify(status.history, status.history_anchor) is None

    @invariant()
    def decisions_can_be_explained(self) -> None:
        for entry in codec.status_from_json(self.world.status).history:
            assert entry.reason
            if entry.reason not in ("Requested", "Restored", "Deployed", "ModelRefused"):
                assert entry.evidence, f"{entry.outcome} {entry.reason} without numbers"

    @invariant()
    def active_color_is_never_emptied_and_conditions_tell_the_truth(self) -> None:
        world = self.world
        planned = world.plan()
        self.conditions_are_true(planned)
        for action in planned.actions:
            if type(action).__name__ == "Scale" and action.color == self.world.selected():
                assert action.replicas > 0 or self.selector_is_foreign
        traffic = [a for a in planned.actions if isinstance(a, SwitchTraffic)]
        assert len(traffic) <= 1

    def conditions_are_true(self, planned: Plan) -> None:
        """Check what `kubectl wait` would be told by the status that is written now."""
        world, status = self.world, planned.status
        if status is None or status.observed_generation != world.generation:
            return
        kinds = {type(action) for action in planned.actions}
        if SwitchTraffic in kinds and WriteStatus not in kinds:
            return  # the users' Service is put right first: what has changed meanwhile is told by the next look
        said = {condition.type: condition.status for condition in status.conditions}
        active = status.active
        serve = [p for p in world.of_color(active.color) if p.ready and p.revision == active.revision] if active else []
        assert (said["Servable"] == "True") == bool(serve)
        assert not (said["Ready"] == "True" and "True" in (said["Reconciling"], said["Stalled"])), "as kstatus reads it"
        assert (said["Ready"] == "True") <= (active is not None)
        if said["Ready"] == "True" and world.registry_up and active is not None:
            wanted = revisions.wanted(world.observed(), world.desired())
            assert isinstance(wanted, Revision)
            assert active.revision == wanted.name, "ready means that what is wanted serves"
        assert status.phase != "Healthy" or said["Ready"] == "True"

    def teardown(self) -> None:
        """Let the world come to rest, with a good version wanted: it must get there, whatever came before."""
        world = self.world
        world.qualities.clear()
        world.failing, world.registry_up, world.requests, world.world_drift = set(), True, 40.0, 0.0
        world.spec = World(SPEC).spec
        world.spec["detector"]["image"] = "healed"
        world.generation += 1
        world.alias = "9"
        for pod in world.pods:
            pod.annotations.clear()
            pod.alive = True
        world.say("resume")
        world.until(lambda: world.serving_version() == "9" and world.phase == "Healthy", seconds=900, step=2.0)
        world.run(130, step=5.0)
        for _, outcome, reason in world.outcomes():
            event(f"{outcome}: {reason}")
        assert world.status["active"]["version"] == "9"
        assert world.condition("Ready") == ("True", "Serving")
        assert {p.version for p in world.pods} == {"9"}, "nothing is left behind"


Lives.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestLives = Lives.TestCase

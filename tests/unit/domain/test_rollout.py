"""A candidate's way to users."""

import copy

import pytest
from tests.unit.domain.world import Quality, World
from tests.unit.domain.worlds import guarded, serving, spec

from anomaly_operator.domain.actions import EmitEvent, SwitchTraffic
from anomaly_operator.domain.plan import Plan


def switches(planned: Plan) -> bool:
    """Return whether a plan moves users."""
    return any(isinstance(action, SwitchTraffic) for action in planned.actions)


def test_first_version_serves_after_its_smoke_test() -> None:
    world = World()
    world.alias = "1"
    world.settle()
    assert world.selected() == "none"
    world.until(lambda: world.phase == "Healthy")
    assert world.serving_version() == "1"
    assert world.outcomes() == [("1", "Promoted", "Deployed")]
    assert world.condition("Ready") == ("True", "Serving")
    assert world.condition("Servable") == ("True", "Serving")


def test_new_version_is_analysed_on_shadow_traffic_before_users_get_it() -> None:
    world = serving()
    world.run(9)
    world.alias = "2"
    world.until(lambda: world.status.get("step") == "Analyse")
    assert world.serving_version() == "1"
    assert {p.role for p in world.pods if p.version == "2"} == {"candidate"}
    assert {p.shadow_percent for p in world.pods if p.version == "1"} == {100.0}
    begun = world.now
    world.until(lambda: world.serving_version() == "2")
    assert world.now - begun == pytest.approx(8, abs=1)
    assert world.status["standby"]["version"] == "1"


def test_promotion_is_quick_once_its_facts_hold() -> None:
    world = serving()
    world.run(9)
    began, world.alias = world.now, "2"
    world.until(lambda: world.serving_version() == "2", step=0.25)
    assert world.now - began <= world.boot_seconds + 8 + 0.5


@pytest.mark.parametrize(
    ("quality", "reason"),
    [
        (Quality(error_rate=0.2), "ErrorRateExceeded"),
        (Quality(latency_ms=9.0), "LatencyExceeded"),
        (Quality(rss=700_000_000), "MemoryExceeded"),
        (Quality(anomalies=0.5), "AnomalyRateOutOfRange"),
    ],
)
def test_candidate_that_fails_a_gate_never_reaches_users_and_is_quarantined(quality: Quality, reason: str) -> None:
    world = serving()
    world.run(9)
    world.qualities["2"] = quality
    world.alias = "2"
    world.until(lambda: world.quarantined() == ["2"])
    world.run(60)
    assert world.serving_version() == "1"
    assert world.outcomes()[0] == ("2", "Aborted", reason)
    evidence = world.status["history"][0]["evidence"][0]
    assert {"metric", "value", "limit", "samples"} <= set(evidence)
    assert {p.version for p in world.pods} == {"1"}, "it is scaled down"
    assert world.phase == "Degraded"
    assert world.condition("Ready") == ("False", "Aborted")
    assert world.condition("Servable") == ("True", "Serving")
    assert len(world.switches) == 2, "none, then version 1: users never noticed"


def test_version_trained_for_half_of_all_rows_is_caught_against_the_active_one() -> None:
    world = serving()
    world.run(9)
    world.qualities["3"] = Quality(anomalies=0.5, contamination=0.5)
    world.alias = "3"
    world.until(lambda: world.quarantined() == ["3"])
    assert "the active revision's on the same rows is 15.0%" in world.status["message"]


def test_slower_than_the_active_one_is_too_slow_even_below_the_limit() -> None:
    world = serving()
    world.run(9)
    world.qualities["2"] = Quality(latency_ms=5.0)
    world.alias = "2"
    world.until(lambda: world.quarantined() == ["2"])
    assert world.status["history"][0]["evidence"][0]["kind"] == "relative"


def test_disabled_gate_is_not_judged() -> None:
    world = serving(gates={"memory": {"enabled": False}})
    world.run(9)
    world.qualities["2"] = Quality(rss=900_000_000)
    world.promote("2")


def test_phase_gates_override_common_ones() -> None:
    loose = {"gates": {"memory": {"max": "1G"}}}
    world = serving(blueGreen={"prePromotionAnalysis": loose})
    world.run(9)
    world.qualities["2"] = Quality(rss=900_000_000)
    world.promote("2")


def test_model_that_refuses_to_load_is_quarantined_with_its_own_words() -> None:
    world = serving()
    world.run(9)
    world.qualities["2"] = Quality(refuses="digest differs")
    world.alias = "2"
    world.until(lambda: world.quarantined() == ["2"])
    assert "digest differs" in world.status["quarantine"][0]["message"]


def test_pods_that_never_get_ready_stall_and_are_not_quarantined() -> None:
    world = serving(progressDeadlineSeconds=20)
    world.run(9)
    world.qualities["2"] = Quality(gets_ready=False)
    world.alias = "2"
    world.run(30)
    assert world.condition("Stalled") == ("True", "CandidateNotReady")
    assert world.quarantined() == []
    world.qualities["2"] = Quality()
    world.until(lambda: world.serving_version() == "2")


def test_promotion_by_hand_waits_for_the_command() -> None:
    world = serving(blueGreen={"autoPromotionEnabled": False})
    world.run(9)
    world.alias = "2"
    world.until(lambda: world.phase == "Paused")
    world.run(60)
    assert world.condition("Ready") == ("False", "AwaitingPromotion")
    assert world.serving_version() == "1"
    world.say("promote")
    world.until(lambda: world.serving_version() == "2", seconds=5)
    assert world.status["history"][0]["who"]["claimed"] == "ann"


def test_promotion_delay_is_kept() -> None:
    world = serving(blueGreen={"autoPromotionSeconds": 30})
    world.run(9)
    began, world.alias = world.now, "2"
    world.until(lambda: world.serving_version() == "2")
    assert world.now - began >= 38


def test_preview_size_grows_to_full_size_before_traffic() -> None:
    world = serving(blueGreen={"previewReplicaCount": 1})
    world.run(9)
    world.alias = "2"
    world.until(lambda: world.status.get("step") == "Analyse")
    assert len([p for p in world.pods if p.version == "2"]) == 1
    world.until(lambda: world.serving_version() == "2")
    assert len([p for p in world.pods if p.version == "2" and p.ready]) == 3


def test_thin_traffic_is_judged_on_replayed_reference_rows() -> None:
    world = serving()
    world.run(9)
    world.requests = 0.0
    world.alias = "2"
    world.until(lambda: world.serving_version() == "2")
    assert "replay" in {e.get("kind") for e in world.status["history"][0]["evidence"]}


def test_thin_traffic_pauses_if_that_is_wanted() -> None:
    world = serving(gates={"onInconclusive": "Pause"})
    world.run(9)
    world.requests = 0.0
    world.alias = "2"
    world.until(lambda: world.phase == "Paused")
    assert world.condition("Ready") == ("False", "Inconclusive")
    world.say("promote")
    world.until(lambda: world.serving_version() == "2", seconds=5)


def test_pause_holds_promotion_and_nothing_else() -> None:
    world = guarded()
    world.run(9)
    world.say("pause")
    world.alias = "3"
    world.run(60)
    assert world.serving_version() == "2"
    assert world.phase == "Paused"
    world.qualities["2"] = Quality(error_rate=0.5)
    world.say("resume")
    world.qualities["2"] = Quality()
    world.until(lambda: world.serving_version() == "3")


def test_newest_of_two_alias_moves_wins() -> None:
    world = serving()
    world.run(9)
    world.alias = "2"
    world.settle()
    world.alias = "3"
    world.until(lambda: world.serving_version() == "3")
    assert "2" not in {version for version, _, _ in world.outcomes()}


@pytest.mark.parametrize(("alias", "ready"), [("2", "True"), (None, "False")])
def test_a_switch_to_what_is_no_longer_wanted_is_not_called_ready(alias: str | None, ready: str) -> None:
    world = serving()
    world.run(9)
    world.alias = "2"
    world.until(lambda: world.status.get("step") == "Analyse")
    while not switches(world.plan()):
        world.reconcile()
        world.advance(0 if switches(world.plan()) else 1)
    world.alias = alias
    planned = world.plan()
    assert switches(planned)
    assert planned.status is not None
    assert {c.type: c.status for c in planned.status.conditions}["Ready"] == ready


def test_alias_moved_back_ends_the_rollout_without_a_trace() -> None:
    world = serving()
    world.run(9)
    world.alias = "2"
    world.until(lambda: world.status.get("step") == "Analyse")
    world.alias = "1"
    world.run(5)
    assert world.phase == "Healthy"
    assert world.quarantined() == []
    assert {p.version for p in world.pods} == {"1"}


def test_third_version_waits_until_the_second_has_been_guarded() -> None:
    world = guarded()
    world.alias = "3"
    world.settle()
    assert world.condition("Ready") == ("False", "WaitingForGuard")
    assert world.status["standby"]["version"] == "1"
    world.until(lambda: world.serving_version() == "3")


def test_changed_image_goes_through_blue_green_as_a_new_version_does() -> None:
    world = serving()
    world.run(9)
    world.spec["detector"]["image"] = "other"
    world.generation += 1
    world.until(lambda: world.status.get("step") == "Analyse")
    world.until(lambda: world.phase == "Healthy")
    assert world.status["history"][0]["who"] == {"source": "spec"}
    assert world.status["observedGeneration"] == 2


def test_replicas_are_live() -> None:
    world = serving()
    world.spec["detector"]["replicas"] = 5
    world.run(5)
    assert len([p for p in world.pods if p.ready]) == 5
    assert len(world.outcomes()) == 1


def test_autoscaler_keeps_its_size_through_a_rollout() -> None:
    scaling = {"minReplicas": 2, "maxReplicas": 10}
    world = serving(autoscaling=scaling)
    world.deployments["blue"]["replicas"] = 7  # as an autoscaler does
    world.run(12)
    assert len(world.of_color("blue")) == 7
    world.promote("2")
    assert len(world.of_color("green")) == 7
    world.deployments["green"]["replicas"] = 4
    world.run(3)
    assert len(world.of_color("green")) == 4
    hpa = world.children[("HorizontalPodAutoscaler", "cpu-watch-anomaly-detector")]
    assert hpa["spec"]["scaleTargetRef"]["name"] == "cpu-watch-green"


def test_unknown_digest_is_pinned_before_the_second_pod() -> None:
    world = World()
    world.qualities["1"] = Quality(digest=None)
    world.alias = "1"
    most_unpinned = 0
    for _ in range(20):
        world.advance(1)
        world.settle()
        unpinned = {r["data"]["name"] for r in world.records.values() if not r["data"]["digest"]}
        most_unpinned = max(most_unpinned, len([p for p in world.pods if p.revision in unpinned]))
    assert most_unpinned <= 1
    assert world.serving_version() == "1"
    assert world.status["active"]["digest"] == "sha256:1"


def test_changed_artifact_under_the_same_number_is_refused() -> None:
    world = serving()
    record = next(iter(world.records.values()))
    record["data"]["digest"] = "sha256:before"
    world.run(3)
    assert world.condition("Stalled") == ("True", "DigestChanged")
    assert world.serving_version() == "1"


def test_standby_expires_and_the_guard_goes_on() -> None:
    world = guarded()
    world.run(70)
    assert "standby" not in world.status
    assert {p.version for p in world.pods} == {"2"}
    assert world.phase == "Healthy"


def test_drifting_active_is_no_yardstick_for_the_version_that_cures_it() -> None:
    world = serving()
    world.run(9)
    world.world_drift = 0.8
    world.qualities["1"] = Quality(anomalies=0.6)
    world.run(9)
    assert world.condition("Drifted") == ("True", "NoControl")
    world.qualities["2"] = Quality(anomalies=0.15)
    world.alias = "2"
    world.world_drift = 0.0
    world.qualities["1"] = Quality(anomalies=0.6, drift=0.8)
    world.until(lambda: world.serving_version() == "2")
    assert world.condition("Drifted") == ("False", "NoDrift")


def test_deletion_ends_all_work() -> None:
    world = guarded()
    world.deleting = True
    assert world.plan().actions == ()


def test_somebody_elses_service_is_never_touched() -> None:
    world = World()
    world.alias = "1"
    world.service = {"kind": "Service", "metadata": {"name": "cpu-watch", "resourceVersion": "7"}, "spec": {}}
    world.run(10)
    assert world.service["spec"] == {}
    assert world.condition("Stalled") == ("True", "NameTaken")


def test_nothing_is_begun_while_pods_could_patch_others() -> None:
    world = World(spec())
    world.policy_in_place = False
    world.alias = "1"
    world.run(5)
    assert world.condition("Stalled") == ("True", "PolicyMissing")
    assert ("RoleBinding", "cpu-watch-anomaly-detector") not in world.children
    assert not world.pods
    world.policy_in_place = True
    world.until(lambda: world.serving_version() == "1")


def test_policy_that_is_gone_is_said_of_a_version_that_serves() -> None:
    world = serving()
    world.run(9)
    world.policy_in_place = False
    world.settle()
    assert world.condition("Stalled") == ("True", "PolicyMissing")
    assert world.condition("Servable") == ("True", "Serving")
    assert world.phase == "Degraded"
    assert "anomaly-detector" in world.status["message"]
    world.policy_in_place = True
    world.settle()
    assert world.condition("Ready") == ("True", "Serving")


def test_policy_of_which_nothing_is_known_yet_is_not_said_to_be_missing() -> None:
    world = serving()
    world.run(9)
    world.policy_in_place = None
    world.settle()
    assert world.condition("Ready") == ("True", "Serving")


@pytest.mark.parametrize("name", ["cpu-watch-anomaly-detector", "cpu-watch-preview"])
def test_child_whose_name_somebody_else_took_is_said_of_a_version_that_serves(name: str) -> None:
    world = serving()
    world.run(9)
    theirs = next(body for (_, called), body in world.children.items() if called == name)
    ours = theirs["metadata"].pop("ownerReferences")
    world.settle()
    assert world.condition("Stalled") == ("True", "NameTaken")
    assert f"{theirs['kind']} {name}" in world.status["message"]
    assert world.serving_version() == "1"
    theirs["metadata"]["ownerReferences"] = ours
    world.settle()
    assert world.condition("Ready") == ("True", "Serving")


@pytest.mark.parametrize("errors", [0.0, 0.5])
def test_service_that_somebody_else_put_in_its_place_during_a_rollout_is_not_adopted(errors: float) -> None:
    world = serving()
    world.run(9)
    world.alias = "2"
    world.until(lambda: world.status.get("step") == "Analyse")
    assert world.service is not None
    del world.service["metadata"]["ownerReferences"]
    before = copy.deepcopy(world.service)
    world.qualities["1"] = Quality(error_rate=errors)
    world.run(30)
    assert world.service == before
    assert world.condition("Stalled") == ("True", "NameTaken")


def test_breach_is_rolled_back_while_a_policy_is_missing() -> None:
    world = guarded()
    world.policy_in_place = False
    world.qualities["2"] = Quality(error_rate=0.5)
    world.until(lambda: world.serving_version() == "1", seconds=10)
    assert world.condition("Ready") == ("False", "RolledBack")


def test_plan_at_rest_does_nothing_and_says_when_to_look_again() -> None:
    world = guarded()
    world.run(5)
    planned = world.settle()
    assert [a for a in planned.actions if not isinstance(a, EmitEvent)] == [], "what stands is told once, by its key"
    assert planned.requeue_after is not None
    assert planned.requeue_after > 0

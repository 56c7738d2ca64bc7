"""No state holds a rollout for ever, and what is said of one that waits is true."""

from typing import Any

import pytest
from tests.unit.domain.world import Quality, World
from tests.unit.domain.worlds import guarded, serving, spec

from anomaly_operator.domain import revisions
from anomaly_operator.domain.model import ReplayResult, Revision, Unresolved
from anomaly_operator.domain.times import rfc3339


def wanted(world: World, version: str) -> str:
    """Point the alias at a version; returns the name of its revision."""
    world.alias = version
    found = revisions.wanted(world.observed(), world.desired())
    assert isinstance(found, Revision)
    return found.name


def lose_pods(world: World, color: str) -> None:
    for pod in world.of_color(color):
        pod.alive = False


def test_version_that_cures_a_dead_active_one_is_promoted_on_its_own_replays() -> None:
    world = serving()
    world.run(9)
    lose_pods(world, "blue")
    world.alias = "2"
    world.until(lambda: world.serving_version() == "2")


def test_active_pods_that_cannot_be_replayed_at_are_no_yardstick_and_hold_nothing() -> None:
    world = serving()
    world.run(9)
    world.requests = 0.0
    replay = world.replay

    def broken(action, uid):  # type: ignore[no-untyped-def]
        replay(action, uid)
        if action.purpose == "analysis" and uid in {p.uid for p in world.of_color("blue")}:
            world.replays[uid] = ReplayResult(done=True, at=world.now, error="not done within 60 s")

    world.replay = broken  # type: ignore[method-assign]
    world.alias = "2"
    world.until(lambda: world.serving_version() == "2")


def test_candidate_that_cannot_be_replayed_at_is_stalled_after_the_deadline_and_says_why() -> None:
    world = serving(progressDeadlineSeconds=20)
    world.run(9)
    world.requests = 0.0
    replay = world.replay

    def broken(action, uid):  # type: ignore[no-untyped-def]
        replay(action, uid)
        if action.purpose == "analysis":
            world.replays[uid] = ReplayResult(done=True, at=world.now, error="pod x: not done within 60 s")

    world.replay = broken  # type: ignore[method-assign]
    world.alias = "2"
    world.run(60)
    assert world.serving_version() == "1"
    assert world.condition("Stalled") == ("True", "Inconclusive")
    assert "not done within 60 s" in world.status["message"]
    assert world.phase == "Degraded"


def test_candidate_that_loses_a_pod_for_good_is_stalled_after_the_deadline() -> None:
    world = serving(progressDeadlineSeconds=20)
    world.run(9)
    world.alias = "2"
    world.until(lambda: world.status.get("step") == "Analyse")
    world.of_color("green")[0].alive = False
    world.run(60)
    assert world.serving_version() == "1"
    assert world.condition("Stalled") == ("True", "WaitingForCapacity")
    world.of_color("green")[0].alive = True
    world.until(lambda: world.serving_version() == "2")


def test_drift_of_which_nothing_more_is_heard_holds_no_version_for_ever() -> None:
    world = guarded()
    world.run(9)
    world.world_drift = 0.8
    world.until(lambda: (world.status.get("drift") or {}).get("verdict") == "Pending", seconds=30)
    world.requests = 0.0
    for pod in world.pods:
        pod.role_since = world.now  # its window begins anew: it says nothing of drift
    world.alias = "3"
    world.until(lambda: world.serving_version() == "3", seconds=900, step=5)


def test_last_good_version_is_known_however_many_candidates_were_rejected() -> None:
    world = guarded(revisionHistoryLimit=2)
    world.run(9)
    for version in ("3", "4", "5"):
        world.qualities[version] = Quality(error_rate=0.5)
        world.alias = version
        world.until(lambda version=version: version in world.quarantined())
    world.run(10)
    world.qualities["2"] = Quality(error_rate=0.5)
    world.until(lambda: world.serving_version() == "1", seconds=30)


def test_no_second_step_back_however_many_candidates_were_rejected_since() -> None:
    world = guarded(revisionHistoryLimit=1, blueGreen={"scaleDownDelaySeconds": 600})
    world.qualities["2"] = Quality(error_rate=0.5)
    world.until(lambda: world.serving_version() == "1")
    world.run(9)
    world.qualities["3"] = Quality(error_rate=0.5)
    world.alias = "3"
    world.until(lambda: "3" in world.quarantined())
    world.qualities["1"] = Quality(error_rate=0.5)
    world.run(9)
    assert world.condition("Ready") == ("False", "NoSecondStepBack")


def test_ready_is_not_true_for_a_spec_whose_version_is_not_known_yet() -> None:
    world = serving()
    world.registry_up = False
    world.spec["model"] = {"name": "production", "alias": "challenger"}
    world.generation += 1
    world.resolution = None
    world.run(3)
    assert world.status["observedGeneration"] == world.generation
    assert world.condition("Ready")[0] == "False"
    assert world.condition("Reconciling") == ("True", "Resolving")
    assert world.condition("Servable")[0] == "True"


def test_ready_stays_true_for_an_operator_that_starts_while_the_registry_is_down() -> None:
    world = serving()
    world.registry_up = False
    world.restart()
    world.run(3)
    assert world.condition("Ready") == ("True", "Serving")


def test_breach_without_a_way_back_during_a_registry_outage_is_said_once_and_no_longer_than_it_lasts() -> None:
    world = serving()
    world.registry_up = False
    world.restart()
    world.qualities["1"] = Quality(error_rate=0.5)
    world.run(5)
    said = world.status["message"]
    assert said.count("in breach") == 1
    world.run(5)
    assert world.status["message"] == said
    world.qualities["1"] = Quality()
    world.run(40)
    assert "in breach" not in world.status["message"]
    assert world.condition("Stalled")[0] == "False"


def test_way_back_that_never_gets_ready_is_said_with_what_ails_it() -> None:
    world = guarded(progressDeadlineSeconds=20)
    world.run(70)
    world.qualities["1"] = Quality(gets_ready=False)
    world.qualities["2"] = Quality(error_rate=0.5)
    world.run(40)
    assert world.selected() == "green"
    assert world.condition("Stalled") == ("True", "RollingBack")
    assert "20 s" in world.status["message"]


def without_a_way_back(**sections: Any) -> World:
    """Return a world whose version 2 serves and errs, and whose version 1 is gone and never gets ready again."""
    world = guarded(progressDeadlineSeconds=20, **sections)
    world.run(70)
    world.qualities["1"] = Quality(gets_ready=False)
    world.qualities["2"] = Quality(error_rate=0.5)
    world.run(3)
    assert world.condition("Ready") == ("False", "RollingBack")
    return world


def test_retraining_waits_for_a_way_back_only_until_that_is_late() -> None:
    world = without_a_way_back()
    assert world.status["retreat"]
    world.spec["retraining"] = {"enabled": True, "data": "/data/rows.csv", "schedule": "* * * * *"}
    world.run(15)
    assert not world.jobs
    world.run(70, step=5)
    assert world.status["retreat"]
    assert [line["trigger"] for line in world.status["retrainings"]] == ["Schedule"]


def test_way_back_that_never_gets_ready_gives_way_to_a_newer_version() -> None:
    world = without_a_way_back()
    world.alias = "3"
    world.run(10)
    assert {p.version for p in world.of_color("blue")} == {"1"}, "it has its time first"
    world.until(lambda: "candidate" in world.status, seconds=20)
    assert world.selected() == "green", "users stay where they are"
    assert world.condition("Ready") == ("False", "WayBackNotReady")
    assert "in breach" in world.status["message"]
    world.until(lambda: world.serving_version() == "3")
    assert world.quarantined() == ["2"], "what was to be left is not gone back to"
    assert world.outcomes()[0] == ("3", "Promoted", "Promoted")
    world.run(60)
    assert world.phase == "Healthy"
    assert {p.version for p in world.pods} == {"3"}


def test_way_back_is_tried_once_more_when_the_newer_version_is_rejected() -> None:
    world = without_a_way_back()
    world.qualities["3"] = Quality(error_rate=0.5)
    world.alias = "3"
    world.until(lambda: world.quarantined() == ["3"])
    assert world.selected() == "green"
    world.until(lambda: {p.version for p in world.of_color("blue")} == {"1"})
    world.qualities["1"] = Quality()
    world.until(lambda: world.serving_version() == "1", seconds=20)
    assert sorted(world.quarantined()) == ["2", "3"]


def test_way_back_that_never_gets_ready_does_not_give_way_to_a_quarantined_version() -> None:
    world = without_a_way_back()
    world.run(40)
    assert world.condition("Stalled") == ("True", "RollingBack")
    rejected = {"revision": wanted(world, "3"), "version": "3", "reason": "X", "since": rfc3339(world.now)}
    world.status["quarantine"] = [rejected]
    world.run(30)
    assert {p.version for p in world.of_color("blue")} == {"1"}
    assert "candidate" not in world.status


def test_way_back_from_pods_that_are_gone_gives_way_too_and_ends_when_they_return() -> None:
    world = guarded(progressDeadlineSeconds=20)
    world.run(70)
    world.qualities["1"] = Quality(gets_ready=False)
    lose_pods(world, "green")
    world.run(30)
    assert world.condition("Stalled") == ("True", "RollingBack")
    world.alias = "3"
    world.until(lambda: "candidate" in world.status, seconds=10)
    for pod in world.of_color("green"):
        pod.alive = True
    world.until(lambda: world.serving_version() == "3")
    assert "retreat" not in world.status
    assert world.quarantined() == [], "it was well again when it was relieved"


def test_rollback_that_was_asked_for_and_waits_can_be_called_off() -> None:
    world = guarded()
    world.run(70)
    world.qualities["1"] = Quality(gets_ready=False)
    world.say("rollback")
    world.run(3)
    assert "retreat" in world.status
    world.say("abort")
    world.run(3)
    assert world.status["lastCommand"]["outcome"] == "Accepted"
    assert "retreat" not in world.status
    assert world.condition("Ready") == ("True", "Serving")


def test_deleted_deployment_of_the_active_color_that_cannot_be_made_again_rolls_back() -> None:
    world = guarded()
    del world.deployments["green"]
    world.pods = [p for p in world.pods if p.color != "green"]
    world.failing = {"ApplyChild"}
    world.run(5)
    assert world.serving_version() == "1"
    assert world.outcomes()[0] == ("2", "RolledBack", "Unavailable")


def test_promotion_that_somebody_hastened_does_not_claim_a_passed_analysis() -> None:
    world = serving()
    world.run(9)
    world.alias = "2"
    world.until(lambda: world.status.get("step") == "Analyse")
    world.say("promote")
    world.until(lambda: world.serving_version() == "2", seconds=5)
    entry = world.status["history"][0]
    assert "passed the analysis" not in entry["message"]
    assert "ann" in entry["message"]


def test_version_with_other_features_waits_for_a_person() -> None:
    world = serving()
    world.run(9)
    world.qualities["2"] = Quality(features=("cpu", "disk"))
    world.alias = "2"
    world.until(lambda: world.status.get("step") == "AwaitPromotion")
    world.run(20)
    assert world.serving_version() == "1"
    assert world.condition("Ready") == ("False", "SignatureChanged")
    assert "disk" in world.status["message"]
    world.say("promote")
    world.until(lambda: world.serving_version() == "2", seconds=5)


def test_model_too_large_for_the_cache_is_refused_before_a_pod_starts() -> None:
    world = serving(detector={"cache": {"sizeLimit": "1Gi"}})
    world.run(9)
    world.qualities["2"] = Quality(size=2 * 2**30)
    world.alias = "2"
    world.run(5)
    assert world.condition("Stalled") == ("True", "ModelTooLarge")
    assert "spec.detector.cache.sizeLimit" in world.status["message"]
    assert {p.version for p in world.pods} == {"1"}


@pytest.mark.parametrize(
    ("image", "logged", "refused"),
    [
        ("detector:1.0", "1.8.2", True),
        ("detector@sha256:12", "1.8.2", True),
        ("detector:1.0", "1.9.0", False),  # of the same minor version
        ("detector:1.0", "", False),  # registered without saying so
        ("detector:latest", "1.8.2", False),  # the pods may run another image by now
        ("registry:5000/detector", "1.8.2", False),
    ],
)
def test_version_logged_with_another_scikit_learn_than_the_running_image_has_is_refused_before_a_pod_starts(
    image: str, logged: str, *, refused: bool
) -> None:
    world = serving(detector={"image": image})
    world.run(9)
    world.qualities["2"] = Quality(scikit_learn=logged)
    world.alias = "2"
    world.run(5)
    assert ("candidate" in world.status) is not refused
    if refused:
        assert world.condition("Stalled") == ("True", "EnvironmentMismatch")
        assert "scikit-learn 1.8.2" in world.status["message"]
        assert "has 1.9.1" in world.status["message"]
        assert {p.version for p in world.pods} == {"1"}


def test_scikit_learn_of_an_image_that_no_pod_runs_is_left_to_the_candidates_init_container() -> None:
    world = serving(detector={"image": "detector:1.0"})
    world.run(9)
    world.qualities["2"] = Quality(scikit_learn="1.8.2", refuses="logged with scikit-learn 1.8.2, this image has 1.9.1")
    world.spec["detector"]["image"] = "detector:2.0"
    world.generation += 1
    world.alias = "2"
    world.until(lambda: world.quarantined() == ["2"])
    assert "logged with scikit-learn 1.8.2" in world.status["message"]


def test_version_that_runs_is_not_held_against_what_its_tag_says() -> None:
    world = serving(detector={"image": "detector:1.0"})
    world.run(9)
    world.qualities["1"] = Quality(scikit_learn="1.8.2")
    world.run(5)
    assert world.condition("Ready") == ("True", "Serving")


def test_latency_that_the_guard_names_is_looked_at_with_every_heartbeat() -> None:
    world = guarded(blueGreen={"postPromotionAnalysis": {"gates": {"latency": {"milliseconds": 5}}}})
    world.run(200, step=5)
    planned = world.plan()
    assert planned.requeue_after is not None
    assert planned.requeue_after <= world.settings.heartbeat_seconds


def test_registry_that_is_down_is_quoted_in_one_place() -> None:
    world = World(spec())
    world.desired()
    world.resolve = lambda: None  # type: ignore[method-assign]
    raw = "http://mlflow: ClientConnectorError: Cannot connect to host mlflow:80"
    world.resolution = Unresolved(reference="alias champion", model="production", reason="Unreachable", message=raw)
    world.run(2)
    quoting = [c["type"] for c in world.status["conditions"] if raw in c.get("message", "")]
    assert quoting == ["ModelResolved"]
    assert raw not in world.status["message"]
    assert "alias champion" in world.status["message"]


@pytest.mark.parametrize("moves", [("2", "3"), ("2", "3", "2")])
def test_alias_moved_twice_at_once_leads_to_the_last_one(moves: tuple[str, ...]) -> None:
    world = serving()
    world.run(9)
    for version in moves:
        world.alias = version
        world.reconcile()
    world.until(lambda: world.serving_version() == moves[-1])
    assert [v for v, outcome, _ in world.outcomes() if outcome == "Promoted"] == [moves[-1], "1"]

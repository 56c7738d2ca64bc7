"""Every pod that users may reach has answered reference rows before."""

from typing import Any

from tests.unit.domain.world import Quality, World
from tests.unit.domain.worlds import serving, spec

from anomaly_operator.domain.actions import Replay
from anomaly_operator.domain.model import ReplayResult


def smoke_tested(world: World) -> set[str]:
    """Return the names of pods on the idle color that have passed the smoke test."""
    done = {uid for uid, result in world.smoke_tests.items() if result.done and result.error is None}
    return {pod.name for pod in world.of_color("green") if pod.uid in done}


def names(world: World) -> set[str]:
    return {pod.name for pod in world.of_color("green")}


def test_pods_that_come_with_the_full_size_are_tried_before_users_reach_them() -> None:
    world = serving(blueGreen={"previewReplicaCount": 1})
    world.run(9)
    world.alias = "2"
    world.until(lambda: world.selected() == "green", step=0.5)
    assert len(names(world)) == 3
    assert smoke_tested(world) == names(world)


def test_pod_that_was_replaced_during_the_analysis_is_tried_too() -> None:
    world = serving()
    world.run(9)
    world.alias = "2"
    world.until(lambda: world.status.get("step") == "Analyse")
    world.pods.remove(world.of_color("green")[0])
    world.until(lambda: world.selected() == "green", step=0.5)
    assert smoke_tested(world) == names(world)


def test_users_wait_for_the_smoke_test_of_a_pod_that_came_late() -> None:
    world = serving(progressDeadlineSeconds=20)
    world.run(9)
    world.alias = "2"
    world.until(lambda: world.status.get("step") == "Analyse")
    world.pods.remove(world.of_color("green")[0])
    world.controllers()
    late = world.of_color("green")[-1].uid
    replay = world.replay

    def unreachable(action: Replay, uid: str) -> None:
        replay(action, uid)
        if uid == late:
            world.smoke_tests[uid] = ReplayResult(done=True, at=world.now, error="pod x: connection refused")

    world.replay = unreachable  # type: ignore[method-assign]
    world.run(50)
    assert world.selected() == "blue"
    assert world.condition("Stalled") == ("True", "CandidateNotReady")
    assert "pod x: connection refused" in world.status["message"]
    world.replay = replay  # type: ignore[method-assign]
    world.until(lambda: world.serving_version() == "2", seconds=10)


def test_pod_that_came_late_and_fails_the_smoke_test_sends_the_candidate_away() -> None:
    world = serving(blueGreen={"autoPromotionEnabled": False})
    world.run(9)
    world.alias = "2"
    world.until(lambda: world.status.get("step") == "AwaitPromotion")
    world.requests = 0.0  # nothing but the smoke test can tell
    world.run(40)
    world.qualities["2"] = Quality(anomalies=0.6)
    world.pods.remove(world.of_color("green")[0])
    world.until(lambda: world.quarantined() == ["2"])
    assert "smoke test" in world.status["message"]
    assert world.serving_version() == "1"


def test_operator_that_forgot_the_results_tries_all_pods_again_and_loses_no_time() -> None:
    world = serving()
    world.run(9)
    world.alias = "2"
    world.until(lambda: world.status.get("step") == "Analyse")
    began: Any = world.status["trial"]["analysisStartedAt"]
    world.restart()
    world.settle()
    assert smoke_tested(world) == names(world)
    assert world.status["trial"]["analysisStartedAt"] == began
    world.until(lambda: world.serving_version() == "2", seconds=12)


def test_first_version_whose_pods_cannot_be_tried_serves_nobody() -> None:
    world = World(spec(progressDeadlineSeconds=20))
    world.alias = "1"
    world.failing = {"Replay"}
    world.run(40)
    assert world.selected() == "none"

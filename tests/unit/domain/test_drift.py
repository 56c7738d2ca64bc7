"""Drift: going back only if going back helps."""

from tests.unit.domain.world import Quality, SimPod, World
from tests.unit.domain.worlds import guarded, serving


def test_worse_model_is_rolled_back_when_the_control_is_well() -> None:
    world = guarded()
    world.qualities["2"] = Quality(drift=0.8)
    world.advance(6)
    world.settle()
    assert world.condition("Drifted") == ("Unknown", "ComparingWithControl")
    assert {p.shadow_percent for p in world.of_color("green")} == {100.0}
    world.until(lambda: world.serving_version() == "1", seconds=60)
    assert world.outcomes()[0] == ("2", "RolledBack", "DriftDetected")
    assert world.status["history"][0]["evidence"][0]["kind"] == "differential"
    assert world.condition("Drifted") == ("False", "NoDrift")


def test_drifted_world_keeps_its_version_and_says_so_once() -> None:
    world = guarded()
    world.run(9)
    world.world_drift = 0.8
    world.until(lambda: world.condition("Drifted") == ("True", "Drifted"))
    world.run(300, step=5)
    assert world.serving_version() == "2"
    assert len(world.outcomes()) == 2, "no flapping"
    assert world.condition("Servable") == ("True", "Serving")


def test_control_that_is_gone_is_warmed_again_without_users() -> None:
    world = guarded()
    world.run(70)
    assert {p.version for p in world.pods} == {"2"}
    world.world_drift = 0.8
    world.until(lambda: world.condition("Drifted") == ("True", "Drifted"))
    assert world.serving_version() == "2"
    world.run(120, step=5)
    assert {p.version for p in world.pods} == {"2"}, "the control goes when its time is over"


def test_world_without_a_good_revision_drifts_without_control() -> None:
    world = serving()
    world.world_drift = 0.8
    world.until(lambda: world.condition("Drifted") == ("True", "NoControl"))
    assert world.serving_version() == "1"


def test_control_without_a_verdict_in_time_means_going_back() -> None:
    world = guarded(gates={"drift": {"controlTimeout": "20s"}})
    world.share_of = lambda pod: 1.0 if pod.role == "active" else 0.0  # type: ignore[method-assign]
    world.qualities["2"] = Quality(drift=0.8)
    world.until(lambda: world.serving_version() == "1", seconds=60)
    assert "gave no verdict within 20 s" in world.status["message"]


def on_one_connection(world: World) -> None:
    """Have all requests reach one active pod, and all copies of them one pod of the other color."""

    def share_of(pod: SimPod) -> float:
        first = next(p for p in world.pods if p.ready and p.role == pod.role)
        return World.share_of(world, pod) * 3 if pod is first else 0.0

    world.share_of = share_of  # type: ignore[method-assign]


def test_verdict_of_the_one_pod_that_a_single_connection_reaches_is_the_tracks() -> None:
    world = guarded(gates={"drift": {"controlTimeout": "20s"}})
    on_one_connection(world)
    world.run(9)
    world.world_drift = 0.8
    world.until(lambda: world.condition("Drifted") == ("True", "Drifted"))
    assert "1 of 1 pods with a verdict" in world.status["drift"]["evidence"][0]["text"]
    world.run(60)
    assert world.serving_version() == "2"


def test_worse_model_is_found_out_by_the_one_pod_that_a_single_connection_reaches() -> None:
    world = guarded(gates={"drift": {"controlTimeout": "20s"}})
    on_one_connection(world)
    world.qualities["2"] = Quality(drift=0.8)
    world.until(lambda: world.serving_version() == "1", seconds=60)
    assert "is well on the same traffic" in world.status["history"][0]["message"]


def test_absolute_mode_rolls_back_at_once() -> None:
    world = guarded(gates={"drift": {"mode": "Absolute"}})
    world.world_drift = 0.8
    world.advance(6)
    world.reconcile()
    assert world.serving_version() == "1"


def test_verdict_of_the_control_counts_only_for_rows_after_the_breach_began() -> None:
    world = guarded()
    world.run(9)
    world.qualities["2"] = Quality(drift=0.8)
    world.advance(1)
    for pod in world.of_color("blue"):
        assert pod.report is not None
    world.reconcile()
    assert world.status["drift"]["verdict"] == "Pending"
    assert world.selected() == "green", "the standby's window began before the breaching one"


def test_drift_at_the_limit_is_no_breach() -> None:
    world = guarded()
    world.world_drift = 0.5
    world.run(30)
    assert world.condition("Drifted") == ("False", "NoDrift")


def test_drift_soon_after_a_rollback_is_said_and_leads_nowhere() -> None:
    world = guarded()
    world.qualities["2"] = Quality(error_rate=0.5)
    world.run(2)
    assert world.serving_version() == "1"
    world.world_drift = 0.8
    world.run(20)
    assert world.condition("Drifted") == ("True", "NoSecondStepBack")
    assert world.serving_version() == "1"


def test_condition_clears_when_the_drift_is_over() -> None:
    world = serving()
    world.world_drift = 0.8
    world.until(lambda: world.condition("Drifted")[0] == "True")
    world.world_drift = 0.0
    world.run(60)
    assert world.condition("Drifted")[0] == "True", "not at the first good news"
    world.run(90)
    assert world.condition("Drifted")[0] == "False"


def test_drift_during_analysis_makes_room_for_the_control_and_the_candidate_returns() -> None:
    world = guarded()
    world.run(9)
    world.alias = "3"
    world.until(lambda: world.status.get("step") == "Analyse")
    world.world_drift = 0.8
    world.until(lambda: world.condition("Drifted") == ("True", "Drifted"))
    world.until(lambda: world.serving_version() == "3")
    assert world.quarantined() == []


def test_drifting_candidate_is_rejected_while_the_active_one_is_well() -> None:
    world = serving()
    world.run(9)
    world.qualities["2"] = Quality(drift=0.8)
    world.alias = "2"
    world.until(lambda: world.quarantined() == ["2"])
    assert world.outcomes()[0] == ("2", "Aborted", "DriftDetected")

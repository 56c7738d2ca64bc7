"""What other controllers are known to get wrong, as scenarios: here it goes right.

Four more have their tests where the parts are: evidently#50 and alibi-detect#646 (ever more false alarms with growing
samples) in unit/detector_math/test_calibration.py, kserve#3555 and #4251 (no `mlflow://` source) and mlflow#16734 (a
search knows no aliases) in e2e/operator/test_registry.py, argo-rollouts#2855 (memory of thousands) in the benchmark.
"""

import pytest
from tests.unit.domain.world import Quality
from tests.unit.domain.worlds import guarded, serving

from anomaly_operator.domain import names


def test_argo_rollouts_2824_goes_back_although_the_sick_color_is_not_ready_and_everything_is_paused() -> None:
    world = guarded()
    world.spec["paused"] = True
    world.qualities["2"] = Quality(error_rate=0.9)
    world.advance(1)
    for pod in world.of_color("green")[:2]:
        pod.ready = False
    world.reconcile()
    assert world.selected() == "blue"


def test_argo_rollouts_4750_an_emptied_selector_is_restored_and_promotes_nothing() -> None:
    world = guarded()
    world.run(9)
    world.alias = "3"
    world.until(lambda: world.status.get("step") == "Analyse")
    assert world.service is not None
    world.service["spec"]["selector"] = {}
    world.reconcile()
    assert world.selected() == "green"
    assert world.serving_version() == "2"
    assert "SelectorRestored" in {event.reason for event in world.events}


def test_argo_rollouts_4750_a_deleted_service_comes_back_with_the_revision_that_was_active() -> None:
    world = guarded()
    world.service = None
    world.restart()
    world.reconcile()
    assert world.selected() == "green"
    world.settle()
    assert len(world.outcomes()) == 2


def test_argo_rollouts_3724_a_crash_of_the_pods_passes_nothing() -> None:
    world = serving()
    world.run(9)
    world.alias = "2"
    world.until(lambda: world.status.get("step") == "Analyse")
    for pod in world.of_color("green"):
        pod.alive = False
    world.run(60)
    assert world.serving_version() == "1"
    assert world.quarantined() == ["2"]


def test_argo_rollouts_3941_a_promotion_needs_as_many_ready_pods_as_it_relieves() -> None:
    world = serving(progressDeadlineSeconds=20)
    world.run(9)
    world.alias = "2"
    world.until(lambda: world.status.get("step") == "Analyse")
    world.of_color("green")[0].alive = False
    world.run(60)
    assert world.serving_version() == "1"


def test_argo_rollouts_3941_also_while_the_active_color_has_more_pods_than_it_shall_have() -> None:
    world = serving()
    world.run(9)
    world.keeps_pods = {"blue"}
    world.spec["detector"]["replicas"] = 1
    world.alias = "2"
    world.run(40)
    assert world.condition("Ready") == ("False", "WaitingForCapacity")
    assert world.serving_version() == "1", "one pod must not relieve three"
    world.keeps_pods = set()
    world.until(lambda: world.serving_version() == "2")


def test_argo_rollouts_4294_and_3848_an_autoscaler_at_every_step_leaves_nothing_stuck() -> None:
    world = serving(autoscaling={"minReplicas": 1, "maxReplicas": 10})
    world.run(9)
    world.alias = "2"
    for size in (5, 2, 8, 3, 6, 4, 7, 2, 9, 3, 4, 5):
        color = world.selected() or "blue"
        world.deployments[color]["replicas"] = size
        world.advance(1)
        world.settle()
    world.until(lambda: world.serving_version() == "2")


def test_argo_rollouts_841_retry_tries_again_and_2929_never_by_itself() -> None:
    world = serving()
    world.run(9)
    world.qualities["2"] = Quality(rss=900_000_000)
    world.alias = "2"
    world.until(lambda: world.quarantined() == ["2"])
    world.qualities["2"] = Quality()
    world.restart()
    world.run(120, step=5)
    assert world.serving_version() == "1"
    world.say("retry")
    world.until(lambda: world.serving_version() == "2")


def test_argo_rollouts_4479_an_analysis_without_any_measurement_promotes_nothing() -> None:
    world = serving(gates={"onInconclusive": "Pause"})
    world.run(9)
    world.alias = "2"
    world.until(lambda: world.status.get("step") == "Analyse")
    world.write_report = lambda _: None  # type: ignore[method-assign]
    for pod in world.pods:
        pod.report = None
    world.run(60)
    assert world.serving_version() == "1"
    assert world.phase == "Paused"


def test_argo_rollouts_404_1591_and_2658_why_it_was_aborted_is_shown() -> None:
    world = serving()
    world.run(9)
    world.qualities["2"] = Quality(latency_ms=12.0)
    world.alias = "2"
    world.until(lambda: world.quarantined() == ["2"])
    world.settle()
    for words in ("version 2 was rejected", "LatencyExceeded", "limit 7.63 ms (absolute)"):
        assert words in world.status["message"]


@pytest.mark.parametrize("wanted", ["Pause", "Replay"])
def test_argo_rollouts_180_and_1905_metrics_that_are_empty_abort_nothing(wanted: str) -> None:
    world = serving(gates={"onInconclusive": wanted})
    world.run(9)
    world.requests = 0.0  # every rate is 0 / 0
    world.alias = "2"
    world.run(60)
    assert world.quarantined() == []
    assert world.serving_version() == ("2" if wanted == "Replay" else "1")


def test_flagger_453_616_and_1800_a_release_is_rolled_out_once_and_leaves_something_to_go_back_to() -> None:
    world = guarded()
    world.run(20)
    assert len(world.switches) == 3
    assert world.status["standby"]["readyReplicas"] == 3


def test_flagger_1588_goes_back_although_no_pod_of_the_sick_color_is_healthy() -> None:
    world = guarded()
    for pod in world.of_color("green"):
        pod.alive = False
    world.run(6, step=0.5)
    assert world.serving_version() == "1"


def test_kserve_2521_and_3768_an_update_does_not_reset_replicas() -> None:
    world = guarded()
    for kind in ("Deployment",):
        for color in ("blue", "green"):
            assert "replicas" not in world.children[(kind, names.track("cpu-watch", color))]["spec"]  # type: ignore[arg-type]


def test_kserve_6081_observed_generation_is_the_models_own() -> None:
    world = guarded()
    world.generation = 41
    world.spec["detector"]["replicas"] = 4
    world.run(5)
    assert world.status["observedGeneration"] == 41
    assert {c["observedGeneration"] for c in world.status["conditions"]} == {41}


def test_kserve_5443_servable_stays_true_through_a_whole_rollout() -> None:
    world = serving()
    world.run(9)
    world.alias = "2"
    for _ in range(30):
        world.advance(1)
        world.settle()
        assert world.condition("Servable")[0] == "True"
    assert world.serving_version() == "2"


def test_helm_operator_236_no_endless_loop_of_the_same_bad_version() -> None:
    world = guarded()
    world.qualities["2"] = Quality(error_rate=0.9)
    world.run(600, step=5)
    assert [outcome for _, outcome, _ in world.outcomes()].count("RolledBack") == 1


def test_registry_outage_disturbs_nothing_and_flaps_nothing() -> None:
    world = guarded()
    before = [c for c in world.status["conditions"] if c["type"] != "ModelResolved"]
    world.registry_up = False
    world.restart()
    world.run(30)
    assert [c for c in world.status["conditions"] if c["type"] != "ModelResolved"] == before
    assert world.serving_version() == "2"


def test_deleted_alias_changes_nothing_that_runs() -> None:
    world = guarded()
    world.alias = None
    world.run(30)
    assert world.serving_version() == "2"
    assert world.condition("ModelResolved") == ("False", "NotFound")
    assert world.condition("Servable")[0] == "True"


def test_kserve_3733_and_2059_a_model_of_another_environment_is_refused_before_any_pod_starts() -> None:
    world = serving(detector={"image": "detector:1.0"})
    world.run(9)
    world.qualities["2"] = Quality(scikit_learn="1.8.0")
    world.alias = "2"
    world.run(20)
    assert world.condition("Stalled") == ("True", "EnvironmentMismatch")
    assert {p.version for p in world.pods} == {"1"}
    assert world.condition("Servable") == ("True", "Serving")

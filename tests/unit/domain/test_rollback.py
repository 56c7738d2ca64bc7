"""Going back: at once, from whatever state, and only once."""

from dataclasses import replace

import pytest
from tests.unit.domain.world import Quality, World
from tests.unit.domain.worlds import guarded, serving

from anomaly_detector.report import Counts
from anomaly_operator.domain import names
from anomaly_operator.domain.actions import SwitchTraffic


def breach(world: World) -> None:
    """Let what serves fail, and be reported."""
    world.qualities[world.serving_version() or ""] = Quality(error_rate=0.5)
    world.advance(1)


def test_pooled_error_rate_rolls_back_with_the_selector_first() -> None:
    world = guarded()
    breach(world)
    planned = world.reconcile()
    assert isinstance(planned.actions[0], SwitchTraffic)
    assert planned.actions[0].resource_version is None, "no compare-and-set can stand in the way"
    assert world.serving_version() == "1"
    world.settle()
    assert world.outcomes()[0] == ("2", "RolledBack", "ErrorRateExceeded")
    assert world.quarantined() == ["2"]
    assert world.condition("Ready") == ("False", "RolledBack")
    assert world.condition("Stalled") == ("True", "RolledBack")
    assert world.condition("Servable") == ("True", "Serving")
    assert world.phase == "Degraded"


def test_pods_that_cannot_be_told_that_they_serve_users_are_told_of_and_their_errors_count() -> None:
    world = serving()
    world.run(9)
    world.failing = {"TellRole"}
    world.promote("2")
    world.run(35)
    assert [event.reason for event in world.events].count("RoleNotTold") == 1
    for pod in world.of_color("green"):
        assert pod.report is not None
        pod.report = replace(pod.report, counts={"user": Counts(served=50, failed=20)})
    world.settle()
    assert world.outcomes()[0][1:] == ("RolledBack", "ErrorRateExceeded")


def test_plain_annotation_on_one_pod_rolls_back() -> None:
    world = guarded()
    world.of_color("green")[0].annotations["errors"] = 0.5
    world.reconcile()
    assert world.serving_version() == "1"
    world.settle()
    assert world.status["history"][0]["evidence"][0] == {
        "metric": "errorRate",
        "value": 0.5,
        "limit": 0.01,
        "samples": 1,
        "kind": "annotation",
        "text": "1 of 3 pods annotated with an error rate of up to 0.5, limit 0.01, quorum 1",
    }


def test_plain_annotation_at_the_limit_is_no_breach() -> None:
    world = guarded()
    for pod in world.of_color("green"):
        pod.annotations["errors"] = 0.01
    world.run(5)
    assert world.serving_version() == "2"


@pytest.mark.parametrize("annotated", [1, 2, 3])
def test_drift_annotation_without_report_rolls_back_at_once_by_quorum(annotated: int) -> None:
    world = guarded()
    world.run(6)  # every pod has a verdict of its own
    for pod in world.of_color("green")[:annotated]:
        pod.annotations["drift"] = 0.6
    world.reconcile()
    assert world.serving_version() == ("1" if annotated >= 2 else "2")


def test_pods_without_a_drift_verdict_do_not_count_in_the_quorum() -> None:
    world = guarded()
    world.requests = 0.0
    world.run(1)
    world.of_color("green")[0].annotations["drift"] = 0.6
    world.reconcile()
    assert world.serving_version() == "1"


def test_handful_of_failures_among_many_requests_is_no_breach() -> None:
    world = guarded()
    world.qualities["2"] = Quality(error_rate=0.012)
    world.run(10)
    assert world.serving_version() == "2"


def test_somebody_who_edits_the_selector_all_the_time_does_not_hold_a_rollback() -> None:
    world = guarded()
    world.qualities["2"] = Quality(error_rate=0.5)
    world.advance(1)
    assert world.service is not None
    world.service["spec"]["selector"] = {}
    world.reconcile()
    assert world.selected() == "blue"
    assert world.service["spec"]["selector"][names.COLOR_LABEL] == "blue"
    world.settle()
    assert world.outcomes()[0] == ("2", "RolledBack", "ErrorRateExceeded")


def test_no_ready_pod_for_three_seconds_rolls_back() -> None:
    world = guarded()
    for pod in world.of_color("green"):
        pod.alive = False
    world.advance(1)
    world.settle()
    began = world.now
    world.until(lambda: world.selected() == "blue", step=0.5)
    assert world.now - began == pytest.approx(3, abs=0.6)
    world.settle()
    assert world.outcomes()[0] == ("2", "RolledBack", "Unavailable")


def test_half_of_the_pods_missing_for_thirty_seconds_rolls_back_to_a_fuller_standby() -> None:
    world = guarded()
    for pod in world.of_color("green")[:2]:
        pod.alive = False
    world.run(25)
    assert world.selected() == "green"
    world.run(10)
    assert world.selected() == "blue"


def test_short_glitch_of_all_pods_changes_nothing() -> None:
    world = guarded()
    for pod in world.of_color("green"):
        pod.alive = False
    world.advance(1)
    world.settle()
    for pod in world.of_color("green"):
        pod.alive = True
    world.run(20)
    assert world.serving_version() == "2"


def test_one_ready_pod_is_enough_to_go_back_to() -> None:
    world = guarded()
    for pod in world.of_color("blue")[1:]:
        pod.alive = False
    world.advance(1)
    breach(world)
    world.reconcile()
    assert world.selected() == "blue"


def test_expired_standby_is_warmed_again_and_gets_users_at_its_first_ready_pod() -> None:
    world = guarded()
    world.run(70)
    assert {p.version for p in world.pods} == {"2"}
    breach(world)
    world.settle()
    assert world.selected() == "green"
    assert "retreat" in world.status
    world.qualities["2"] = Quality()  # what has been decided is recorded, not inferred anew
    world.run(4, step=0.5)
    assert world.serving_version() == "1"
    assert world.outcomes()[0] == ("2", "RolledBack", "ErrorRateExceeded")


def test_breach_during_analysis_of_a_third_version_aborts_it_unjudged() -> None:
    world = guarded()
    world.run(9)
    world.alias = "3"
    world.until(lambda: world.status.get("step") == "Analyse")
    breach(world)
    world.until(lambda: world.serving_version() == "1", seconds=10)
    assert "3" not in world.quarantined()
    world.until(lambda: world.serving_version() == "3")


def test_breach_during_a_pause_and_a_registry_outage_rolls_back() -> None:
    world = guarded()
    world.say("pause")
    world.spec["paused"] = True
    world.registry_up = False
    world.restart()
    world.run(2)
    breach(world)
    world.settle()
    assert world.serving_version() == "1"


def test_breach_with_an_invalid_spec_rolls_back() -> None:
    world = guarded()
    world.spec_error = "spec.model: exactly one of alias, version and stage is needed"
    breach(world)
    world.settle()
    assert world.serving_version() == "1"


def test_rejected_version_stays_rejected_while_the_alias_points_at_it() -> None:
    world = guarded()
    breach(world)
    world.run(200)
    assert world.serving_version() == "1"
    assert len(world.outcomes()) == 3
    assert {p.version for p in world.pods} == {"1"}


def test_alias_that_leaves_and_returns_gives_another_chance() -> None:
    world = guarded()
    breach(world)
    world.settle()
    world.qualities["2"] = Quality()
    world.alias = "1"
    world.run(15)
    assert world.phase == "Healthy"
    world.alias = "2"
    world.until(lambda: world.serving_version() == "2")


def test_quarantine_with_a_duration_ends() -> None:
    world = guarded(quarantine={"duration": "100s"})
    breach(world)
    world.settle()
    world.qualities["2"] = Quality()
    world.run(90)
    assert world.serving_version() == "1"
    world.until(lambda: world.serving_version() == "2")


def test_no_second_step_back_by_itself() -> None:
    world = guarded()
    world.run(9)
    world.promote("3")
    world.run(9)
    breach(world)
    world.settle()
    assert world.serving_version() == "2"
    breach(world)
    world.run(20)
    assert world.serving_version() == "2"
    assert world.phase == "Degraded"
    assert "NoSecondStepBack" in {event.reason for event in world.events}


def test_quarantined_version_is_never_gone_back_to() -> None:
    world = guarded()
    breach(world)
    world.run(80)
    assert world.serving_version() == "1"
    breach(world)
    world.run(10)
    assert world.serving_version() == "1"
    assert "NoGoodRevision" in {event.reason for event in world.events}


def test_breach_of_the_only_version_is_said_and_users_keep_what_there_is() -> None:
    world = serving()
    breach(world)
    world.run(10)
    assert world.selected() == "blue"
    assert world.phase == "Degraded"
    assert world.condition("Ready") == ("False", "NoGoodRevision")
    assert len([e for e in world.events if e.reason == "NoGoodRevision"]) == 1


def test_way_out_of_a_breach_without_a_way_back_is_the_next_version() -> None:
    world = serving()
    breach(world)
    world.run(10)
    world.promote("2")


def test_rolled_back_track_drains_and_passes_on() -> None:
    world = guarded()
    breach(world)
    world.settle()
    losers = world.of_color("green")
    assert {(p.role, p.pass_through) for p in losers} == {("draining", True)}
    assert {p.role for p in world.of_color("blue")} == {"active"}
    world.run(5)
    *_, drained = [event.message for event in world.events if event.reason == "Drained"]
    assert f"it answered {len(losers)} itself and passed {2 * len(losers)} on" in drained


def test_end_of_draining_is_told_once_with_the_time_of_the_last_answer() -> None:
    world = guarded()
    world.run(5)
    drained = [event.message for event in world.events if event.reason == "Drained"]
    assert len(drained) == 1
    assert "version 1" in drained[0]


def test_anomaly_rate_of_the_active_version_is_told_and_never_rolls_back() -> None:
    world = guarded()
    world.qualities["2"] = Quality(anomalies=0.9)
    world.run(10)
    assert world.serving_version() == "2"
    assert "AnomalyRateOutOfRange" in {event.reason for event in world.events}


def test_latency_of_the_active_version_rolls_back_only_if_the_guard_names_it() -> None:
    world = guarded()
    world.qualities["2"] = Quality(latency_ms=50)
    world.run(10)
    assert world.serving_version() == "2"
    world.spec["blueGreen"]["postPromotionAnalysis"] = {"gates": {"latency": {"enabled": True}}}
    world.run(2)
    assert world.serving_version() == "1"


def test_report_of_an_earlier_process_is_no_evidence() -> None:
    world = guarded()
    world.qualities["2"] = Quality(error_rate=0.5)
    for pod in world.of_color("green"):
        world.write_report(pod)
        pod.started_at = world.now + 1  # the container has restarted since
    world.settle()
    assert world.selected() == "green"


def test_report_older_than_three_heartbeats_is_no_evidence() -> None:
    world = guarded()
    world.qualities["2"] = Quality(error_rate=0.5)
    for pod in world.of_color("green"):
        world.write_report(pod)
        pod.report_received = world.now - 3.1
    world.reconcile()
    assert world.selected() == "green"


def test_history_answers_what_served_when_and_why() -> None:
    world = guarded()
    breach(world)
    world.settle()
    newest = world.status["history"][0]
    assert (newest["version"], newest["activeVersion"], newest["outcome"]) == ("2", "1", "RolledBack")
    assert newest["evidence"][0]["samples"] > 0
    assert newest["hash"]
    assert [entry.outcome for entry in world.published] == ["Promoted", "Promoted", "RolledBack"]

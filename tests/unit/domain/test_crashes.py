"""The operator may be killed between any two API calls: restarted, it ends where it would have ended."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.domain.world import Quality, World
from tests.unit.domain.worlds import guarded, serving

from anomaly_operator.domain.actions import SwitchTraffic, TellRole

ACTIONS = 14


def first_deployment() -> World:
    world = World()
    world.alias = "1"
    return world


def promotion() -> World:
    world = serving()
    world.run(9)
    world.alias = "2"
    return world


def abort() -> World:
    world = promotion()
    world.qualities["2"] = Quality(anomalies=0.5)
    return world


def rollback() -> World:
    world = guarded()
    world.qualities["2"] = Quality(error_rate=0.5)
    return world


def late_rollback() -> World:
    world = guarded()
    world.run(70)
    world.qualities["2"] = Quality(error_rate=0.5)
    return world


def requested_rollback() -> World:
    world = guarded()
    world.say("rollback")
    return world


def end(world: World) -> dict[str, Any]:
    """Return what counts in the end."""
    return {
        "selected": world.selected(),
        "serving": world.serving_version(),
        "outcomes": world.outcomes(),
        "quarantined": world.quarantined(),
        "phase": world.phase,
        "ready": world.condition("Ready"),
        "pods": sorted((p.color, p.version, p.role) for p in world.pods),
        "command": world.status.get("lastCommand", {}).get("outcome"),
    }


@pytest.mark.parametrize(
    "begin", [first_deployment, promotion, abort, rollback, late_rollback, requested_rollback], ids=lambda f: f.__name__
)
def test_killed_after_any_number_of_actions_it_ends_in_the_same_state(begin: Callable[[], World]) -> None:
    undisturbed = begin()
    undisturbed.run(45)
    expected = end(undisturbed)
    for kills_after in range(ACTIONS):
        world = begin()
        for second in range(45):
            world.advance(1)
            if second % 2 == 0:  # a kill a look for ever would be no operator at all
                world.reconcile(crash_after=kills_after)
                world.restart()
            world.settle()
        world.run(20)
        assert end(world) == expected, f"killed after {kills_after} actions"


def test_killed_right_after_the_selector_of_a_rollback_it_completes_the_rest_from_the_decision() -> None:
    world = rollback()
    world.advance(1)
    planned = world.plan()
    assert isinstance(planned.actions[0], SwitchTraffic)
    world.execute(planned.actions[0])
    world.restart()
    world.registry_up = False
    world.qualities["2"] = Quality()  # and the evidence is gone
    world.settle()
    assert world.serving_version() == "1"
    assert world.outcomes()[0] == ("2", "RolledBack", "ErrorRateExceeded")
    assert world.quarantined() == ["2"]


def test_rollback_right_after_an_unrecorded_promotion_keeps_both_in_the_history() -> None:
    world = promotion()
    world.failing = {"WriteStatus"}
    world.failing = set()
    world.until(lambda: world.status.get("step") == "Analyse")
    world.run(7)
    world.failing = {"WriteStatus"}
    world.advance(1)
    world.reconcile()
    world.reconcile()
    assert world.selected() == "green"
    world.qualities["2"] = Quality(error_rate=0.9)
    world.run(3)
    assert world.selected() == "blue"
    world.failing = set()
    world.settle()
    assert [outcome for _, outcome, _ in world.outcomes()] == ["RolledBack", "Promoted", "Promoted"]


def test_command_is_obeyed_once_however_often_it_is_seen() -> None:
    world = guarded()
    world.run(9)
    world.promote("3")
    world.run(9)
    world.say("rollback")
    planned = world.plan()
    world.execute(planned.actions[0])
    world.restart()
    world.run(5)
    assert world.serving_version() == "2", "one step back, not two"
    assert world.status["lastCommand"]["outcome"] == "Accepted"


def test_restarted_operator_writes_nothing_when_nothing_differs() -> None:
    world = guarded()
    world.run(9)
    world.restart()
    before = world.changes
    world.settle()
    assert world.changes == before


def test_restarted_operator_tells_the_pods_whose_reports_show_another_order() -> None:
    world = guarded()
    world.run(9)
    pod = next(pod for pod in world.pods if pod.role == "active")
    pod.shadow_percent = 100
    world.write_report(pod)
    world.restart()
    assert [action.pod for action in world.plan().actions if isinstance(action, TellRole)] == [pod.name]
    pod.started_at = world.now + 1  # another process, whose report is not there yet
    assert [action.pod for action in world.plan().actions if isinstance(action, TellRole)] == [pod.name]

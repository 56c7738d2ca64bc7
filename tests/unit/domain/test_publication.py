"""Every recorded decision is told, in the log and as an Event; and told once."""

import pytest
from tests.unit.domain.world import Quality, World
from tests.unit.domain.worlds import guarded, serving


def told(world: World) -> list[str]:
    return [event.reason for event in world.events if event.key.startswith("history/")]


def test_decision_is_told_in_the_log_and_as_an_event() -> None:
    world = guarded()
    world.qualities["2"] = Quality(error_rate=0.5)
    world.until(lambda: world.serving_version() == "1")
    world.settle()
    assert told(world) == ["Deployed", "Promoted", "RolledBack"]
    assert [entry.outcome for entry in world.published] == ["Promoted", "Promoted", "RolledBack"]
    assert world.status["historyTold"] == world.status["history"][0]["hash"]


def test_abort_that_could_not_be_recorded_at_first_is_told_once() -> None:
    world = serving()
    world.run(9)
    world.qualities["2"] = Quality(anomalies=0.5)
    world.alias = "2"
    world.until(lambda: world.status.get("step") == "SmokeTest" or "trial" in world.status)
    world.failing = {"WriteStatus"}
    world.run(5)
    world.failing = set()
    world.run(5)
    assert told(world).count("Aborted") == 1
    assert [entry.outcome for entry in world.published].count("Aborted") == 1
    assert world.outcomes()[0][:2] == ("2", "Aborted")


@pytest.mark.parametrize("kills_after", range(12))
def test_killed_at_any_moment_nothing_that_was_recorded_stays_untold(kills_after: int) -> None:
    world = guarded()
    world.qualities["2"] = Quality(error_rate=0.5)
    for _ in range(4):
        world.advance(1)
        world.reconcile(crash_after=kills_after)
        world.restart()
    world.run(3)
    assert told(world)[-1] == "RolledBack"
    assert told(world).count("RolledBack") == 1

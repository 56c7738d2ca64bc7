"""What one stage of the plan wants: the memory after it, its traffic action, and what people are told."""

from dataclasses import dataclass

from anomaly_operator.domain.actions import Action, SwitchTraffic
from anomaly_operator.domain.records import Decision, Phase, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The stage that is at work."""

    name: str
    """`status.step`: RollBack, Deploy, SmokeTest, Analyse, AwaitPromotion, Switch, Guard, Abort, Resolve."""
    phase: Phase
    reason: str
    message: str
    """Without anything that changes by the second: conditions must not flap."""
    memory: Status
    stalled: bool = False
    """Whether it needs a person."""
    ready: bool = False
    """Whether the wanted revision is the active one."""
    traffic: SwitchTraffic | None = None
    decision: Decision | None = None
    """The decision that `traffic` writes, if it is a new one."""
    actions: tuple[Action, ...] = ()
    """Further actions, after status is written."""
    urgent: bool = False
    """Whether capacity is needed before status can be written."""
    passes: bool = False
    """Nothing but memory to hand on: the next stage goes on at once."""


def handing_on(memory: Status) -> Step:
    """Return the step of a stage that only remembers something and lets the next one go on."""
    return Step(name="", phase="Progressing", reason="", message="", memory=memory, passes=True)

"""The part that the operator gives a pod: role, epoch and how much of users' traffic to copy."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from anomaly_detector.problems import Problem, bad_input
from anomaly_detector.report import Role, Source

ROLES: tuple[Role, ...] = ("active", "candidate", "standby", "draining")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What `PUT /role` says."""

    role: Role = "standby"
    epoch: int = 0
    shadow_percent: float = 0.0
    pass_through: bool = False


def parse_assignment(body: Any) -> Assignment:
    """Read the body of `PUT /role`; raises Problem naming the wrong field."""
    if type(body) is not dict:
        raise bad_input("WrongType", "body", expected="an object with role and epoch", received=type(body).__name__)
    role, epoch = body.get("role"), body.get("epoch")
    percent, pass_through = body.get("shadowPercent", 0), body.get("passThrough", False)
    if role not in ROLES:
        raise bad_input("WrongRole", "role", expected=", ".join(ROLES), received=str(role)[:80])
    if type(epoch) is not int or epoch < 0:
        raise bad_input("WrongType", "epoch", expected="a whole number, 0 or more", received=str(epoch)[:80])
    if type(percent) not in (int, float) or not 0 <= percent <= 100:  # noqa: PLR2004 - percent
        raise bad_input("OutOfRange", "shadowPercent", expected="0 to 100", received=str(percent)[:80])
    if type(pass_through) is not bool:
        raise bad_input("WrongType", "passThrough", expected="true or false", received=str(pass_through)[:80])
    return Assignment(role=cast("Role", role), epoch=epoch, shadow_percent=percent, pass_through=pass_through)


@dataclass(slots=True)
class Roles:
    """The assignment in force. At start a pod is standby and copies nothing."""

    current: Assignment = field(default_factory=Assignment)
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    on_change: list[Callable[[Assignment], None]] = field(default_factory=list)
    """Called when the role itself changes, not when only its epoch or share does."""

    def assign(self, new: Assignment) -> None:
        """Take a new assignment; the same again changes nothing. Raises Problem (409) for an older epoch."""
        old = self.current
        if new.epoch < old.epoch:
            raise Problem(
                409, "StaleEpoch", f"epoch: {new.epoch} is older than {old.epoch}, which this pod was told", "epoch"
            )
        self.current = new
        if new.role != old.role:
            self.since = datetime.now(UTC)
            for listener in self.on_change:
                listener(new)

    @property
    def gated_sources(self) -> tuple[Source, ...]:
        """Return whose requests the scalars describe: users' while active, otherwise copies and replays."""
        return ("user",) if self.current.role == "active" else ("shadow", "replay")

    @property
    def drift_source(self) -> Source:
        """Return whose rows are watched for drift; replayed rows are the reference itself."""
        return "user" if self.current.role == "active" else "shadow"

"""What can be wrong with a request, in words that help: the field, what was expected, what was there."""

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, eq=False)
class Problem(Exception):  # noqa: N818 - a problem becomes an answer; it is no failure of the program
    """A request that gets an error answer. `status` is HTTP's; below 500 the client can mend it."""

    status: int
    reason: str
    """A word for programs, for example `WrongShape`."""
    message: str
    field: str | None = None
    expected: Any = None
    received: Any = None

    def __post_init__(self) -> None:
        """Give the exception its text."""
        Exception.__init__(self, self.message)

    def to_json(self) -> dict[str, Any]:
        """Return the body of the error answer, without the parts that are not known."""
        parts = {
            "reason": self.reason,
            "message": self.message,
            "field": self.field,
            "expected": self.expected,
            "received": self.received,
        }
        return {"error": {name: part for name, part in parts.items() if part is not None}}


def bad_input(reason: str, field: str, *, expected: Any, received: Any, status: int = 400) -> Problem:
    """Return the problem of a field that is not what it should be."""
    return Problem(status, reason, f"{field}: expected {expected}, got {received}", field, expected, received)

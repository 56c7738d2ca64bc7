"""A circuit breaker: whoever does not answer is left alone for a while."""

from dataclasses import dataclass


@dataclass(slots=True)
class Breaker:
    """Open after some failures in a row, for a while; then one more failure opens it again."""

    failures_to_open: int = 5
    seconds_open: float = 2.0
    _failures: int = 0
    _until: float = 0.0

    def allows(self, now: float) -> bool:
        """Say whether a request may be tried."""
        return now >= self._until

    def note(self, *, success: bool, now: float) -> None:
        """Learn from a try."""
        self._failures = 0 if success else self._failures + 1
        if self._failures >= self.failures_to_open:
            self._until = now + self.seconds_open

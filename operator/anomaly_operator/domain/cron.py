"""Cron expressions of five fields, UTC: their next time and their last one."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7))
_NAMES = {
    "month": ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    "day of week": ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
}
_DAYS = 4 * 366
"""Days to look ahead or back: a 29th of February is among them."""


class CronError(ValueError):
    """Say which field of an expression cannot be read."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed expression."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    """Both day fields are restricted: then one of them is enough, as in cron(8)."""

    @classmethod
    def parse(cls, text: str) -> "Cron":
        """Read an expression; raises CronError."""
        parts = text.split()
        if len(parts) != len(_FIELDS):
            raise CronError(f"expected five fields, got {len(parts)}")
        minute, hour, day, month, weekday = (_values(part, *field) for part, field in zip(parts, _FIELDS, strict=True))
        return cls(
            minutes=tuple(sorted(minute)),
            hours=tuple(sorted(hour)),
            days=day,
            months=month,
            weekdays=frozenset(value % 7 for value in weekday),
            either_day=not parts[2].startswith("*") and not parts[4].startswith("*"),
        )

    def before(self, at: float) -> float | None:
        """Return the last time that is not after `at`."""
        times = (time for day in self._days(at, -1) for time in reversed(self._times(day)))
        return next((time for time in times if time <= at), None)

    def after(self, at: float) -> float | None:
        """Return the next time after `at`."""
        times = (time for day in self._days(at, 1) for time in self._times(day))
        return next((time for time in times if time > at), None)

    def _days(self, at: float, step: int) -> Iterator[datetime]:
        first = datetime.fromtimestamp(at, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        days = (first + timedelta(days=step * n) for n in range(_DAYS))
        return (day for day in days if self._is_due(day))

    def _is_due(self, day: datetime) -> bool:
        by_date, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        matches = by_date or by_weekday if self.either_day else by_date and by_weekday
        return day.month in self.months and matches

    def _times(self, day: datetime) -> list[float]:
        return [(day + timedelta(hours=h, minutes=m)).timestamp() for h in self.hours for m in self.minutes]


def _values(text: str, name: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step_text = part.partition("/")
        step = _number(step_text, name, 1, high) if step_text else 1
        if span == "*":
            first, last = low, high
        else:
            first_text, dash, last_text = span.partition("-")
            first = _number(first_text, name, low, high)
            last = _number(last_text, name, low, high) if dash else (high if step_text else first)
        if last < first:
            raise CronError(f"{name}: {part!r} ends before it begins")
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _number(text: str, name: str, low: int, high: int) -> int:
    words = _NAMES.get(name, [])
    if text.lower() in words:
        return words.index(text.lower()) + (1 if name == "month" else 0)
    if not text.isdecimal() or not low <= int(text) <= high:
        raise CronError(f"{name}: expected {low} to {high}, got {text!r}")
    return int(text)

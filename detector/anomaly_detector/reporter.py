"""When and what the pod reports: at once on an edge, else by heartbeat; the annotations are in `report`.

A failed write is tried again with growing pauses; the newest state is sent, never an old one.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from anomaly_detector.config import Config
from anomaly_detector.kube import ApplyError
from anomaly_detector.report import DRIFT_CONFIDENCE, ERROR_RATE, REPORT, Drift, Report, Source

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
"""How often the window is looked at while no request comes: failures leave it by time alone."""
FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.05, 5.0, 1.5
RETRY_FIRST, RETRY_LONGEST = 0.2, 30.0
JITTER = 0.1


class Target(Protocol):
    """Where reports go."""

    async def apply(self, annotations: Mapping[str, str]) -> frozenset[str]:
        """Apply them and return the keys that somebody else holds. Raises ApplyError."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """On which side of their limits the scalars are, and how many failures stand behind it."""

    errors_over: bool
    drift_over: bool
    failed: int
    drift: str
    """The drift detector's verdict."""
    role: tuple[object, ...]
    """All that `PUT /role` said."""


def error_rate(report: Report, sources: tuple[Source, ...]) -> float | None:
    """Return failed / served of the sources; none when nothing was served."""
    counts = [report.counts[source] for source in sources if source in report.counts]
    served = sum(count.served for count in counts)
    return sum(count.failed for count in counts) / served if served else None


def annotations(report: Report, sources: tuple[Source, ...]) -> dict[str, str]:
    """Return the annotations of a report; a scalar that says nothing has no key."""
    values = {REPORT: report.to_json()}
    if (rate := error_rate(report, sources)) is not None:
        values[ERROR_RATE] = f"{rate:.4g}"
    if report.drift.confidence is not None and report.drift.verdict != "inconclusive":
        values[DRIFT_CONFIDENCE] = f"{report.drift.confidence:.2g}"
    return values


def judge(*, counts: tuple[int, int], drift: Drift, config: Config, role: tuple[object, ...]) -> Verdict:
    """Compare the scalars with the limits in force; `counts` are failed and served requests."""
    failed, served = counts
    limit, most = config.error_rate_max, config.drift_max_confidence
    return Verdict(
        errors_over=limit is not None and served > 0 and failed / served > limit,
        drift_over=most is not None and drift.confidence is not None and drift.confidence > most,
        failed=failed,
        drift=drift.verdict,
        role=role,
    )


def is_edge(before: Verdict | None, now: Verdict) -> bool:
    """Say whether a scalar crossed its limit in either direction, or the drift verdict or the role changed."""
    return before is None or replace(before, failed=now.failed) != now


class Reporter:
    """Sends reports to `target`. `build` makes the report of this moment, `look` its verdict, cheaply."""

    def __init__(
        self,
        target: Target,
        *,
        build: Callable[[], Report],
        look: Callable[[], Verdict],
        sources: Callable[[], tuple[Source, ...]],
        config: Callable[[], Config],
    ) -> None:
        self._target = target
        self._build, self._look, self._sources, self._config = build, look, sources, config
        self._wake = asyncio.Event()
        self._sent: Verdict | None = None
        self._next_heartbeat = 0.0
        self._pause, self._not_before, self._not_again_before = FIRST_PAUSE, 0.0, 0.0
        self._retry = RETRY_FIRST
        self.written = 0
        self.failures = 0
        self.held: frozenset[str] = frozenset()
        """Keys that somebody else holds."""

    def wake(self) -> None:
        """Look now: something happened that may have crossed a limit."""
        self._wake.set()

    async def run(self) -> None:
        """Report, until cancelled."""
        while True:
            now = time.monotonic()
            verdict = self._look()
            if now >= self._not_before and self._wanted(verdict, now):
                await self._send(verdict)
            await self._sleep()

    async def _sleep(self) -> None:
        """Wait for the next event; while a pause is in force, at least until it ends."""
        now = time.monotonic()
        if now < self._not_before:
            await asyncio.sleep(self._not_before - now)
            return
        wait = self._not_again_before - now
        timeout = max(0.01, min(POLL_SECONDS, self._next_heartbeat - now, wait if wait > 0 else POLL_SECONDS))
        try:
            await asyncio.wait_for(self._wake.wait(), timeout)
        except TimeoutError:
            return
        self._wake.clear()

    def _wanted(self, verdict: Verdict, now: float) -> bool:
        if is_edge(self._sent, verdict):
            self._pause = FIRST_PAUSE
            return True
        more = self._sent is not None and verdict.failed > self._sent.failed
        if verdict.errors_over and more and now >= self._not_again_before:
            return True  # the operator's bound needs more failures than the first one
        return now >= self._next_heartbeat

    async def _send(self, verdict: Verdict) -> None:
        heartbeat = self._config().heartbeat_seconds
        try:
            held = await self._target.apply(annotations(self._build(), self._sources()))
        except ApplyError as error:
            log.warning("report not written: %s", error)
            self._try_again(error.retry_after, heartbeat)
            return
        except Exception:
            log.exception("report not written")
            self._try_again(0.0, heartbeat)
            return
        now = time.monotonic()
        self._note_held(held)
        self.written += 1
        self._retry = RETRY_FIRST
        self._sent = verdict
        self._next_heartbeat = now + heartbeat * random.uniform(1 - JITTER, 1 + JITTER)
        self._not_before = now + FIRST_PAUSE
        self._not_again_before = now + self._pause
        self._pause = min(self._pause * GROWTH, LONGEST_PAUSE) if verdict.errors_over else FIRST_PAUSE

    def _try_again(self, at_least: float, heartbeat: float) -> None:
        self.failures += 1
        self._not_before = time.monotonic() + max(at_least, self._retry * random.uniform(0.5, 1.5))
        self._retry = min(self._retry * 2, RETRY_LONGEST, max(heartbeat, 1.0))

    def _note_held(self, held: frozenset[str]) -> None:
        if held != self.held:
            log.warning("left to whoever set them: %s", ", ".join(sorted(held)) or "none any more")
        self.held = held

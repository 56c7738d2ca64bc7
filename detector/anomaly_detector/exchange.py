"""From a request's body to its answer, whatever carried it: parse, score, render; then count, observe and copy."""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from anomaly_detector.accounting import Accounting
from anomaly_detector.intake import OVERLOADED
from anomaly_detector.pod import Pod
from anomaly_detector.problems import Problem
from anomaly_detector.protocols import Answer, Codec, Contract, Payload, Query, Scored
from anomaly_detector.report import SOURCES, Source
from anomaly_detector.shadow import trace_headers

log = logging.getLogger(__name__)
RETRY_AFTER = "1"
_SERVER_ERROR = 500


@dataclass(slots=True, eq=False)
class Turn:
    """A request that was understood."""

    codec: Codec
    query: Query
    source: Source
    headers: Mapping[str, str]
    contract: Contract
    began: float
    parsed: float
    """When, in the seconds of `time.perf_counter`."""


class Exchange:
    """What users (`for_users`), or the other color and peers, ask of a pod."""

    def __init__(self, pod: Pod, accounting: Accounting, *, for_users: bool) -> None:
        self._pod, self._accounting, self._for_users = pod, accounting, for_users

    def source(self, headers: Mapping[str, str]) -> Source:
        """Say who asks: fixed for users, by header for the others."""
        if self._for_users:
            return "user"
        named = headers.get("x-anomaly-source", "shadow")
        return named if named in SOURCES else "shadow"

    def begin(self, codec: Codec, payload: Payload, source: Source, contract: Contract) -> Turn:
        """Parse. Raises Problem."""
        began = time.perf_counter()
        try:
            query = codec.parse(payload, contract)
        except Problem:
            raise
        except Exception as error:  # it says nothing of the model, and must not count against it
            log.exception("a request could not be read")
            raise Problem(400, "Unreadable", f"the request cannot be read: {type(error).__name__}") from error
        return Turn(codec, query, source, payload.headers, contract, began, time.perf_counter())

    def finish(self, turn: Turn, scored: Scored) -> Answer:
        """Render, and have the rest done when the answer has been written: the loop comes to it then."""
        return self._conclude(turn, scored, *self._render(turn, scored))

    async def finish_aside(self, turn: Turn, scored: Scored) -> Answer:
        """Do the same, the rendering in a thread."""
        return self._conclude(turn, scored, *await asyncio.to_thread(self._render, turn, scored))

    def fail(self, turn: Turn, problem: Problem) -> Answer:
        """Return what the client is told when the model did not score the rows."""
        if problem.status < _SERVER_ERROR:
            return self.refuse(turn.codec, problem, turn.source)
        self._accounting.failed(len(turn.query.rows), turn.source, time.perf_counter() - turn.began)
        self._copy(turn, None)
        return turn.codec.refuse(problem)

    def crash(self, codec: Codec, source: Source, began: float, error: Exception) -> Answer:
        """Return what the client is told after a fault of our own."""
        log.error("a request could not be answered", exc_info=error)
        self._accounting.failed(0, source, time.perf_counter() - began)
        return codec.refuse(Problem(500, "ServerError", f"not answered: {type(error).__name__}"))

    def refuse(self, codec: Codec, problem: Problem, source: Source) -> Answer:
        """Return what the client is told of a request that is not scored."""
        answer = codec.refuse(problem)
        if problem.status < _SERVER_ERROR:
            self._accounting.refused(source)
            return answer
        if problem.reason == OVERLOADED:
            self._accounting.shed(source)
        return replace(answer, headers={**answer.headers, "retry-after": RETRY_AFTER})

    def _render(self, turn: Turn, scored: Scored) -> tuple[Answer, float, float]:
        """Return the answer, and when that began and ended."""
        at = time.perf_counter()
        return turn.codec.render(turn.query, scored, turn.contract), at, time.perf_counter()

    def _conclude(self, turn: Turn, scored: Scored, answer: Answer, began: float, ended: float) -> Answer:
        asyncio.get_running_loop().call_soon(self._account, turn, scored, (turn.began, turn.parsed, began, ended))
        return answer

    def _account(self, turn: Turn, scored: Scored, times: tuple[float, ...]) -> None:
        self._accounting.served(turn.query, scored, turn.source, times)
        self._accounting.observe(turn.query, scored, turn.source)
        self._copy(turn, scored, times[-1] - times[0])

    def _copy(self, turn: Turn, scored: Scored | None, seconds: float | None = None) -> None:
        """Copy what users ask; what the others ask is a copy already."""
        if self._for_users:
            self._accounting.copy(turn.query, scored, trace_headers(turn.headers), seconds)

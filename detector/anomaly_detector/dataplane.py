"""The transport-free core: rows in, scores, labels, confidence and explanations out."""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import compress, count
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from anomaly_detector.bundle import Bundle
from anomaly_detector.explain import Explainer
from anomaly_detector.problems import Problem, bad_input
from anomaly_detector.protocols import Contract, Query, Scored
from anomaly_detector.scoring import Scorer, UnacceptableRowsError

log = logging.getLogger(__name__)
T = TypeVar("T")
Floats = NDArray[np.float64]

EXPLAINED_IN_ANSWER = 16
EXPLAINED_ON_DEMAND, SLOWLY_EXPLAINED = 256, 32
"""Rows of one request that may ask for the explanation of every row, and where each takes long."""
ROWS_ON_THE_LOOP = 1024
"""A request with more rows is scored in a thread, so that it does not hold up the others."""
FLAT = "flat forest"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """What is loaded: it does not change while the process lives."""

    scorer: Scorer
    bundle: Bundle | None
    contract: Contract

    @property
    def fast(self) -> bool:
        """Say whether scoring takes microseconds, so that a thread would cost more than it saves."""
        return self.scorer.kind == FLAT


class DataPlane:
    """Score and explain. Knows nothing of HTTP, counting or roles."""

    def __init__(self, model: Model, *, boot_id: str, timeout: float) -> None:
        self.model = model
        self.explainer: Explainer | None = None
        """Absent while explanations are switched off, or where there is nothing to explain by."""
        self.failed_explanations = 0
        self._timeout = timeout
        self._ids = (f"{boot_id[:8]}-{number:x}" for number in count(1))
        self._scoring = ThreadPoolExecutor(max_workers=2, thread_name_prefix="score")
        self._explaining = ThreadPoolExecutor(max_workers=1, thread_name_prefix="explain")

    @property
    def most_explained(self) -> int:
        """Return how many rows of one request may ask for the explanation of every row."""
        return EXPLAINED_ON_DEMAND if self.explainer is None or self.explainer.prompt else SLOWLY_EXPLAINED

    def answers_at_once(self, query: Query) -> bool:
        """Say whether `answer_at_once` takes no longer than handing the rows to a thread."""
        explainer, few = self.explainer, len(query.rows) <= ROWS_ON_THE_LOOP
        if not (self.model.fast and few) or query.shap_values:
            return False
        if explainer is None or query.explain == "none":
            return True
        if query.explain == "all":
            return explainer.fast and len(query.rows) <= EXPLAINED_IN_ANSWER
        return explainer.fast or not explainer.prompt

    def answer_at_once(self, query: Query) -> Scored:
        """Do what `answer` does, but for SHAP values, without letting others do anything meanwhile."""
        explainer, explanations = self.explainer, {}
        self._check_explainable(query)
        try:
            scores = self.model.scorer.score(query.rows)
            anomalous = scores > self.model.scorer.threshold
            found = _places(anomalous)
            if explainer is not None and (places := _explained(query, found, explainer)):
                said = self._explanations(explainer, query.rows[places], scores[places])
                explanations = dict(zip(places, said, strict=False))
        except Exception as error:
            raise self._problem(error, len(query.rows)) from error
        return self._scored(scores, anomalous, found, explanations)

    async def answer(self, query: Query) -> Scored:
        """Return what the model says of the rows.

        Raises Problem: 4xx for rows that the model does not take, or more SHAP values than there is time for, 500 for
        the model's own errors, 504 when it takes longer than the time limit.
        """
        if self.answers_at_once(query):
            return self.answer_at_once(query)
        explainer, rows, explanations, values = self.explainer, query.rows, {}, None
        self._check_explainable(query)
        try:
            if self.model.fast and len(rows) <= ROWS_ON_THE_LOOP:
                scores = self.model.scorer.score(rows)
            else:
                scores = await self._in(self._scoring, self.model.scorer.score, rows)
        except Exception as error:
            raise self._problem(error, len(rows)) from error
        anomalous = scores > self.model.scorer.threshold
        found = _places(anomalous)
        if explainer is not None and (places := _explained(query, found, explainer)):
            explanations = dict(zip(places, await self.explain(rows[places], scores[places]), strict=False))
        if explainer is not None and query.shap_values:
            values = await self._shap_values(explainer, rows, scores)
        return self._scored(scores, anomalous, found, explanations, values)

    async def explain(self, rows: Floats, scores: Floats) -> list[dict[str, Any]]:
        """Explain rows that have been scored already: as many as there is time for, none while it is off or fails."""
        explainer = self.explainer
        if explainer is None:
            return []
        if explainer.fast and len(rows) <= EXPLAINED_IN_ANSWER:
            return self._explanations(explainer, rows, scores)
        try:
            return await self._in(self._explaining, self._explanations, explainer, rows, scores, self._soon())
        except TimeoutError:
            self.failed_explanations += 1
            return []

    def confidence(self, scores: Floats) -> Floats | None:
        """Return the share of training rows with a less anomalous score; none where they are not known."""
        bundle = self.model.bundle
        if bundle is None:
            return None
        known: Floats = bundle.scores
        return known.searchsorted(scores, side="left") / len(known)

    def close(self) -> None:
        """Let the threads end."""
        self._scoring.shutdown(wait=False, cancel_futures=True)
        self._explaining.shutdown(wait=False, cancel_futures=True)

    def _check_explainable(self, query: Query) -> None:
        if query.explain != "all" and not query.shap_values:
            return
        if self.explainer is None:
            raise Problem(409, "ExplanationsOff", "explanations are off for this model (spec.explanations.enabled)")
        if (rows := len(query.rows)) > (most := self.most_explained):
            raise bad_input("TooManyRows", "rows", expected=f"at most {most} rows", received=rows, status=413)

    async def _in(self, executor: ThreadPoolExecutor, work: Callable[..., T], *given: Any) -> T:
        """Do the work in a thread, within the time limit."""
        return await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(executor, work, *given), self._timeout)

    def _soon(self) -> float:
        """Return until when rows may be begun that take long, so that the last is done within the time limit."""
        return time.monotonic() + self._timeout / 2

    async def _shap_values(self, explainer: Explainer, rows: Floats, scores: Floats) -> Floats:
        """Return SHAP values of all rows. Raises Problem where the time is too short: no fault of the model."""
        try:
            values = await self._in(self._explaining, explainer.shap_values, rows, scores, self._soon())
        except TimeoutError:
            values = rows[:0]
        except Exception as error:
            raise self._problem(error, len(rows)) from error
        if len(values) < len(rows):
            raise Problem(413, "TooSlow", f"rows: no time to explain {len(rows)} rows; send fewer", "rows")
        return values

    def _explanations(
        self, explainer: Explainer, rows: Floats, scores: Floats, until: float = math.inf
    ) -> list[dict[str, Any]]:
        """Return the explanations; a fault costs them alone, not the answer."""
        try:
            return explainer.explain(rows, scores, until)
        except Exception:
            log.exception("the explainer failed", extra={"rows": len(rows)})
            self.failed_explanations += 1
            return []

    def _problem(self, error: Exception, rows: int) -> Problem:
        """Return what the client is told of an error."""
        if isinstance(error, UnacceptableRowsError):
            return Problem(400, "UnacceptableValue", str(error), "rows")
        if isinstance(error, TimeoutError):
            return Problem(504, "Timeout", f"no answer within {self._timeout:g} s; send fewer rows")
        log.error("the model failed", exc_info=error, extra={"rows": rows})
        return Problem(500, "ModelError", f"the model failed on these rows: {type(error).__name__}")

    def _scored(
        self,
        scores: Floats,
        anomalous: NDArray[np.bool_],
        found: list[int],
        explanations: dict[int, dict[str, Any]],
        shap_values: Floats | None = None,
    ) -> Scored:
        return Scored(
            scores=scores,
            anomalous=anomalous,
            confidence=self.confidence(scores),
            ids={row: next(self._ids) for row in found},
            explanations=explanations,
            shap_values=shap_values,
        )


def _places(anomalous: NDArray[np.bool_]) -> list[int]:
    return list(compress(count(), anomalous.tolist()))


def _explained(query: Query, anomalies: list[int], explainer: Explainer) -> list[int]:
    """Return the rows whose explanation is part of the answer.

    A slow explainer is asked only by those who want explanations above all: users must not wait for it.
    """
    if query.explain == "all":
        return list(range(len(query.rows)))
    return anomalies[:EXPLAINED_IN_ANSWER] if query.explain == "anomalies" and explainer.prompt else []

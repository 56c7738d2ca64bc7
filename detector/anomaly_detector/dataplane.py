"""The transport-free core: rows in, scores, labels, confidence and explanations out."""

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
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
EXPLAINED_ON_DEMAND = 256
"""Rows of one request that may ask for the explanation of every row."""
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
    def quick(self) -> bool:
        """Say whether scoring and explaining a few rows takes less than handing them to a thread."""
        return self.model.fast and (self.explainer is None or self.explainer.fast)

    def answers_at_once(self, query: Query) -> bool:
        """Say whether `answer` is done without waiting for a thread."""
        return self.quick and len(query.rows) <= ROWS_ON_THE_LOOP and not query.shap_values

    def answer_at_once(self, query: Query) -> Scored:
        """Do what `answer` does, for what is answered at once."""
        return _result(self.answer(query))

    async def answer(self, query: Query) -> Scored:
        """Return what the model says of the rows.

        Raises Problem: 4xx for rows that the model does not take, 500 for the model's own errors, 504 when it takes
        longer than the time limit.
        """
        every_row = query.explain == "all" or query.shap_values
        if every_row:
            self._check_explainable(len(query.rows))
        fast = self.model.fast and len(query.rows) <= ROWS_ON_THE_LOOP
        try:
            scores = await self._run(lambda: self._score(query.rows), None if fast else self._scoring)
            anomalous: NDArray[np.bool_] = scores > self.model.scorer.threshold
            found = anomalous.nonzero()[0].tolist()
            explanations, shap_values = await self._explain(query, scores, found)
        except UnacceptableRowsError as error:
            raise Problem(400, "UnacceptableValue", str(error), "rows") from None
        except TimeoutError:
            raise Problem(504, "Timeout", f"no answer within {self._timeout:g} s; send fewer rows") from None
        except Exception as error:
            log.exception("the model failed", extra={"rows": len(query.rows)})
            raise Problem(500, "ModelError", f"the model failed on these rows: {type(error).__name__}") from error
        return Scored(
            scores=scores,
            anomalous=anomalous,
            confidence=self.confidence(scores),
            ids={row: next(self._ids) for row in found},
            explanations=explanations,
            shap_values=shap_values,
        )

    async def explain(self, rows: Floats, scores: Floats) -> list[dict[str, Any]]:
        """Explain rows that have been scored already; empty while explanations are off or fail."""
        explainer = self.explainer
        if explainer is None:
            return []
        try:
            executor = None if explainer.fast else self._explaining
            return await self._run(lambda: explainer.explain(rows, scores), executor)
        except TimeoutError:
            raise
        except Exception:
            log.exception("the explainer failed", extra={"rows": len(rows)})
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

    def _check_explainable(self, rows: int) -> None:
        if self.explainer is None:
            raise Problem(409, "ExplanationsOff", "explanations are off for this model (spec.explanations.enabled)")
        if rows > EXPLAINED_ON_DEMAND:
            raise bad_input(
                "TooManyRows", "rows", expected=f"at most {EXPLAINED_ON_DEMAND} rows", received=rows, status=413
            )

    async def _run(self, work: Callable[[], T], executor: ThreadPoolExecutor | None) -> T:
        """Do the work here, or in a thread within the time limit."""
        if executor is None:
            return work()
        return await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(executor, work), self._timeout)

    def _score(self, rows: Floats) -> Floats:
        scores = self.model.scorer.score(rows)
        # The sum is quicker to look at; it may exceed what is finite where no score does.
        if not math.isfinite(np.add.reduce(scores)) and not np.isfinite(scores).all():
            raise ArithmeticError("the model returned a score that is no finite number")
        return scores

    async def _explain(
        self, query: Query, scores: Floats, anomalies: list[int]
    ) -> tuple[dict[int, dict[str, Any]], Floats | None]:
        """Return the explanations of the answer, and SHAP values of all rows if asked.

        A slow explainer is asked only by those who want explanations above all: users must not wait for it.
        """
        explainer, rows = self.explainer, query.rows
        if explainer is None:
            return {}, None
        places: list[int] = []
        if query.explain == "all":
            places = list(range(len(rows)))
        elif query.explain == "anomalies" and explainer.fast:
            places = anomalies[:EXPLAINED_IN_ANSWER]
        said: list[dict[str, Any]] = []
        if places:
            some = slice(None) if len(places) == len(rows) else places
            said = await self.explain(rows[some], scores[some])
        values = None
        if query.shap_values:
            values = await self._run(lambda: explainer.shap_values(rows, scores), self._explaining)
        return dict(zip(places, said, strict=False)), values


def _result(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    coroutine.close()
    raise RuntimeError("it waits for something")

"""Say which features make a row anomalous, and how much."""

import math
import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_detector.explain import wording
from anomaly_detector.explain.shapley import ShapleyValues
from anomaly_detector.explain.treeshap import TreeShap, fits
from anomaly_detector.scoring import ForestScorer, Scorer

Floats = NDArray[np.float64]
SMALLEST_SUM = 1e-9
"""Difference of summed path lengths below which the slope of the score is used in place of a quotient."""


class Explainer:
    """Explain rows by features.

    A flat forest whose features carry over is explained by exact SHAP values of its path length, negated and
    rescaled to sum to `score - base`; any other model by Shapley values of its score against the reference.

    `reference` (m, features) gives the percentiles of values, `score_quantiles` (ascending) those of scores; either
    may be absent, but not the reference of a model that is no flat forest, or a huge one. Raises ValueError then.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        units: Mapping[str, str] | None = None,
        reference: Floats | None = None,
        score_quantiles: Floats | None = None,
        top_k: int = 3,
    ) -> None:
        self._scorer = scorer
        self._units = units or {}
        self._top_k = top_k
        # Plain arrays: a single value is found in them sooner than NumPy has made an array of it.
        self._quantiles = None if score_quantiles is None else array("d", score_quantiles.tolist())
        columns = () if reference is None else reference.T
        self._sorted = [array("d", np.sort(c[np.isfinite(c)]).tolist()) for c in columns]
        self._tree: TreeShap | None = None
        if (
            isinstance(scorer, ForestScorer)
            and scorer.one_to_one
            and scorer.forest.denominator > 0
            and fits(scorer.forest)
        ):
            self._tree = TreeShap(scorer.forest)
            self.base = float(scorer.forest.score_of(np.array([self._tree.expected]))[0])
            """Score of a row of which nothing is known."""
            self._slope = -math.log(2) / scorer.forest.denominator * self.base
        elif reference is None:
            raise ValueError(f"explanations: a model served by {scorer.kind!r} needs a reference sample")
        else:
            self._any = ShapleyValues(scorer.score, reference)
            self.base = self._any.base
        self.prompt = self._tree is not None
        """Whether a row takes a millisecond or so, so that users may wait for it."""
        self.fast = self._tree is not None and self._tree.tabulated
        """Whether a row takes a fraction of a millisecond, so that it may be explained on the event loop."""

    def shap_values(self, rows: Floats, scores: Floats, until: float = math.inf) -> Floats:
        """Return contributions of all features to `score - base`, shape (n, features); positive: more anomalous.

        `rows` (n, features) as users send them, `scores` (n,) as the scorer gave them. Where a row takes long, as many
        as are begun before `until`, in the seconds of `time.monotonic`.
        """
        if self._tree is None or not isinstance(self._scorer, ForestScorer):
            in_time = takewhile(lambda _: time.monotonic() < until, rows)
            return np.array([self._any.values(row) for row in in_time]).reshape(-1, rows.shape[1])
        lengths = self._tree.values(self._scorer.forest_rows(rows))
        totals = np.add.reduce(lengths, axis=1).tolist()
        factors = [self._factor(*one) for one in zip(totals, scores.tolist(), strict=True)]
        values: Floats = lengths * np.array(factors)[:, None]
        return values

    def _factor(self, total: float, score: float) -> float:
        """Return by what to scale path lengths that sum to `total`, so that they sum to `score - base`.

        Longer paths are more normal, so the quotient is negative; its limit for equal lengths is the slope.
        """
        return self._slope if abs(total) < SMALLEST_SUM else (score - self.base) / total

    def explain(self, rows: Floats, scores: Floats, until: float = math.inf) -> list[dict[str, Any]]:
        """Return one explanation a row, as docs/pod-contract.md describes it: plain JSON; see `shap_values`."""
        values = self.shap_values(rows, scores, until)
        table = zip(rows.tolist(), scores.tolist(), values.tolist(), strict=False)
        return [self._explanation(*one) for one in table]

    def _explanation(self, row: list[float], score: float, values: list[float]) -> dict[str, Any]:
        sizes = [abs(value) for value in values]
        whole = sum(sizes)
        order = sorted(range(len(values)), key=sizes.__getitem__, reverse=True)[: self._top_k]
        contributions = [self._contribution(i, row[i], values[i], whole) for i in order]
        confidence = None
        if self._quantiles is not None:
            confidence = bisect_left(self._quantiles, score) / len(self._quantiles)
        return {
            "text": wording.text(contributions),
            "interpretation": wording.interpretation(
                contributions, anomalous=score > self._scorer.threshold, confidence=confidence
            ),
            "base": self.base,
            "contributions": contributions,
        }

    def _contribution(self, i: int, value: float, contribution: float, whole: float) -> dict[str, Any]:
        feature = self._scorer.features[i]
        return {
            "feature": feature,
            "value": value if math.isfinite(value) else None,
            "unit": self._units.get(feature, ""),
            "contribution": contribution,
            "share": contribution / whole if whole else 0.0,
            "direction": "INCREASES" if contribution >= 0 else "DECREASES",
            "percentile": self._percentile(i, value),
        }

    def _percentile(self, i: int, value: float) -> float | None:
        """Return the per cent of the reference below a value, ties counted half."""
        if not self._sorted or not self._sorted[i] or math.isnan(value):
            return None
        known = self._sorted[i]
        below = bisect_left(known, value)
        return 50.0 * (below + bisect_right(known, value, below)) / len(known)

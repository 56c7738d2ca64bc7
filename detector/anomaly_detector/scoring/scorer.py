"""What turns rows into anomaly scores: one protocol, two ways."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from anomaly_detector.scoring.forest import FlatForest, as_float32
from anomaly_detector.usual import are_usual

Floats = NDArray[np.float64]


class UnacceptableRowsError(ValueError):
    """Say what the model does not take: the sender's mistake, unlike an error that the model itself raises."""


class Scorer(Protocol):
    """Score rows as scikit-learn would."""

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns that `score` expects, in order."""

    @property
    def threshold(self) -> float:
        """A row whose score is above it is anomalous."""

    @property
    def kind(self) -> str:
        """What does the work, and for scikit-learn why; for people."""

    @property
    def accepts_missing(self) -> bool:
        """Whether the model takes NaN; if not, `score` raises UnacceptableRowsError for it."""

    @property
    def accepts_infinite(self) -> bool:
        """Whether the model takes infinities; if not, `score` raises UnacceptableRowsError for them."""

    def score(self, rows: Floats) -> Floats:
        """Return `-score_samples` of rows (n, features): shape (n,), higher is more anomalous.

        Raises UnacceptableRowsError for NaN or infinities that the model does not accept; otherwise whatever the
        model raises (a transformer that meets a value it cannot transform), which is the model's error.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What every scorer knows of its model."""

    features: tuple[str, ...]
    threshold: float
    kind: str
    accepts_missing: bool
    accepts_infinite: bool

    def check(self, rows: Floats) -> None:
        """Raise UnacceptableRowsError for rows that the model does not take."""
        if (self.accepts_infinite and self.accepts_missing) or are_usual(rows):
            return
        if not self.accepts_infinite and np.isinf(rows).any():
            raise UnacceptableRowsError("rows: the model takes no infinite values")
        if not self.accepts_missing and np.isnan(rows).any():
            raise UnacceptableRowsError("rows: the model takes no missing values")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestScorer(Described):
    """A flat forest behind a transformation of its rows."""

    forest: FlatForest
    transform: Callable[[Floats], Floats]
    """Rows as users send them to rows as the forest was trained on; (n, features) to (n, forest.width)."""
    one_to_one: bool
    """Whether column i of the transformed rows comes from feature i alone, so that explanations carry over."""

    def score(self, rows: Floats) -> Floats:
        """Return anomaly scores; see Scorer."""
        self.check(rows)
        return self.forest.score_of(self.forest.path_lengths(self.transform(rows)))

    def forest_rows(self, rows: Floats) -> NDArray[np.float32]:
        """Return rows as the trees compare them."""
        return as_float32(self.transform(rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class SklearnScorer(Described):
    """scikit-learn itself, for models that nothing faster is known for."""

    function: Callable[[Floats], Floats]

    def score(self, rows: Floats) -> Floats:
        """Return anomaly scores; see Scorer. Raises ArithmeticError where the model has none."""
        self.check(rows)
        scores = np.asarray(self.function(rows), dtype=np.float64).reshape(len(rows))
        if not np.isfinite(scores).all():
            raise ArithmeticError("the model returned a score that is no finite number")
        return scores

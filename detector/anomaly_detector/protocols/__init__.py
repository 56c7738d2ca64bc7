"""The protocols: each turns bytes into rows and scores into bytes, and knows nothing of sockets or counting."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from anomaly_detector.problems import Problem

JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What a request may hold, as the model says."""

    features: tuple[str, ...]
    model: str
    version: str
    accepts_missing: bool = True
    accepts_infinite: bool = True
    datatypes: tuple[str, ...] = ()
    """Each feature's datatype in the Open Inference Protocol, as its metadata tell it; empty where none is known."""
    max_rows: int = 100_000


@dataclass(slots=True, kw_only=True, eq=False)
class Payload:
    """A request, as far as protocols care."""

    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    """To be asked for names in lower case."""


@dataclass(slots=True, kw_only=True, eq=False)
class Query:
    """Rows to score and what to say about them."""

    rows: NDArray[np.float64]
    explain: Literal["none", "anomalies", "all"] = "anomalies"
    shap_values: bool = False
    """Whether the contributions of all features are wanted as numbers, for every row."""
    details: Any = None
    """The protocol's own: what the answer must repeat."""


@dataclass(slots=True, kw_only=True, eq=False)
class Scored:
    """What the model says, row by row."""

    scores: NDArray[np.float64]
    anomalous: NDArray[np.bool_]
    confidence: NDArray[np.float64] | None
    """None where no training scores are known."""
    ids: Mapping[int, str]
    """By row, of the anomalies."""
    explanations: Mapping[int, dict[str, Any]]
    """By row, of those that are explained in the answer."""
    shap_values: NDArray[np.float64] | None = None
    """Rows x features, if they were asked for."""


@dataclass(slots=True, kw_only=True, eq=False)
class Answer:
    """What to send back."""

    body: bytes
    content_type: str = JSON
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Codec(Protocol):
    """One protocol. `parse` raises Problem; `refuse` writes a problem as the protocol's clients expect it."""

    name: str

    def parse(self, payload: Payload, contract: Contract) -> Query:
        """Return the rows that are asked for."""

    def render(self, query: Query, scored: Scored, contract: Contract) -> Answer:
        """Return the answer."""

    def refuse(self, problem: Problem) -> Answer:
        """Return the error answer."""

"""What a training is asked for, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from anomaly_detector.train.event import DriftEvent
from anomaly_detector.train.features import FeatureNotes
from anomaly_detector.train.pipeline import Recipe
from anomaly_detector.train.registry import Version
from anomaly_detector.train.table import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What shall be made of the data and where it shall go."""

    model: str
    """Registered model."""
    recipe: Recipe = field(default_factory=Recipe)
    notes: FeatureNotes = field(default_factory=FeatureNotes)
    about: str = ""
    """First sentence of the model card."""
    alias: str | None = None
    """To be moved to the new version if that is not worse than the holder."""
    force: bool = False
    """Move the alias even so."""
    compare_with: str | None = None
    """Version to compare with; none: the holder of the alias."""
    tags: Mapping[str, str] = field(default_factory=dict)
    environment: str = "development"
    trigger: str = "manual"
    experiment: str | None = None
    """None: named like the model."""
    window: int = 500
    """Rows of a drift check."""
    false_alarms_per_day: float = 1.0
    rows_per_second: float | None = None
    """In service; none: as in the data."""
    event: DriftEvent | None = None
    allow_pickle: bool = False
    """Whether the holder of the alias may be unpickled for the comparison."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What came of it."""

    version: Version
    digest: str
    metrics: Mapping[str, float]
    data: Mapping[str, Any]
    calibration: Mapping[str, Any]
    verdict: str
    """The comparison with the holder of the alias, in words."""
    alias: str | None
    alias_moved: bool
    seconds: float
    pipeline: Any
    """The fitted scikit-learn Pipeline."""
    reference: Floats

    def as_json(self) -> dict[str, Any]:
        """Return what scripts need."""
        return {
            "model": self.version.name,
            "version": self.version.version,
            "digest": self.digest,
            "runId": self.version.run_id,
            "source": self.version.source,
            "alias": self.alias,
            "aliasMoved": self.alias_moved,
            "verdict": self.verdict,
            "metrics": dict(self.metrics),
            "data": dict(self.data),
            "calibrated": self.calibration.get("calibrated", False),
            "falseAlarmRate": self.calibration.get("falseAlarmRate"),
            "seconds": round(self.seconds, 3),
        }

"""What is known of the features besides their names: a small YAML file, or what the recorder knows of its own.

time: time                # column of times, optional
label: is_attack          # column of labels, optional
features:
  cpu_percent: {unit: "%", description: busy share of all cores}
  memory_percent: {unit: "%"}
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from anomaly_detector.train.errors import DataError
from anomaly_detector.train.record import DESCRIPTIONS, UNITS


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureNotes:
    """Which columns to use and what they mean."""

    names: tuple[str, ...] = ()
    """In the model's order; empty: every column that is neither time nor label."""
    units: Mapping[str, str] = field(default_factory=lambda: UNITS)
    descriptions: Mapping[str, str] = field(default_factory=lambda: DESCRIPTIONS)
    time: str | None = None
    label: str | None = None

    def of(self, features: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str]]:
        """Return units and descriptions of these features, where there are any."""
        return (
            {name: self.units[name] for name in features if name in self.units},
            {name: self.descriptions[name] for name in features if name in self.descriptions},
        )


def read_notes(path: Path) -> FeatureNotes:
    """Read a features file. Raises DataError naming file and field."""
    try:
        value = yaml.safe_load(path.read_text())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not YAML: {error}") from None
    if not isinstance(value, dict) or not isinstance(value.get("features"), dict) or not value["features"]:
        raise DataError(f"{path}: features: expected a mapping of feature names to {{unit, description}}")
    if unknown := set(value) - {"features", "time", "label"}:
        raise DataError(f"{path}: unknown field {min(unknown)}; known are features, time, label")
    units: dict[str, str] = {}
    descriptions: dict[str, str] = {}
    for name, about in value["features"].items():
        if not isinstance(name, str):
            raise DataError(f"{path}: features: {name!r}: expected a name in quotes")
        notes = _about(about, f"{path}: features.{name}")
        units |= {name: notes["unit"]} if "unit" in notes else {}
        descriptions |= {name: notes["description"]} if "description" in notes else {}
    return FeatureNotes(
        names=tuple(value["features"]),
        units=units,
        descriptions=descriptions,
        time=_column(value, "time", path),
        label=_column(value, "label", path),
    )


def _about(about: Any, where: str) -> dict[str, str]:
    if about is None:
        return {}
    if not isinstance(about, dict) or set(about) - {"unit", "description"}:
        raise DataError(f"{where}: expected {{unit, description}}, got {about!r}")
    return {key: str(text) for key, text in about.items()}


def _column(value: dict[str, Any], name: str, path: Path) -> str | None:
    found = value.get(name)
    if found is not None and not isinstance(found, str):
        raise DataError(f"{path}: {name}: expected the name of a column, got {found!r}")
    return found

"""Train and register the demo's versions, one after the other, in one process: importing the libraries takes longer.

Reads a line from standard input before each version, so that training does not compete with what is being shown,
and prints one JSON object a version.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from anomaly_detector.train.features import FeatureNotes
from anomaly_detector.train.files import read_file
from anomaly_detector.train.order import Order
from anomaly_detector.train.pipeline import Recipe
from anomaly_detector.train.registry import Registry
from anomaly_detector.train.run import train_and_register

MODEL = "anomaly-detection-production"
ALIAS = "champion"
WINDOW = 500
"""Rows of a drift check, as in anomalymodel.yaml."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """One version of the story."""

    about: str
    recipe: Recipe
    alias: str | None = None


CHAPTERS = (
    Chapter("Trained with fifty trees.", Recipe(seed=1, parameters={"n_estimators": 50}), alias=ALIAS),
    Chapter("Trained with a hundred trees.", Recipe(seed=2)),
    Chapter("A mistake: half of all rows are called anomalous.", Recipe(seed=3, contamination=0.5)),
    Chapter("A trap: Box-Cox knows no zero.", Recipe(seed=4, transforms=("boxcox:network_mbps",))),
)


def main() -> None:
    """Train each version when told to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tracking-uri", required=True)
    options = parser.parse_args()
    registry = Registry(options.tracking_uri)
    table = read_file(options.data, notes=FeatureNotes(), missing="refuse")
    for chapter in CHAPTERS:
        if not sys.stdin.readline():
            return
        order = Order(
            model=MODEL, recipe=chapter.recipe, about=chapter.about, alias=chapter.alias, force=True, window=WINDOW
        )
        trained = train_and_register(table, registry, order)
        print(json.dumps(trained.as_json()), flush=True)


if __name__ == "__main__":
    main()

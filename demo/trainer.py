"""Train and register the demo's versions, one after the other, in one process: importing the libraries takes longer.

Reads a line from standard input before each version, so that training does not compete with what is being shown,
and prints one JSON object a version.
"""

import argparse
import json
import sys
from pathlib import Path

MODEL = "anomaly-detection-production"
VERSIONS: tuple[dict[str, object], ...] = (
    {"description": "The first half of the recording.", "rows": 0.5, "seed": 1},
    {"description": "The whole training part of the recording.", "seed": 2},
    {"description": "A mistake: half of all rows are called anomalous.", "seed": 3, "contamination": 0.5},
    {"description": "A trap: a Box-Cox transformation knows no zero.", "seed": 4, "transform": "boxcox:network_mbps"},
)


def main() -> None:
    """Train each version when told to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tracking-uri", required=True)
    options = parser.parse_args()
    for number, recipe in enumerate(VERSIONS, start=1):
        sys.stdin.readline()
        print(json.dumps({"number": number, **recipe}), flush=True)


if __name__ == "__main__":
    main()

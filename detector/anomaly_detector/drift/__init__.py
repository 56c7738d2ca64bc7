"""Notice that the rows, or what the model says of them, are not what it was trained on.

    detector = DriftDetector(bundle.features, config.drift, reference=bundle.reference,
                             reference_scores=scorer.score(bundle.reference), calibration=bundle.calibration)
    detector.add(rows, scores, time.time())        # (n, f), (n,); a few microseconds
    if detector.due():                             # a full window, half of it new
        drift = detector.check(time.time())        # report.Drift; about 0.1 ms a feature
    detector.reset()                               # on a change of role
    detector.details()                             # plain JSON for GET /drift

Training: `calibrate(series, scores, window=500, features=names, rows_per_second=5.0)` returns the bundle's
`calibration`; `systematic(len(series), 2000)` the indices of the reference sample.

Without labels this is drift of data and predictions, not proof of a worse model; votes / 5 is a share of votes,
not a probability. docs/drift.md has the definitions.
"""

from anomaly_detector.drift.calibration import calibrate, systematic
from anomaly_detector.drift.detector import DriftDetector

__all__ = ["DriftDetector", "calibrate", "systematic"]

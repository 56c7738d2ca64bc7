"""What a drift was seen in: the worst features with their tests, for people and for the training that answers it."""

from collections.abc import Iterable
from typing import get_args

from anomaly_detector.report import FeatureDrift, Report
from anomaly_operator.domain.records import DriftedFeature, DriftEpisode, DriftTest, Json, Retraining, TestName
from anomaly_operator.domain.times import rfc3339

VOTES = 5
MOST_FEATURES = 5


def worst_features(reports: Iterable[Report], over: float) -> tuple[DriftedFeature, ...]:
    """Return the features in which pods see drift, most votes first, each as its worst pod measured it.

    `over` is the drift confidence above which there is drift: a share of the five votes.
    """
    seen: dict[str, list[FeatureDrift]] = {}
    for report in reports:
        for feature in report.drift.features:
            if feature.votes / VOTES > over:
                seen.setdefault(feature.feature, []).append(feature)
    ordered = sorted(seen.items(), key=lambda item: (-max(f.votes for f in item[1]), -len(item[1]), item[0]))
    return tuple(
        _drifted(max(measured, key=lambda f: (f.votes, f.wasserstein or 0.0)), len(measured))
        for _, measured in ordered[:MOST_FEATURES]
    )


def in_words(features: tuple[DriftedFeature, ...]) -> str:
    """Return the worst feature as a clause for the end of a sentence, nothing if none is known."""
    return f"; most in {features[0].feature}: {features[0].votes} of {VOTES} tests" if features else ""


def event(line: Retraining, drift: DriftEpisode | None, window: int) -> Json:
    """Return what a training is told of why it was started (docs/pod-contract.md); `window` is in rows."""
    told: Json = {"id": line.job, "trigger": line.trigger, "reason": line.reason}
    if line.trigger != "Drift" or drift is None:
        return told
    # The same for every try, so that a Job that failed late does not register a second version.
    told["id"] = f"{drift.revision}/{int(drift.since)}"
    told |= {"revision": drift.revision, "since": rfc3339(drift.since), "verdict": drift.verdict}
    told["evidence"] = [{"metric": e.metric, "value": e.value, "limit": e.limit} for e in drift.evidence]
    told["window"] = {"rows": window}
    if drift.window_start is not None:
        told["breachStart"] = rfc3339(drift.window_start)
        told["window"] |= {"start": rfc3339(drift.window_start), "seen": rfc3339(drift.since)}
    if drift.features:
        told["features"] = [_told(feature) for feature in drift.features]
    return told


def _drifted(measured: FeatureDrift, pods: int) -> DriftedFeature:
    limits = measured.thresholds or {}
    values: dict[TestName, float | None] = {name: getattr(measured, name) for name in get_args(TestName)}
    tests = tuple(
        DriftTest(test=name, value=value, threshold=limits.get(name))
        for name, value in values.items()
        if value is not None
    )
    return DriftedFeature(feature=measured.feature, votes=measured.votes, pods=pods, tests=tests)


def _told(drifted: DriftedFeature) -> Json:
    tests = {one.test: {"value": one.value, "threshold": one.threshold} for one in drifted.tests}
    return {"feature": drifted.feature, "votes": drifted.votes, "pods": drifted.pods, "tests": tests}

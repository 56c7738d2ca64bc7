"""From observations, drift checks and reports to points. Pure: nothing here does I/O."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from anomaly_detector.influx.lineprotocol import Field, line
from anomaly_detector.observer import Observation
from anomaly_detector.report import Drift, Report

SAMPLE_ONE_IN = 100
"""Of normal rows, with `write: sampled`."""
STATISTICS = ("ks", "wasserstein", "anderson", "jensenShannon", "welch")


class Clock:
    """Gives each point a time of its own: InfluxDB merges points of one series and time."""

    def __init__(self) -> None:
        self._last = 0

    def __call__(self, seconds: float) -> int:
        """Return nanoseconds since the epoch, later than any before."""
        self._last = max(int(seconds * 1e9), self._last + 1)
        return self._last


def predictions(
    seen: Observation,
    *,
    features: Sequence[str],
    tags: Mapping[str, str],
    write: Literal["all", "sampled", "anomalies"],
    clock: Clock,
    draw: Callable[[], float] = random.random,
) -> Iterator[str | None]:
    """Yield a point for each row that is to be written; None in between where many rows are passed over."""
    scored, tags = seen.scored, {**tags, "source": seen.source}
    for row in range(len(scored.scores)):
        anomalous = bool(scored.anomalous[row])
        weight = 1 if anomalous or write == "all" else SAMPLE_ONE_IN
        if not anomalous and (write == "anomalies" or (write == "sampled" and draw() * SAMPLE_ONE_IN >= 1)):
            yield None
            continue
        fields: dict[str, Field] = {
            "anomaly": anomalous,
            "score": float(scored.scores[row]),
            "confidence": None if scored.confidence is None else float(scored.confidence[row]),
            "id": scored.ids.get(row),
            "weight": weight,
        }
        values = seen.rows[row].tolist()
        fields |= {f"value_{name}": value for name, value in zip(features, values, strict=True)}
        yield line("anomaly_prediction", tags, fields, clock(seen.at))


def explanation(
    key: str, said: Mapping[str, Any], *, tags: Mapping[str, str], source: str, nanoseconds: int
) -> str | None:
    """Return the point of an explained anomaly, its top contributions as fields."""
    parts = said["contributions"]
    fields: dict[str, Field] = {
        "id": key,
        "text": said["text"],
        "interpretation": said["interpretation"],
        "base": said["base"],
        "top_feature": parts[0]["feature"] if parts else None,
    }
    for part in parts:
        fields[f"contribution_{part['feature']}"] = float(part["contribution"])
        fields[f"share_{part['feature']}"] = float(part["share"])
    return line("anomaly_explanation", {**tags, "source": source}, fields, nanoseconds)


def drift(found: Drift, *, tags: Mapping[str, str], nanoseconds: int) -> list[str | None]:
    """Return a point for the verdict and one for each of the worst features."""
    verdict: dict[str, Field] = {
        "verdict": found.verdict,
        "confidence": found.confidence,
        "calibrated": found.calibrated,
        "checks": found.checks,
    }
    points = [line("anomaly_drift", tags, verdict, nanoseconds)]
    for feature in found.features:
        fields: dict[str, Field] = {"votes": feature.votes}
        fields |= {name: getattr(feature, name) for name in STATISTICS}
        points.append(line("anomaly_drift", {**tags, "feature": feature.feature}, fields, nanoseconds))
    return points


def report(said: Report, *, tags: Mapping[str, str], nanoseconds: int) -> list[str | None]:
    """Return a point for the pod and one for each source of requests."""
    pod: dict[str, Field] = {
        "seq": said.seq,
        "rss_bytes": said.rssBytes,
        "open_user_connections": said.openUserConnections,
        "shadow_answered": said.shadow.answered,
        "shadow_failed": said.shadow.failed,
        "shadow_refused": said.shadow.refused,
        "shadow_dropped": said.shadow.dropped,
        "label_agreement": said.shadow.labelAgreement,
        "mean_score_difference": said.shadow.meanScoreDifference,
        "mean_own_milliseconds": said.shadow.meanOwnMilliseconds,
        "mean_other_milliseconds": said.shadow.meanOtherMilliseconds,
        "own_user_answers": said.ownUserAnswers,
        "passed_on": said.passedOn,
    }
    points = [line("anomaly_report", tags, pod, nanoseconds)]
    for source, counts in said.counts.items():
        fields: dict[str, Field] = {
            "served": counts.served,
            "failed": counts.failed,
            "shed": counts.shed,
            "client_errors": counts.clientErrors,
            "rows": said.rows.get(source, 0),
            "anomalies": said.anomalies.get(source, 0),
            "error_rate": counts.failed / counts.served if counts.served else None,
        }
        points.append(line("anomaly_report", {**tags, "source": source}, fields, nanoseconds))
    return points

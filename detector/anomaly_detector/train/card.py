"""The model card: what a person should know of a version, as the registry shows it."""

from collections.abc import Mapping
from typing import Any

from anomaly_detector.train.evaluate import Judgement


def card(
    *,
    about: str,
    recipe: Mapping[str, Any],
    data: Mapping[str, Any],
    judged: Judgement,
    calibration: Mapping[str, Any],
    comparison: str,
) -> str:
    """Return the description of a version, Markdown."""
    span = f", {data['from']} to {data['to']}" if "from" in data else ""
    chosen = ", ".join(f"{name} {value}" for name, value in recipe.items() if value not in ("", "None"))
    return "\n".join(
        [
            about or "An outlier detector for rows of numbers.",
            "",
            f"**Model.** {chosen}.",
            f"**Data.** {data['source']}: {data['rows']} rows{span}, SHA-256 {data['sha256'][:16]}….",
            f"**Measured** on the newest {judged.rows} rows, which it was not trained on: {_measured(judged)}",
            f"**Drift.** {_drift(calibration)}",
            f"**Against the version that had the alias.** {comparison}",
        ]
    )


def _measured(judged: Judgement) -> str:
    rate = f"anomaly rate {judged.anomaly_rate:.1%} (a share of rows called anomalous, no measure of quality)"
    proxy = f"ROC AUC {judged.proxy_roc_auc:.3f} against synthetic anomalies (a proxy: real ones may differ)"
    if judged.pr_auc is None:
        return f"{rate}; {proxy}; no labels."
    return (
        f"PR AUC {judged.pr_auc:.3f}, ROC AUC {judged.roc_auc:.3f}, precision {judged.precision:.3f},"
        f" recall {judged.recall:.3f} against labels; {rate}; {proxy}."
    )


def _drift(calibration: Mapping[str, Any]) -> str:
    if not calibration["calibrated"]:
        return f"Not calibrated: {calibration['windows']} windows of {calibration['window']} rows are too few."
    return (
        f"Thresholds from {calibration['windows']} windows of {calibration['window']} rows;"
        f" {calibration['falseAlarmRate']:.2%} of held-out checks were false alarms."
    )

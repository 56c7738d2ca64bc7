"""Explanations in words."""

from collections.abc import Sequence
from typing import Any

RARE = 5.0
"""Per cent of the training data on either side that make a value unusual."""
MATTERS = 0.15
"""Share from which a contribution is named in the interpretation."""
NAMED = 3


def text(contributions: Sequence[dict[str, Any]]) -> str:
    """Return the contributions as one line, the largest first."""
    return "; ".join(
        f"{c['feature']} {100 * c['share']:+.0f}% {c['direction']} ({_value(c)}, {_rarity(c['percentile'])})"
        for c in contributions
    )


def interpretation(contributions: Sequence[dict[str, Any]], *, anomalous: bool, confidence: float | None) -> str:
    """Return one sentence that says how anomalous a row is and which combination of values makes it so."""
    degree = "Anomalous" if anomalous else "Not anomalous"
    if confidence is not None:
        degree += f" (score above that of {_percent(100 * confidence)} of the training data)"
    wanted = "INCREASES" if anomalous else "DECREASES"
    causes = [c for c in contributions if c["direction"] == wanted and abs(c["share"]) >= MATTERS][:NAMED]
    if not causes:
        return f"{degree}: no single feature stands out."
    if not anomalous:
        return (
            f"{degree}: {_and([_described(c) for c in causes])} {'speak' if len(causes) > 1 else 'speaks'} for normal."
        )
    if len(causes) == 1:
        return f"{degree}, mainly because of {_described(causes[0])}."
    if all(_is_common(c["percentile"]) for c in causes):
        named = _and([f"{c['feature']} {_value(c)}" for c in causes])
        return f"{degree}: {named} are each common, but not together."
    return f"{degree}: {_described(causes[0])} together with {_and([_described(c) for c in causes[1:]])}."


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _described(contribution: dict[str, Any]) -> str:
    percentile = contribution["percentile"]
    how = ""
    if percentile is not None and not _is_common(percentile):
        how = "unusually high " if percentile > 50 else "unusually low "  # noqa: PLR2004 - per cent
    return f"{how}{contribution['feature']} ({_value(contribution)})"


def _is_common(percentile: float | None) -> bool:
    return percentile is not None and RARE <= percentile <= 100 - RARE


def _value(contribution: dict[str, Any]) -> str:
    value, unit = contribution["value"], contribution["unit"]
    if value is None:  # unlike what is missing, what is infinite has a place among the training data
        return {0.0: "minus infinity", 100.0: "infinity"}.get(contribution["percentile"], "missing")
    return f"{value:.4g} {unit}" if unit else f"{value:.4g}"


def _rarity(percentile: float | None) -> str:
    if percentile is None:
        return "not comparable"
    if percentile >= 50:  # noqa: PLR2004 - per cent
        return f"higher than {_percent(percentile)} of the training data"
    return f"lower than {_percent(100 - percentile)} of the training data"


def _percent(value: float) -> str:
    """Round so that 99.97 does not become 100: all of the data and nearly all are not the same."""
    if 99.9 < value < 100:  # noqa: PLR2004 - per cent
        return "over 99.9 %"
    return f"{value:.1f} %".replace(".0 %", " %")

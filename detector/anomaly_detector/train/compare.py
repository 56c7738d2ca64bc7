"""Decide whether a new version may take an alias from the version that holds it: only if it is not worse.

Pure: numbers in, a verdict with its words out. Both versions were judged on the same rows.
"""

from dataclasses import dataclass
from typing import Protocol


class Measured(Protocol):
    """What must be known of a version; see `evaluate.Judgement`."""

    @property
    def anomaly_rate(self) -> float: ...  # noqa: D102 - described there
    @property
    def proxy_roc_auc(self) -> float: ...  # noqa: D102
    @property
    def pr_auc(self) -> float | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far a new version may fall behind."""

    target_rate: float
    """Share of anomalies that users are used to: the holder's contamination."""
    rate_tolerance: float = 0.05
    """Absolute, in shares."""
    auc_tolerance: float = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether the new version is good enough, and the numbers that say so."""

    not_worse: bool
    reasons: tuple[str, ...]
    """One sentence a test, failed ones first."""

    def __str__(self) -> str:
        return "; ".join(self.reasons)


def compare(new: Measured, holder: Measured, limits: Limits) -> Verdict:
    """Compare two versions: with labels by PR AUC, otherwise by anomaly rate and the synthetic ROC AUC.

    A tie, and a step back within the tolerance, is not worse: newer data counts for something.
    """
    if new.pr_auc is not None and holder.pr_auc is not None:
        tests = [_auc("PR AUC", new.pr_auc, holder.pr_auc, limits)]
    else:
        tests = [
            _rate(new, holder, limits),
            _auc("ROC AUC (synthetic)", new.proxy_roc_auc, holder.proxy_roc_auc, limits),
        ]
    tests.sort(key=lambda test: test[0])
    return Verdict(not_worse=all(passed for passed, _ in tests), reasons=tuple(words for _, words in tests))


def _auc(name: str, new: float, holder: float, limits: Limits) -> tuple[bool, str]:
    passed = new >= holder - limits.auc_tolerance
    sign = "is not below" if passed else "is below"
    return passed, f"{name} {new:.3f} {sign} the holder's {holder:.3f} less {limits.auc_tolerance:g}"


def _rate(new: Measured, holder: Measured, limits: Limits) -> tuple[bool, str]:
    off, holder_off = abs(new.anomaly_rate - limits.target_rate), abs(holder.anomaly_rate - limits.target_rate)
    within = off <= limits.rate_tolerance
    sign = "is within" if within else "is not within"
    words = f"anomaly rate {new.anomaly_rate:.1%} {sign} {limits.target_rate:.1%} ± {limits.rate_tolerance:.1%}"
    if within:
        return True, words
    nearer = off <= holder_off
    return (
        nearer,
        f"{words}, {'but no' if nearer else 'and'} farther from it than the holder's {holder.anomaly_rate:.1%}",
    )

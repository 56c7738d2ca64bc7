"""Compare a new version with the holder of an alias, on the same rows, and move the alias if that is deserved."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomaly_detector.bundle import Bundle, BundleError, read_bundle
from anomaly_detector.report import PREFIX
from anomaly_detector.scoring.loading import RefusedError, load_model
from anomaly_detector.train.compare import Limits, Verdict, compare
from anomaly_detector.train.errors import RegistryError
from anomaly_detector.train.evaluate import Judgement, agreement, judge
from anomaly_detector.train.registry import Registry, Version
from anomaly_detector.train.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Rivalry:
    """How a new version stands against the holder of an alias."""

    alias: str | None
    holder: Version | None
    not_worse: bool
    words: str
    holder_judged: Judgement | None = None
    label_agreement: float | None = None

    def metrics(self) -> dict[str, float]:
        """Return what was measured of the holder, on the same rows."""
        found = self.holder_judged.metrics("holder") if self.holder_judged else {}
        return found | ({} if self.label_agreement is None else {"holder_label_agreement": self.label_agreement})

    def settle(self, registry: Registry, version: Version, *, force: bool) -> bool:
        """Move the alias to `version` if it deserves it or is forced; return whether it was moved.

        Raises RegistryError, too if somebody moved the alias since the comparison: it would not hold then.
        """
        if self.alias is None or not (self.not_worse or force):
            return False
        present = registry.holder(version.name, self.alias)
        was = self.holder.version if self.holder else None
        if (present.version if present else None) != was:
            raise RegistryError(
                f"alias {self.alias} of {version.name} was moved from version {was} to"
                f" {present.version if present else None} meanwhile; version {version.version} is registered without it"
            )
        registry.move_alias(version, self.alias)
        return True


def against_holder(
    registry: Registry,
    model: str,
    alias: str | None,
    *,
    new: Any,
    judged: Judgement,
    rows: Table,
    contamination: float,
    allow_pickle: bool,
) -> Rivalry:
    """Judge the holder of `alias` as the new model was judged, on the same rows, and compare.

    A holder that fails on these rows loses; one that cannot be loaded or has other features cannot be compared, and
    keeps the alias unless forced. Raises RegistryError.
    """
    holder = registry.holder(model, alias) if alias else None
    if holder is None:
        words = "No alias was asked for." if alias is None else f"No version had the alias {alias}."
        return Rivalry(alias=alias, holder=None, not_worse=True, words=words)
    try:
        other, _ = load_version(registry, holder, rows.features, allow_pickle=allow_pickle)
    except (RefusedError, BundleError) as error:
        words = f"Version {holder.version} cannot be compared with: {error}."
        return Rivalry(alias=alias, holder=holder, not_worse=False, words=words)
    try:
        theirs = judge(other, rows.rows, rows.labels)
    except ValueError as error:
        words = f"Version {holder.version} fails on these rows: {error}."
        return Rivalry(alias=alias, holder=holder, not_worse=True, words=words)
    limits = Limits(target_rate=float(holder.tags.get(PREFIX + "contamination", contamination)))
    verdict = compare(judged, theirs, limits)
    alike = agreement(new, other, rows.rows)
    return Rivalry(
        alias=alias,
        holder=holder,
        not_worse=verdict.not_worse,
        words=_words(holder, verdict, alike),
        holder_judged=theirs,
        label_agreement=alike,
    )


def _words(holder: Version, verdict: Verdict, alike: float) -> str:
    standing = "Not worse than" if verdict.not_worse else "Worse than"
    return f"{standing} version {holder.version}: {verdict}; both label {alike:.1%} of the rows alike (not judged)."


def load_version(
    registry: Registry, version: Version, features: tuple[str, ...], *, allow_pickle: bool
) -> tuple[Any, Bundle | None]:
    """Return a registered model and its bundle.

    Raises RefusedError if it may not be loaded or has other features, BundleError and RegistryError.
    """
    with tempfile.TemporaryDirectory() as folder:
        stored = registry.download(version, Path(folder))
        bundle = read_bundle(stored)
        if bundle is not None and bundle.features != features:
            raise RefusedError(f"it has the features {', '.join(bundle.features)}")
        model, _ = load_model(stored, allow_pickle=allow_pickle)
    count = getattr(model, "n_features_in_", len(features))
    if count != len(features):
        raise RefusedError(f"it has {count} features, the data {len(features)}")
    return model, bundle

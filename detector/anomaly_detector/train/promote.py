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
from anomaly_detector.train.order import Order
from anomaly_detector.train.registry import Registry, Version
from anomaly_detector.train.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Rivalry:
    """How a new version stands against the holder of an alias."""

    alias: str | None
    holder: Version | None
    """Who had the alias when the comparison began."""
    rival: Version | None
    """Who was compared with."""
    not_worse: bool
    words: str
    rival_judged: Judgement | None = None
    label_agreement: float | None = None

    def metrics(self) -> dict[str, float]:
        """Return what was measured of the rival, on the same rows."""
        found = self.rival_judged.metrics("holder") if self.rival_judged else {}
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


def rival_of(registry: Registry, order: Order) -> Version | None:
    """Return the version that a new one must not be worse than: the one that is named, else the alias's holder.

    Raises RegistryError.
    """
    if order.alias is None:
        return None
    if order.compare_with:
        return registry.version(order.model, order.compare_with)
    return registry.holder(order.model, order.alias)


def against_rival(registry: Registry, order: Order, *, new: Any, judged: Judgement, rows: Table) -> Rivalry:
    """Judge the rival, the version to compare with, as the new model was judged, on the same rows.

    A rival that fails on these rows loses; one that cannot be loaded or has other features cannot be compared, and
    the alias stays unless forced. Raises RegistryError.
    """
    alias = order.alias
    holder = registry.holder(order.model, alias) if alias else None
    rival = rival_of(registry, order)
    if rival is None:
        words = "No alias was asked for." if alias is None else f"No version had the alias {alias}."
        return Rivalry(alias=alias, holder=None, rival=None, not_worse=True, words=words)
    try:
        other, _ = load_version(registry, rival, rows.features, allow_pickle=order.allow_pickle)
    except (RefusedError, BundleError) as error:
        words = f"Version {rival.version} cannot be compared with: {error}."
        return Rivalry(alias=alias, holder=holder, rival=rival, not_worse=False, words=words)
    try:
        theirs = judge(other, rows.rows, rows.labels)
    except ValueError as error:
        words = f"Version {rival.version} fails on these rows: {error}."
        return Rivalry(alias=alias, holder=holder, rival=rival, not_worse=True, words=words)
    limits = Limits(target_rate=float(rival.tags.get(PREFIX + "contamination", order.recipe.contamination)))
    verdict = compare(judged, theirs, limits)
    alike = agreement(new, other, rows.rows)
    return Rivalry(
        alias=alias,
        holder=holder,
        rival=rival,
        not_worse=verdict.not_worse,
        words=_words(rival, verdict, alike),
        rival_judged=theirs,
        label_agreement=alike,
    )


def _words(rival: Version, verdict: Verdict, alike: float) -> str:
    standing = "Not worse than" if verdict.not_worse else "Worse than"
    return f"{standing} version {rival.version}: {verdict}; both label {alike:.1%} of the rows alike (not judged)."


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

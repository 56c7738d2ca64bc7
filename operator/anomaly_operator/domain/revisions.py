"""Which revision is wanted: version + digest + run + what the user says of pods, and why there may be none.

A revision's name is made from what the *user and the registry* say, never from the operator's own defaults or from
rendered text, and it leaves out whatever is at its default: so an upgrade of operator or chart names no new revision.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from anomaly_operator.domain import preflight, reasons
from anomaly_operator.domain.manifests.common import canonical_hash
from anomaly_operator.domain.manifests.pods import template
from anomaly_operator.domain.model import Desired, Observed, Resolved, Revision
from anomaly_operator.domain.spec import ModelSpec, Spec
from anomaly_operator.domain.spec_detector import DetectorSpec

_NAME_LENGTH = 10
_LIVE = {"replicas"}
"""Fields of spec.detector that are applied at once and make no new revision."""
_DEFAULT = DetectorSpec()


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why no revision can be rolled out now."""

    reason: str
    message: str
    stalled: bool
    """Whether it needs a person."""


def reference(model: ModelSpec) -> str:
    """Return what the registry is asked for: `alias champion`, `version 3`, `stage Production`."""
    if model.alias is not None:
        return f"alias {model.alias}"
    return f"version {model.version}" if model.version is not None else f"stage {model.stage}"


def wanted(observed: Observed, desired: Desired) -> Revision | Obstacle:
    """Return the revision that spec and registry want, as recorded or rendered anew; or why there is none."""
    if desired.spec_error is not None:
        return Obstacle(reason=reasons.INVALID_SPEC, message=desired.spec_error, stalled=True)
    resolved, model = desired.resolution, desired.spec.model
    if resolved is None or (resolved.reference, resolved.model) != (reference(model), model.name):
        words = f"asking the registry for {reference(model)} of {model.name}"
        return Obstacle(reason=reasons.RESOLVING, message=words, stalled=False)
    if not isinstance(resolved, Resolved) and resolved.reason == "Unreachable":
        words = f"the registry cannot be asked for {reference(model)} of {model.name}: see the condition ModelResolved"
        return Obstacle(reason=resolved.reason, message=words, stalled=False)
    if not isinstance(resolved, Resolved):
        return Obstacle(reason=resolved.reason, message=resolved.message, stalled=True)
    pinned = _pinned_digest(observed, resolved)
    objection = preflight.objection(observed, desired, resolved, pinned)
    if objection is not None:
        return Obstacle(reason=objection[0], message=objection[1], stalled=True)
    return _revision(observed, desired, resolved, resolved.digest or pinned or "")


def feature_change(before: Revision, after: Revision) -> str | None:
    """Return how the features of two revisions differ, None if they do not, as far as is known."""
    if not before.features or not after.features or before.features == after.features:
        return None
    added = [name for name in after.features if name not in before.features]
    removed = [name for name in before.features if name not in after.features]
    said = [f"it adds {', '.join(added[:10])}"] if added else []
    said += [f"it drops {', '.join(removed[:10])}"] if removed else []
    return "its features differ (" + ("; ".join(said) or "another order") + ")"


def _revision(observed: Observed, desired: Desired, resolved: Resolved, digest: str) -> Revision:
    spec = desired.spec
    name = _name(spec, resolved, digest)
    known = observed.revisions.get(name)
    if known is not None:
        return known
    return Revision(
        name=name,
        sequence=1 + max((revision.sequence for revision in observed.revisions.values()), default=0),
        version=resolved.version,
        digest=digest,
        run_id=resolved.run_id,
        source=resolved.source,
        contamination=resolved.contamination,
        template=template(observed.name, observed.namespace, spec, resolved, digest, desired.settings),
        retrained=resolved.retrained,
        features=resolved.features,
    )


def _pinned_digest(observed: Observed, resolved: Resolved) -> str | None:
    """Return the digest that this version and run had before, from its records, else from a pod that computed it."""
    same = [
        revision
        for revision in observed.revisions.values()
        if (revision.version, revision.run_id, revision.source) == (resolved.version, resolved.run_id, resolved.source)
    ]
    recorded = next((revision.digest for revision in same if revision.digest), None)
    if recorded is not None:
        return recorded
    names = {revision.name for revision in same}
    pods = (pod for track in observed.tracks.values() for pod in track.pods if pod.revision in names)
    return next((pod.fetched_digest for pod in pods if pod.fetched_digest), None)


def _name(spec: Spec, resolved: Resolved, digest: str) -> str:
    said = {
        "model": spec.model.name,
        "version": resolved.version,
        "digest": digest,
        "runId": resolved.run_id,
        "source": resolved.source,
        "trackingUri": spec.model.tracking_uri,
        "credentials": spec.model.credentials_secret_ref and spec.model.credentials_secret_ref.name,
        "allowPickle": spec.model.allow_pickle or None,
        "detector": _not_default(spec.detector),
        "influxdbToken": spec.influxdb
        and spec.influxdb.token_secret_ref
        and dataclasses.asdict(spec.influxdb.token_secret_ref),
    }
    return canonical_hash({key: value for key, value in said.items() if value is not None})[:_NAME_LENGTH]


def _not_default(detector: DetectorSpec) -> dict[str, Any]:
    said = {
        field.name: getattr(detector, field.name)
        for field in dataclasses.fields(detector)
        if field.name not in _LIVE and getattr(detector, field.name) != getattr(_DEFAULT, field.name)
    }
    return {key: dataclasses.asdict(value) if key == "cache" else value for key, value in said.items()}

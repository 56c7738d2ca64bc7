"""The children that do not depend on the step of a rollout, and when one has to be applied again."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from anomaly_operator.domain import names, reasons
from anomaly_operator.domain.actions import Action, ApplyChild, CreateRevision, Delete
from anomaly_operator.domain.manifests import access, config, services, workloads
from anomaly_operator.domain.manifests.common import spec_hash
from anomaly_operator.domain.model import Revision
from anomaly_operator.domain.ownership import holds
from anomaly_operator.domain.records import COLORS, Json
from anomaly_operator.domain.revisions import Obstacle
from anomaly_operator.domain.situation import Situation

AUTOSCALER = ("autoscaling/v2", "HorizontalPodAutoscaler")
BUDGET = ("policy/v1", "PodDisruptionBudget")
POLICY = ("networking.k8s.io/v1", "NetworkPolicy")
REVISION = ("apps/v1", "ControllerRevision")
_HELD: dict[tuple[tuple[str, ...], str], None] = {}
"""Pairs of managed fields and spec hash that were found to agree: it takes a third of a plan to find that out."""
_HELD_REMEMBERED = 50_000


def needs_apply(s: Situation, manifest: Mapping[str, Any]) -> bool:
    """Return whether an object is missing, older than what is wanted, or changed by somebody since it was applied."""
    key = (manifest["kind"], manifest["metadata"]["name"])
    child = s.observed.children.get(key)
    if child is None:
        return True
    if child.owner_uid != s.observed.uid:
        return False  # somebody else's: never touched
    wanted, applied = spec_hash(manifest), s.observed.applied.get(key)
    if child.spec_hash != wanted:
        return True
    return not _holds(child.owned, wanted, manifest) if applied is None else applied != (wanted, child.fingerprint)


def _holds(owned: tuple[str, ...], wanted: str, manifest: Mapping[str, Any]) -> bool:
    """Return whether the operator holds all that a manifest of this hash says; what was found once stays so."""
    if (owned, wanted) in _HELD:
        return True
    if not holds(owned, manifest):
        return False
    _HELD[owned, wanted] = None
    if len(_HELD) > _HELD_REMEMBERED:
        del _HELD[next(iter(_HELD))]
    return True


def apply(s: Situation, manifests: Iterable[Json]) -> Iterator[Action]:
    """Make and repair children."""
    for manifest in manifests:
        if needs_apply(s, manifest):
            yield ApplyChild(manifest=manifest)


def needed_by_pods(s: Situation) -> Iterator[Json]:
    """Return the manifests without which pods cannot do their work."""
    observed, spec = s.observed, s.spec
    yield access.service_account(observed)
    yield config.config_map(observed, spec, s.desired.settings)
    if not policy_is_missing(s):
        yield access.role_binding(observed)
    for color in COLORS:
        yield services.color_service(observed, color)
    previewed = s.memory.candidate or s.memory.standby
    yield services.preview_service(observed, previewed.color if previewed else None)


def others(s: Situation) -> Iterator[Json]:
    """Return the manifests of everything else: if one is refused, nothing else waits for it."""
    observed, spec = s.observed, s.spec
    if spec.autoscaling is not None and s.active is not None:
        yield workloads.autoscaler(observed, spec.autoscaling, s.active.color)
    if spec.pod_disruption_budget.enabled:
        for color in COLORS:
            yield workloads.disruption_budget(observed, color)
    if spec.network_policy.enabled:
        yield access.network_policy(observed, spec)


def record_revision(s: Situation, revision: Revision) -> CreateRevision:
    """Return the action that records a revision."""
    return CreateRevision(manifest=workloads.controller_revision(s.observed, revision))


def policy_is_missing(s: Situation) -> bool:
    """Return whether pods may not be allowed to patch pods, because nothing narrows it to their own annotations."""
    return s.desired.settings.require_policy and not s.observed.policy_in_place


def obstacle(s: Situation) -> Obstacle | None:
    """Return why children cannot be as they should be: somebody else's objects, or a missing policy."""
    taken = _taken(s)
    if taken:
        named = ", ".join(f"{kind} {name}" for kind, name in taken)
        words = f"{named} exists and is not this AnomalyModel's: delete or rename it, or rename the AnomalyModel"
        return Obstacle(reason=reasons.NAME_TAKEN, message=words, stalled=True)
    if policy_is_missing(s):
        words = (
            f"ValidatingAdmissionPolicy {names.POLICY} and a binding of it are missing, so detector pods get no right"
            " to report: install them (they are part of the chart), or set ANOMALY_OPERATOR_REQUIRE_POLICY=false"
        )
        return Obstacle(reason=reasons.POLICY_MISSING, message=words, stalled=True)
    return None


def _taken(s: Situation) -> list[tuple[str, str]]:
    """Return (kind, name) of the objects of others that bear names of children."""
    model, uid = s.observed.name, s.observed.uid
    theirs = {key for key, child in s.observed.children.items() if child.owner_uid != uid}
    if not theirs:
        return []
    ours = {(m["kind"], m["metadata"]["name"]) for m in (*needed_by_pods(s), *others(s))}
    ours |= {("Service", model), *(("Deployment", names.track(model, color)) for color in COLORS)}
    return sorted(ours & theirs)


def not_wanted(s: Situation) -> Iterator[Delete]:
    """Remove what spec has turned off, and revisions that nothing refers to any more."""
    model, spec = s.observed.name, s.spec
    if spec.autoscaling is None:
        yield from _delete(s, AUTOSCALER, names.detector(model))
    if not spec.network_policy.enabled:
        yield from _delete(s, POLICY, names.detector(model))
    if not spec.pod_disruption_budget.enabled:
        for color in COLORS:
            yield from _delete(s, BUDGET, names.track(model, color))
    for revision in _forgotten_revisions(s):
        yield Delete(api_version=REVISION[0], kind=REVISION[1], name=names.controller_revision(model, revision.name))


def _delete(s: Situation, kind: tuple[str, str], name: str) -> Iterator[Delete]:
    child = s.observed.children.get((kind[1], name))
    if child is not None and child.owner_uid == s.observed.uid:
        yield Delete(api_version=kind[0], kind=kind[1], name=name)


def _forgotten_revisions(s: Situation) -> list[Revision]:
    """Return the oldest revisions beyond the limit that nothing refers to."""
    memory = s.memory
    kept = {track.revision for track in (memory.active, memory.candidate, memory.standby, memory.retreat) if track}
    kept |= {entry.revision for entry in memory.history} | {entry.active for entry in memory.history}
    kept |= {q.revision for q in memory.quarantine} | {t.deployment.revision for t in _deployed(s) if t.deployment}
    if isinstance(s.wanted, Revision):
        kept.add(s.wanted.name)
    if memory.drift is not None and memory.drift.control is not None:
        kept.add(memory.drift.control)
    free = sorted(
        (r for r in s.observed.revisions.values() if r.name not in kept), key=lambda r: r.sequence, reverse=True
    )
    return free[s.spec.revision_history_limit :]


def _deployed(s: Situation) -> list[Any]:
    return [s.track(color) for color in COLORS]

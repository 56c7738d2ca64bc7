"""AnomalyModels in the midst of their lives, written to the API: no process stands behind their pods.

A model serves version 2 on green. A warm one has version 1 on blue still, as many pods; a cold one has let it go.
What is written is what the operator itself would have written: its own functions make it.
"""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from http_api import APPLY, MERGE, Api

from anomaly_detector import report as contract
from anomaly_devcluster.client import NAMESPACES, PODS
from anomaly_operator.adapters.kube import Kube
from anomaly_operator.crdgen import crd
from anomaly_operator.domain import children, history, names, revisions
from anomaly_operator.domain.manifests import services, workloads
from anomaly_operator.domain.manifests.pods import on_color
from anomaly_operator.domain.model import Desired, Observed, PodSettings, Resolved, Revision, RoleOrder
from anomaly_operator.domain.plan import expire
from anomaly_operator.domain.records import Color, Decision, Placed, Status
from anomaly_operator.domain.situation import Situation
from anomaly_operator.domain.spec import Spec

REGISTERED, ALIAS = "fleet", "champion"
IMAGE = "anomaly-detector:none"
REPLICAS = 2
"""Of a color; so a warm model has four pods and a cold one two: three on average."""
NAMESPACE_SIZE = 100
AGE = 900.0
"""Seconds for which version 2 of a warm model has served users: its standby is kept for as long again."""
_AT_ONCE = 8
_FEATURES = ("cpu_percent", "memory_percent", "network_mbps", "score")
_DIGESTS = {"1": "sha256:" + "1" * 64, "2": "sha256:" + "2" * 64}


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod without a process; `address` is where its stand-in listens."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Model:
    """One AnomalyModel of the fleet."""

    namespace: str
    name: str
    green: tuple[Pod, ...]
    blue: tuple[Pod, ...]

    @property
    def warm(self) -> bool:
        return bool(self.blue)


def version(number: str) -> dict[str, Any]:
    """Return a version as the registry tells of it."""
    tags = {"digest": _DIGESTS[number], "contamination": "0.15", "format": "skops", "size": "200000"}
    return {
        "name": REGISTERED,
        "version": number,
        "run_id": f"{number * 32}",
        "source": f"models:/m-{number * 32}",
        "status": "READY",
        "tags": [{"key": names.PREFIX + key, "value": value} for key, value in tags.items()],
    }


def report(order: RoleOrder, started_at: datetime, *, seq: int = 1) -> contract.Report:
    """Return a report of a pod that serves a little, fails nothing and sees no drift."""
    role = order.role
    source: contract.Source = "user" if role == "active" else "shadow"
    latency = [0] * (len(contract.LATENCY_BOUNDS_MS) + 1)
    latency[5], latency[6] = 280, 20
    return contract.Report(
        seq=seq,
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        bootId="stand-in",
        startedAt=started_at.isoformat(timespec="milliseconds"),
        role=role,
        roleSince=started_at.isoformat(timespec="milliseconds"),
        epoch=order.epoch,
        shadowPercent=order.shadow_percent,
        passThrough=order.pass_through,
        counts={source: contract.Counts(served=300)},
        rows={source: 1200},
        anomalies={source: 180},
        latency={source: tuple(latency)},
        rssBytes=180_000_000,
        drift=contract.Drift(
            verdict="ok",
            confidence=0.2,
            calibrated=True,
            checks=7,
            features=tuple(contract.FeatureDrift(feature=name, votes=1, ks=0.2, welch=1.1) for name in _FEATURES),
        ),
    )


def told(said: contract.Report) -> dict[str, str]:
    """Return the annotations with a report."""
    return {contract.REPORT: said.to_json(), contract.DRIFT_CONFIDENCE: "0.2", contract.ERROR_RATE: "0"}


def addresses(block: int) -> Iterator[str]:
    """Return addresses on loopback, each once; `block` keeps two runs apart."""
    return (f"127.{block}.{number >> 8}.{number & 255}" for number in range(1, 65_000))


def members(count: int, free: Iterator[str], *, first: int = 0, warm: bool | None = None) -> list[Model]:
    """Return models, every other one warm unless `warm` says which."""
    found = []
    for number in range(first, first + count):
        name, is_warm = f"model-{number}", number % 2 == 0 if warm is None else warm
        colors = [
            tuple(Pod(f"{name}-{color}-{n}", next(free)) for n in range(size))
            for color, size in (("green", REPLICAS), ("blue", REPLICAS if is_warm else 0))
        ]
        found.append(Model(f"fleet-{number // NAMESPACE_SIZE}", name, *colors))
    return found


async def define(api: Api) -> None:
    """Make AnomalyModels known."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    made = await api.done("POST", path, crd())
    while not any(c["type"] == "Established" for c in (made.get("status") or {}).get("conditions") or ()):
        await asyncio.sleep(0.05)
        made = await api.done("GET", f"{path}/{made['metadata']['name']}")


async def populate(api: Api, kube: Kube, models: Sequence[Model], settings: PodSettings) -> None:
    """Write models with everything that their rollouts would have left, as an operator with these settings does."""
    for namespace in sorted({model.namespace for model in models}):
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        await api.request("POST", NAMESPACES.path(), body)  # 409: it is there already
    remaining = iter(models)

    async def some() -> None:
        for model in remaining:
            await _write(api, kube, model, settings)

    await asyncio.gather(*(some() for _ in range(_AT_ONCE)))


async def reports(kube: Kube) -> int:
    """Return how many reports all pods have written, as their newest ones say."""
    pods, _ = await kube.list("Pod", labels=names.MODEL_LABEL)
    return sum(json.loads(pod["metadata"]["annotations"][contract.REPORT])["seq"] for pod in pods)


async def remove(api: Api, model: Model) -> None:
    """Delete a model and everything that bears its label, as the garbage collector would."""
    inside = f"namespaces/{model.namespace}"
    await api.done("DELETE", f"/apis/{names.API_VERSION}/{inside}/{names.PLURAL}/{model.name}")
    paths = (
        f"/api/v1/{inside}/pods", f"/api/v1/{inside}/services",
        f"/api/v1/{inside}/configmaps", f"/api/v1/{inside}/serviceaccounts",
        f"/apis/apps/v1/{inside}/deployments", f"/apis/apps/v1/{inside}/controllerrevisions",
        f"/apis/policy/v1/{inside}/poddisruptionbudgets", f"/apis/networking.k8s.io/v1/{inside}/networkpolicies",
        f"/apis/rbac.authorization.k8s.io/v1/{inside}/rolebindings",
    )  # fmt: skip
    for path in paths:
        listed = await api.done("GET", path, labelSelector=f"{names.MODEL_LABEL}={model.name}")
        body = {"gracePeriodSeconds": 0}
        await asyncio.gather(
            *(api.done("DELETE", f"{path}/{item['metadata']['name']}", body) for item in listed["items"])
        )


async def _write(api: Api, kube: Kube, model: Model, settings: PodSettings) -> None:
    made = await kube.create(names.KIND, model.namespace, _body(model))
    metadata = made["metadata"]
    observed = Observed(
        name=model.name, namespace=model.namespace, uid=metadata["uid"], generation=metadata["generation"]
    )
    spec = Spec.parse(made["spec"])
    old, new = (_revision(observed, spec, number, settings) for number in _DIGESTS)
    for revision in (old, new):
        await kube.create("ControllerRevision", model.namespace, workloads.controller_revision(observed, revision))
    decision = _decision(model, spec, old, new)
    for manifest in _children(observed, Desired(spec=spec, settings=settings), decision):
        await kube.apply(manifest)
    for color, revision, pods in (("green", new, model.green), ("blue", old, model.blue)):
        if pods:
            await _write_track(kube, observed, spec, color, revision)
            for pod in pods:
                await _write_pod(api, observed, color, revision, pod, _order(color, decision.epoch, model, spec))
    # The Service comes last: the decision on it is what makes the rest true.
    await kube.apply(services.users_service(observed, spec.service, decision))


def _decision(model: Model, spec: Spec, old: Revision, new: Revision) -> Decision:
    age = AGE if model.warm else 2 * spec.blue_green.scale_down_delay_seconds
    at = time.time() - age
    return Decision(
        revision=new.name,
        to=_placed("green", new),
        source=_placed("blue", old),
        outcome="Promoted",
        reason="Promoted",
        message="version 2 passed the analysis",
        time=at,
        started_at=at - 300,
        epoch=int(at),
    )


def _children(observed: Observed, desired: Desired, decision: Decision) -> Iterator[dict[str, Any]]:
    """Return everything else that a model has around it."""
    memory = history.complete(Status(), decision, desired.spec.revision_history_limit)
    situation = Situation(observed=observed, desired=desired, now=time.time(), memory=memory)
    memory = expire(situation)
    yield from children.needed_by_pods(situation.remembering(memory))
    yield from children.others(situation.remembering(memory))


async def _write_track(kube: Kube, observed: Observed, spec: Spec, color: Color, revision: Revision) -> None:
    await kube.apply(workloads.deployment(observed, spec, revision, color))
    await kube.scale("Deployment", observed.namespace, names.track(observed.name, color), REPLICAS)


def _order(color: Color, epoch: int, model: Model, spec: Spec) -> RoleOrder:
    """Return what pods of a color have been told."""
    if color == "blue":
        return RoleOrder(role="standby", epoch=epoch)
    percent = spec.blue_green.shadow.guard_percent if model.warm else 0.0
    return RoleOrder(role="active", epoch=epoch, shadow_percent=percent)


async def _write_pod(
    api: Api, observed: Observed, color: Color, revision: Revision, pod: Pod, order: RoleOrder
) -> None:
    template, now = on_color(observed.name, revision, color), datetime.now(UTC)
    said = told(report(order, now))
    own = {"name": pod.name, "namespace": observed.namespace}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"] | own, "spec": template["spec"]}
    path = PODS.path(observed.namespace)
    await api.done("POST", path, body)
    change = {"status": _running(pod, now)}
    await api.done("PATCH", f"{path}/{pod.name}/status", change, media=MERGE)
    # Applied, as a detector does: what was created under its name could not be applied again without a conflict.
    applied = {"apiVersion": "v1", "kind": "Pod", "metadata": own | {"annotations": said}}
    await api.done("PATCH", f"{path}/{pod.name}", applied, media=APPLY, manager=contract.FIELD_MANAGER)


def _body(model: Model) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": model.name, "namespace": model.namespace},
        "spec": {
            "model": {"name": REGISTERED, "alias": ALIAS},
            "detector": {"replicas": REPLICAS},
            "service": {"port": 8000},
        },
    }


def _revision(observed: Observed, spec: Spec, number: str, settings: PodSettings) -> Revision:
    said = version(number)
    resolved = Resolved(
        reference=revisions.reference(spec.model),
        model=REGISTERED,
        version=number,
        run_id=said["run_id"],
        source=said["source"],
        digest=_DIGESTS[number],
        contamination=0.15,
        artifact_format="skops",
        size=200_000,
    )
    desired = Desired(spec=spec, resolution=resolved, settings=settings)
    made = revisions.wanted(observed, desired)
    if not isinstance(made, Revision):
        raise TypeError(f"no revision: {made}")
    return made


def _placed(color: Color, revision: Revision) -> Placed:
    return Placed(
        color=color, revision=revision.name, version=revision.version, digest=revision.digest, run_id=revision.run_id
    )


def _running(pod: Pod, at: datetime) -> dict[str, Any]:
    now = at.isoformat(timespec="seconds").replace("+00:00", "Z")
    ready = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("Ready", "ContainersReady")]
    container = {
        "name": "detector",
        "image": IMAGE,
        "imageID": IMAGE,
        "ready": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": now}},
    }
    return {
        "phase": "Running",
        "podIP": pod.address,
        "podIPs": [{"ip": pod.address}],
        "startTime": now,
        "conditions": ready,
        "containerStatuses": [container],
    }

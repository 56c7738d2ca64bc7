"""A simulated world for tests of the plan: API objects, controllers, kubelet, detectors and a registry, all in memory.

It is the test's, not the product's: it knows nothing of plans. Time is virtual; the clock moves in `advance`.
"""

import itertools
import json
from dataclasses import dataclass, field
from typing import Any

from anomaly_detector.report import LATENCY_BOUNDS_MS, Counts, Drift, FeatureDrift, Report, Shadow
from anomaly_operator.domain import availability, codec, jobs, names, parse, revisions
from anomaly_operator.domain.actions import (
    ApplyChild,
    CreateRevision,
    Delete,
    EmitEvent,
    PublishDecision,
    Replay,
    Scale,
    StartJob,
    SwitchTraffic,
    TellRole,
    WriteStatus,
)
from anomaly_operator.domain.model import (
    Deployment,
    Desired,
    Observed,
    Pod,
    PodSettings,
    ReplayResult,
    Resolved,
    RoleOrder,
    Scalar,
    Track,
    Unresolved,
)
from anomaly_operator.domain.plan import Plan, plan
from anomaly_operator.domain.records import COLORS
from anomaly_operator.domain.spec import Spec
from anomaly_operator.domain.times import rfc3339

NAME, UID = "cpu-watch", "uid-1"
START = 1_800_000_000.0
SETTINGS = PodSettings(detector_image="detector", tracking_uri="http://mlflow", heartbeat_seconds=1.0)
SPEC: dict[str, Any] = {
    "model": {"name": "production", "alias": "champion"},
    "detector": {"replicas": 3},
    "blueGreen": {
        "prePromotionAnalysis": {"duration": "8s", "interval": "1s"},
        "scaleDownDelaySeconds": 60,
        "abortScaleDownDelaySeconds": 5,
    },
}


class ApiError(Exception):
    """The API server said no."""


@dataclass
class Quality:
    """How the pods of a version behave."""

    error_rate: float = 0.0
    drift: float = 0.2
    anomalies: float = 0.15
    latency_ms: float = 0.3
    rss: int = 100_000_000
    gets_ready: bool = True
    refuses: str | None = None
    contamination: float = 0.15
    digest: str | None = "tagged"
    features: tuple[str, ...] = ("cpu", "memory")
    size: int = 1_000_000
    scikit_learn: str = "1.9.1"


@dataclass
class SimPod:
    """A pod with its detector."""

    name: str
    uid: str
    ip: str
    color: str
    revision: str
    version: str
    created: float
    started_at: float
    ready: bool = False
    alive: bool = True
    """False: it crashed and never gets ready again."""
    role: str = "standby"
    epoch: int = 0
    role_since: float = 0.0
    shadow_percent: float = 0.0
    pass_through: bool = False
    seq: int = 0
    report: Report | None = None
    report_received: float | None = None
    annotations: dict[str, float] = field(default_factory=dict)
    """Set by hand."""


class World:
    """Everything around the plan."""

    def __init__(self, spec: dict[str, Any] | None = None) -> None:
        self.now = START
        self.spec = json.loads(json.dumps(spec or SPEC))
        self.generation = 1
        self.status: dict[str, Any] = {}
        self.command: str | None = None
        self.deleting = False
        self.service: dict[str, Any] | None = None
        self.deployments: dict[str, dict[str, Any]] = {}
        self.pods: list[SimPod] = []
        self.records: dict[str, dict[str, Any]] = {}
        self.children: dict[tuple[str, str], dict[str, Any]] = {}
        self.jobs: list[dict[str, Any]] = []
        self.events: list[EmitEvent] = []
        self.published: list[Any] = []
        self.qualities: dict[str, Quality] = {}
        self.alias: str | None = None
        self.registry_up = True
        self.policy_in_place: bool | None = True
        self.spec_error: str | None = None
        self.settings = SETTINGS
        self.requests = 40.0
        """Users' requests per second, of 8 rows each."""
        self.world_drift = 0.0
        """Drift that every version sees in the users' rows."""
        self.boot_seconds = 2.0
        self.image_scikit_learn = "1.9.1"
        self.full_shadow_since = START
        self.keeps_pods: set[str] = set()
        """Colors whose surplus pods do not go."""
        self.failing: set[str] = set()
        """Names of actions that fail."""
        self.switches: list[SwitchTraffic] = []
        self.changes = 0
        """Grows whenever the operator or a controller changes anything."""
        self._numbers = itertools.count(1)
        self.restart()

    # The operator's process

    def restart(self) -> None:
        """Lose everything volatile, as a killed operator does."""
        self.acknowledged: dict[str, RoleOrder] = {}
        self.smoke_tests: dict[str, ReplayResult] = {}
        self.replays: dict[str, ReplayResult] = {}
        self.applied: dict[tuple[str, str], tuple[str, str]] = {}
        self.shortages: dict[Any, availability.Shortage] = {}
        self.resolution: Resolved | Unresolved | None = None
        self.unreachable: str | None = None

    def plan(self) -> Plan:
        """Observe, and plan."""
        return plan(self.observed(), self.desired(), self.now)

    def reconcile(self, *, crash_after: int | None = None) -> Plan:
        """Plan once and execute; `crash_after` kills the operator after so many actions."""
        planned = self.plan()
        for count, action in enumerate(planned.actions):
            if crash_after is not None and count >= crash_after:
                self.restart()
                break
            if type(action).__name__ in self.failing:
                if isinstance(action, TellRole | Replay | EmitEvent | PublishDecision):
                    continue
                break
            try:
                self.execute(action)
            except ApiError:
                break
        return planned

    def settle(self, limit: int = 30) -> Plan:
        """Reconcile until nothing is left to do at this moment."""
        for _ in range(limit):
            before = self.changes
            planned = self.reconcile()
            self.controllers()
            if self.changes == before:
                return planned
        raise AssertionError(f"does not settle: {[type(a).__name__ for a in planned.actions]}")

    def run(self, seconds: float, step: float = 1.0) -> None:
        """Let time pass, reconciling as things happen."""
        end = self.now + seconds
        while self.now < end:
            self.advance(min(step, end - self.now))
            self.settle()

    def until(self, fact: Any, seconds: float = 120.0, step: float = 1.0) -> None:
        """Let time pass until a fact holds."""
        end = self.now + seconds
        self.settle()
        while not fact():
            assert self.now < end, f"never came to pass: {self.brief()}"
            self.advance(step)
            self.settle()

    # What the operator sees

    def desired(self) -> Desired:
        self.resolve()
        return Desired(
            spec=Spec.parse(self.spec),
            spec_error=self.spec_error,
            resolution=self.resolution,
            unreachable=self.unreachable,
            settings=self.settings,
        )

    def resolve(self) -> None:
        reference = revisions.reference(Spec.parse(self.spec).model)
        if not self.registry_up:
            self.unreachable = "connection refused"
            return
        self.unreachable = None
        version = self.alias
        if version is None:
            self.resolution = Unresolved(
                reference=reference, model="production", reason="NotFound", message="alias champion not found"
            )
            return
        quality = self.quality(version)
        self.resolution = Resolved(
            reference=reference,
            model="production",
            version=version,
            run_id=f"run-{version}",
            source=f"models:/m-{version}",
            digest=f"sha256:{version}" if quality.digest else None,
            contamination=quality.contamination,
            features=quality.features,
            size=quality.size,
            scikit_learn=quality.scikit_learn,
        )

    def observed(self) -> Observed:
        command, malformed = parse.command({names.COMMAND: self.command} if self.command else {})
        tracks = {color: self.track(color) for color in COLORS}
        self.shortages = availability.watch(self.shortages, tracks, self.now)
        tracks = {c: availability.applied(t, self.shortages[c]) for c, t in tracks.items()}
        found = [parse.revision(body) for body in self.records.values()]
        everything = [*self.children.values(), *([self.service] if self.service else [])]
        seen = [parse.child(body) for body in everything]
        return Observed(
            name=NAME,
            namespace="ops",
            uid=UID,
            generation=self.generation,
            deleting=self.deleting,
            command=command,
            malformed=malformed,
            status=codec.status_from_json(self.status),
            service=parse.users_service(self.service) if self.service else None,
            tracks=tracks,
            revisions={r.name: r for r in found if r is not None},
            children={(c.kind, c.name): c for c in seen},
            applied=self.applied,
            smoke_tests=self.smoke_tests,
            replays=self.replays,
            jobs=tuple(jobs.job(body) for body in self.jobs),
            policy_in_place=self.policy_in_place,
        )

    def track(self, color: Any) -> Track:
        body = self.deployments.get(color)
        deployment = None
        if body is not None:
            alive = [p for p in self.pods if p.color == color]
            deployment = Deployment(revision=body["revision"], replicas=body["replicas"], pods=len(alive))
        return Track(color=color, deployment=deployment, pods=tuple(map(self.pod, self.of_color(color))))

    def pod(self, pod: SimPod) -> Pod:
        def scalar(key: str) -> Scalar | None:
            return Scalar(value=pod.annotations[key], foreign=True) if key in pod.annotations else None

        return Pod(
            name=pod.name,
            uid=pod.uid,
            color=pod.color,  # type: ignore[arg-type]
            revision=pod.revision,
            ip=pod.ip,
            ready=pod.ready,
            started_at=pod.started_at,
            refusal=self.quality(pod.version).refuses,
            fetched_digest=f"sha256:{pod.version}",
            drift_confidence=scalar("drift"),
            error_rate=scalar("errors"),
            report=pod.report,
            report_received=pod.report_received,
            acknowledged=self.acknowledged.get(pod.uid),
        )

    # What the operator does

    def execute(self, action: Any) -> None:  # noqa: C901, PLR0912 - one case for each action
        match action:
            case SwitchTraffic():
                self.apply_service(action)
            case ApplyChild():
                self.apply(action.manifest)
            case CreateRevision():
                self.put(self.records, action.manifest["metadata"]["name"], plain(action.manifest))
            case Scale():
                if action.color not in self.deployments:
                    raise ApiError
                self.put(self.deployments[action.color], "replicas", action.replicas)
            case Delete():
                store: Any = self.records if action.kind == "ControllerRevision" else self.children
                key: Any = action.name if action.kind == "ControllerRevision" else (action.kind, action.name)
                self.changes += store.pop(key, None) is not None
            case WriteStatus():
                self.changes += 1
                self.status = json.loads(json.dumps(codec.to_json(action.status)))
            case TellRole():
                self.tell(action)
            case Replay():
                for _, uid, _ in action.pods:
                    self.changes += 1
                    self.replay(action, uid)
            case EmitEvent():
                if action.key not in {event.key for event in self.events}:
                    self.events.append(action)
            case PublishDecision():
                self.published.append(action.entry)
            case StartJob():
                self.start_job(plain(action.manifest))

    def put(self, store: Any, key: Any, value: Any) -> None:
        self.changes += store.get(key) != value
        store[key] = value

    def start_job(self, body: dict[str, Any]) -> None:
        if body["metadata"]["name"] not in {job["metadata"]["name"] for job in self.jobs}:
            body["metadata"]["creationTimestamp"] = rfc3339(self.now)
            self.jobs.append(body)
            self.changes += 1

    def apply_service(self, action: SwitchTraffic) -> None:
        current = self.service["metadata"]["resourceVersion"] if self.service else None
        if action.resource_version is not None and action.resource_version != current:
            raise ApiError
        body = plain(action.manifest)
        before = self.service["spec"]["selector"] if self.service else None
        body["metadata"]["resourceVersion"] = current
        stamp(body, self.service)
        if body != self.service:  # an identical apply changes nothing
            body["metadata"]["resourceVersion"] = str(next(self._numbers))
            if body["spec"]["selector"] != before:
                self.switches.append(action)
            self.service = body
            self.changes += 1
        self.remember_applied(body)

    def apply(self, manifest: Any) -> None:
        body = plain(manifest)
        key = (body["kind"], body["metadata"]["name"])
        stamp(body, self.children.get(key))
        self.put(self.children, key, body)
        self.remember_applied(body)
        if body["kind"] == "Deployment":
            color = body["metadata"]["labels"][names.COLOR_LABEL]
            revision = body["metadata"]["annotations"][names.REVISION_LABEL]
            known = self.deployments.get(color)
            self.deployments[color] = {"revision": revision, "replicas": known["replicas"] if known else 1}
            if known and known["revision"] != revision:
                self.pods = [p for p in self.pods if p.color != color]

    def remember_applied(self, body: dict[str, Any]) -> None:
        seen = parse.child(body)
        self.applied[(seen.kind, seen.name)] = (seen.spec_hash, seen.fingerprint)

    def tell(self, action: TellRole) -> None:
        pod = next((p for p in self.pods if p.uid == action.uid), None)
        if pod is None or not pod.alive or action.epoch < pod.epoch:
            return
        self.changes += 1
        if pod.role != action.role:
            pod.role_since = self.now
            pod.report = None
        if action.shadow_percent == 100 and pod.shadow_percent != 100:
            self.full_shadow_since = self.now
        pod.role, pod.epoch = action.role, action.epoch
        pod.shadow_percent, pod.pass_through = action.shadow_percent, action.pass_through
        self.acknowledged[pod.uid] = RoleOrder(
            role=action.role,
            epoch=action.epoch,
            shadow_percent=action.shadow_percent,
            pass_through=action.pass_through,
        )

    def replay(self, action: Replay, uid: str) -> None:
        pod = next((p for p in self.pods if p.uid == uid), None)
        results = self.smoke_tests if action.purpose == "smoke" else self.replays
        if pod is None or not pod.ready:
            results[uid] = ReplayResult(done=True, at=self.now, error="connection refused")
            return
        quality, requests = self.quality(pod.version), action.rows // 4
        results[uid] = ReplayResult(
            done=True,
            at=self.now,
            requests=requests,
            failed=round(requests * quality.error_rate),
            rows=action.rows,
            anomalies=round(action.rows * quality.anomalies),
            latency=histogram(quality.latency_ms, requests),
            rss_bytes=quality.rss,
        )

    # Everybody else

    def advance(self, seconds: float) -> None:
        """Let time pass for controllers, kubelet and detectors."""
        self.now += seconds
        self.controllers()
        for pod in self.pods:
            quality = self.quality(pod.version)
            booted = self.now - pod.created >= self.boot_seconds
            pod.ready = pod.alive and booted and quality.gets_ready and quality.refuses is None
        for pod in self.pods:
            if pod.ready:
                self.write_report(pod)

    def controllers(self) -> None:
        """Make as many pods as the Deployments want."""
        for color, body in self.deployments.items():
            own = [p for p in self.pods if p.color == color]
            for pod in own[body["replicas"] :] if color not in self.keeps_pods else ():
                self.pods.remove(pod)
                self.changes += 1
            for _ in range(body["replicas"] - len(own)):
                self.start_pod(color, body["revision"])

    def start_pod(self, color: str, revision: str) -> None:
        self.changes += 1
        number = next(self._numbers)
        record = self.records.get(names.controller_revision(NAME, revision))
        version = record["data"]["version"] if record else "?"
        self.pods.append(
            SimPod(
                name=f"{NAME}-{color}-{number}",
                uid=f"pod-{number}",
                ip=f"10.0.0.{number}",
                color=color,
                revision=revision,
                version=version,
                created=self.now,
                started_at=self.now,
            )
        )

    def write_report(self, pod: SimPod) -> None:
        quality, source = self.quality(pod.version), "user" if pod.role == "active" else "shadow"
        share = self.share_of(pod)
        served = round(self.requests * share * min(30.0, self.now - pod.role_since))
        rows = served * 8
        filled = self.now - pod.role_since >= 5.0 and served > 0
        confidence = max(quality.drift, self.world_drift) if filled else None
        over = confidence is not None and confidence > 0.5
        pod.seq += 1
        pod.report = Report(
            seq=pod.seq,
            time=rfc3339(self.now),
            bootId=pod.uid,
            startedAt=rfc3339(pod.started_at),
            role=pod.role,  # type: ignore[arg-type]
            epoch=pod.epoch,
            shadowPercent=pod.shadow_percent,
            passThrough=pod.pass_through,
            counts={source: Counts(served=served, failed=round(served * quality.error_rate))},
            rows={source: rows},
            anomalies={source: round(rows * quality.anomalies)},
            latency={source: histogram(quality.latency_ms, served)},
            rssBytes=quality.rss,
            scikitLearn=self.image_scikit_learn,
            drift=Drift(
                verdict="inconclusive" if confidence is None else "drift" if over else "ok",
                confidence=confidence,
                windowStart=rfc3339(max(pod.role_since, self.now - self.window_seconds(pod))),
                breachStart=rfc3339(max(pod.role_since, self.now - 8.0)) if over else None,
                features=features(confidence),
            ),
            shadow=self.compare(pod, rows),
            ownUserAnswers=1 if pod.role == "draining" else served,
            passedOn=2 if pod.pass_through else 0,
        )
        pod.report_received = self.now

    def window_seconds(self, pod: SimPod) -> float:
        """Return how long the drift window takes to fill: ten times as long with a tenth of the requests."""
        full = pod.role == "active" or self.now - self.full_shadow_since >= 4.0
        return 4.0 if full and (pod.role == "active" or self.share_of(pod) > 0.1) else 40.0

    def compare(self, pod: SimPod, rows: int) -> Shadow:
        others = [p for p in self.pods if p.color != pod.color and p.ready]
        if pod.role != "active" or not others or not pod.shadow_percent:
            return Shadow()
        theirs, own = self.quality(others[0].version), self.quality(pod.version)
        copied = round(rows * pod.shadow_percent / 100)
        return Shadow(
            sent=copied,
            answered=copied,
            rows=copied,
            ownAnomalies=round(copied * own.anomalies),
            otherAnomalies=round(copied * theirs.anomalies),
            otherRevision=others[0].revision,
        )

    def share_of(self, pod: SimPod) -> float:
        """Return which share of the users' requests, or of their copies, a pod gets."""
        if pod.role == "active":
            return 1 / max(1, len([p for p in self.pods if p.color == pod.color and p.ready]))
        sources = [p for p in self.pods if p.role == "active" and p.color != pod.color and p.ready]
        if not sources:
            return 0.0
        receivers = [p for p in self.pods if p.color == pod.color and p.ready]
        return sources[0].shadow_percent / 100 / max(1, len(receivers))

    # Questions and shortcuts for tests

    def quality(self, version: str) -> Quality:
        return self.qualities.setdefault(version, Quality())

    def of_color(self, color: str | None) -> list[SimPod]:
        return [p for p in self.pods if p.color == color]

    def selected(self) -> str | None:
        """Return the color that the users' Service selects."""
        return self.service["spec"]["selector"].get(names.COLOR_LABEL) if self.service else None

    def serving_version(self) -> str | None:
        """Return the version of the ready pods that users reach."""
        versions = {p.version for p in self.of_color(self.selected()) if p.ready}
        return versions.pop() if len(versions) == 1 else None

    def say(self, verb: str, **more: str) -> None:
        """Write a command as the CLI does."""
        self.command = json.dumps({"id": f"c{next(self._numbers)}", "verb": verb, "by": "ann", **more})

    def promote(self, version: str) -> None:
        """Move the alias and let the version become active."""
        self.alias = version
        self.until(lambda: self.serving_version() == version and self.phase == "Healthy")

    @property
    def phase(self) -> str:
        return str(self.status.get("phase"))

    def condition(self, kind: str) -> tuple[str, str]:
        found = next(c for c in self.status["conditions"] if c["type"] == kind)
        return found["status"], found["reason"]

    def outcomes(self) -> list[tuple[str, str, str]]:
        """Return (version, outcome, reason) of the history, newest first."""
        return [(e.get("version", ""), e["outcome"], e["reason"]) for e in self.status.get("history", ())]

    def quarantined(self) -> list[str]:
        return [entry["version"] for entry in self.status.get("quarantine", ())]

    def brief(self) -> str:
        keys = ("phase", "step", "message", "candidate", "standby", "trial", "retreat", "drift")
        short = {key: self.status.get(key) for key in keys}
        pods = [(p.color, p.version, p.ready, p.role) for p in self.pods]
        return json.dumps({"selected": self.selected(), **short, "pods": pods}, indent=1)


def features(confidence: float | None) -> tuple[FeatureDrift, ...]:
    """Return what a detector reports of a feature in which it sees so much drift, and of one that is well."""
    votes = round((confidence or 0.0) * 5)
    limits = {"ks": 0.05, "wasserstein": 0.3} if votes >= 3 else None
    drifting = FeatureDrift(feature="memory", votes=votes, ks=0.001, wasserstein=1.5, thresholds=limits)
    return (drifting, FeatureDrift(feature="cpu", votes=0, ks=0.6, wasserstein=0.1))


def histogram(milliseconds: float, requests: int) -> tuple[int, ...]:
    """Return a latency histogram with everything in one bucket."""
    counts = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    at = next((i for i, bound in enumerate(LATENCY_BOUNDS_MS) if milliseconds <= bound), len(LATENCY_BOUNDS_MS))
    counts[at] = requests
    return tuple(counts)


def plain(manifest: Any) -> dict[str, Any]:
    """Return a manifest as it comes back from the API."""
    result: dict[str, Any] = json.loads(json.dumps(manifest, default=dict))
    return result


def stamp(body: dict[str, Any], before: dict[str, Any] | None) -> None:
    """Give an applied object the metadata that the API server would: generation, managed fields."""
    old = before["metadata"] if before else {}
    same = before is not None and before.get("spec") == body.get("spec")
    body["metadata"]["uid"] = old.get("uid", f"uid-{body['kind']}-{body['metadata']['name']}")
    body["metadata"]["generation"] = old.get("generation", 0) + (0 if same else 1)

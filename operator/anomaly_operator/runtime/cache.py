"""The newest body of every watched object, by UID, with the moments at which what matters in it was first seen.

Fed by watches, by the answers to our own writes (so that a plan never sees less than was written), and replaced whole
by resyncs. It holds plain dicts, trimmed to what is read of them; nobody changes them.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from anomaly_detector import report as contract
from anomaly_operator.domain import names, parse
from anomaly_operator.runtime.trimming import trimmed
from anomaly_operator.runtime.workqueue import Key, Priority

Body = dict[str, Any]
T = TypeVar("T")
Concern = tuple[Key, Priority]
_NOTHING: Mapping[str, Body] = {}
_USUAL = {contract.ERROR_RATE: 0.0, contract.DRIFT_CONFIDENCE: 0.4}
"""What the annotations of a pod that is well say at most."""
_TOLD = ("bootId", "role", "epoch", "shadowPercent", "passThrough")
_GRAVES = 10_000
"""Deleted UIDs that are remembered, so that a LIST made before the deletion brings nothing back."""


class Cache:
    """Newest bodies, by kind and UID."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._bodies: dict[str, dict[str, Body]] = defaultdict(dict)
        self._names: dict[tuple[str, str, str], str] = {}
        self._members: dict[tuple[str, str, str], dict[str, Body]] = defaultdict(dict)
        self._received: dict[str, float] = {}
        self._gone: dict[str, str] = {}
        self._parsed: dict[str, dict[Any, Any]] = defaultdict(dict)

    def put(self, kind: str, body: Body) -> Concern | None:
        """Keep a body unless a newer one is known; returns who is concerned and how urgently, None if nobody."""
        metadata = body["metadata"]
        uid = metadata["uid"]
        before = self._bodies[kind].get(uid)
        if before is not None and not _newer(metadata, before["metadata"]):
            return None
        if uid in self._gone and not _newer(metadata, {"resourceVersion": self._gone[uid]}):
            return None
        body = trimmed(kind, body)
        self._drop_index(kind, before)
        self._parsed.pop(uid, None)
        self._bodies[kind][uid] = body
        self._names[kind, metadata.get("namespace", ""), metadata["name"]] = uid
        key = owner_key(kind, body)
        if key is not None:
            self._members[kind, *key][uid] = body
        elif before is not None:
            key = owner_key(kind, before)
        priority: Priority | None = Priority.NORMAL
        if kind == "Pod":
            self._note_receipt(body, before)
            priority = pod_priority(before, body)
        return None if key is None or priority is None else (key, priority)

    def lean(self, kind: str, body: Body) -> Body:
        """Return a body as this cache would keep it: the known one if that is the same, else its trimmed parts."""
        metadata = body["metadata"]
        known = self._bodies[kind].get(metadata["uid"])
        same = known is not None and known["metadata"].get("resourceVersion") == metadata.get("resourceVersion")
        return known if known is not None and same else trimmed(kind, body)

    def remove(self, kind: str, body: Body) -> Concern | None:
        """Drop a body that a watch says is deleted; returns who is concerned."""
        self._gone[body["metadata"]["uid"]] = body["metadata"].get("resourceVersion", "")
        if len(self._gone) > _GRAVES:
            del self._gone[next(iter(self._gone))]
        return self._drop(kind, body)

    def _drop(self, kind: str, body: Body) -> Concern | None:
        known = self._bodies[kind].pop(body["metadata"]["uid"], None)
        self._drop_index(kind, known)
        self._received.pop(body["metadata"]["uid"], None)
        self._parsed.pop(body["metadata"]["uid"], None)
        key = owner_key(kind, known or body)
        if key is None:
            return None
        return key, Priority.URGENT if kind in ("Pod", "Service") else Priority.NORMAL

    def drop(self, kind: str, namespace: str, name: str) -> None:
        """Drop what bears a name, as it is known to be gone."""
        known = self.get(kind, namespace, name)
        if known is not None:
            self._drop(kind, known)

    def missed(self, kind: str, bodies: Iterable[Body]) -> int:
        """Return how many objects of a LIST are newer than what is known: what the watch has not brought."""
        known = self._bodies[kind]
        return sum(
            uid not in self._gone and (uid not in known or _newer(body["metadata"], known[uid]["metadata"]))
            for body in bodies
            for uid in (body["metadata"]["uid"],)
        )

    def replace(self, kind: str, bodies: Iterable[Body], version: str, namespace: str | None) -> set[Key]:
        """Replace a kind (in one namespace, if given) by a LIST made at `version`; returns who is concerned.

        What became known after the LIST stays.
        """
        listed = {body["metadata"]["uid"]: body for body in bodies}
        found = [self.put(kind, body) for body in listed.values()]
        for uid, body in list(self._bodies[kind].items()):
            inside = namespace is None or body["metadata"].get("namespace") == namespace
            if inside and uid not in listed and not _newer(body["metadata"], {"resourceVersion": version}):
                found.append(self._drop(kind, body))
        return {concern[0] for concern in found if concern}

    def replace_members(self, kind: str, key: Key, bodies: Iterable[Body], version: str) -> None:
        """Replace what is labelled with one model by a LIST made at `version`."""
        listed = {body["metadata"]["uid"]: body for body in bodies}
        for body in listed.values():
            self.put(kind, body)
        for body in list(self.of_model(kind, key)):
            if body["metadata"]["uid"] not in listed and not _newer(body["metadata"], {"resourceVersion": version}):
                self._drop(kind, body)

    def get(self, kind: str, namespace: str, name: str) -> Body | None:
        """Return the newest body of a name, None if there is none."""
        uid = self._names.get((kind, namespace, name))
        return None if uid is None else self._bodies[kind].get(uid)

    def of_model(self, kind: str, key: Key) -> Iterable[Body]:
        """Return the bodies of a kind that are labelled with a model."""
        return self._members.get((kind, *key), _NOTHING).values()

    def parsed(self, body: Body, read: Callable[[Body], T]) -> T:
        """Return what `read` makes of a body of this cache, read once for each newest body."""
        known = self._parsed[body["metadata"]["uid"]]
        if read not in known:
            known[read] = read(body)
        value: T = known[read]
        return value

    def models(self) -> list[Body]:
        """Return all AnomalyModels."""
        return list(self._bodies["AnomalyModel"].values())

    def alarming(self, key: Key) -> bool:
        """Return whether any pod of a model may be a reason to roll back: to be looked at first by a new leader."""
        return any(_is_alarming(body) for body in self.of_model("Pod", key))

    def received(self, uid: str) -> float | None:
        """Return when a pod's report was first seen as it is, by this process's clock."""
        return self._received.get(uid)

    def counts(self) -> dict[str, int]:
        """Return how many objects of each kind are known."""
        return {kind: len(bodies) for kind, bodies in self._bodies.items()}

    def _drop_index(self, kind: str, body: Body | None) -> None:
        if body is None:
            return
        metadata = body["metadata"]
        name = (kind, metadata.get("namespace", ""), metadata["name"])
        if self._names.get(name) == metadata["uid"]:
            del self._names[name]
        key = owner_key(kind, body)
        if key is not None:
            members = self._members.get((kind, *key), {})
            members.pop(metadata["uid"], None)
            if not members:
                self._members.pop((kind, *key), None)

    def _note_receipt(self, body: Body, before: Body | None) -> None:
        text, uid, now = _annotations(body).get(contract.REPORT), body["metadata"]["uid"], self._clock()
        if text is None:
            self._received.pop(uid, None)
        elif before is None:
            # It may be old already: this process has only just begun to look.
            written = parse.written_at(body)
            self._received[uid] = now if written is None else min(now, written)
        elif _annotations(before).get(contract.REPORT) != text:
            self._received[uid] = now


def owner_key(kind: str, body: Body) -> Key | None:
    """Return the model that an object belongs to: itself, or the one that its label names."""
    metadata = body["metadata"]
    name = metadata["name"] if kind == names.KIND else (metadata.get("labels") or {}).get(names.MODEL_LABEL)
    return (metadata.get("namespace", ""), name) if name else None


def _annotations(body: Body) -> Mapping[str, str]:
    return body["metadata"].get("annotations") or {}


def _newer(metadata: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Return whether a resourceVersion is newer; one that is no number is taken as newer when it differs."""
    new, old = metadata.get("resourceVersion", ""), known.get("resourceVersion", "")
    return int(new) > int(old) if new.isdecimal() and old.isdecimal() else new != old


def pod_priority(before: Body | None, body: Body) -> Priority | None:
    """Return how urgently a change of a pod is to be looked at; None for a report that changes no verdict."""
    if before is None:
        return Priority.NORMAL
    old, new = _annotations(before), _annotations(body)
    if any(_rose(old.get(key), new.get(key)) for key in _USUAL) or _ready(before) != _ready(body):
        return Priority.URGENT
    was, verdict = _verdict(old.get(contract.REPORT)), _verdict(new.get(contract.REPORT))
    if was != verdict:
        more = verdict is not None and verdict.failed > (was.failed if was is not None else 0)
        return Priority.URGENT if more else Priority.NORMAL
    same = all(before.get(part) == body.get(part) for part in ("status", "spec"))
    return None if same and _stripped(before) == _stripped(body) else Priority.NORMAL


def _is_alarming(body: Body) -> bool:
    said = _annotations(body)
    verdict = _verdict(said.get(contract.REPORT))
    failed = verdict is not None and verdict.failed > 0
    return failed or not _ready(body) or any(_over(said.get(key), limit) for key, limit in _USUAL.items())


def _rose(before: str | None, text: str | None) -> bool:
    """Return whether an annotation is higher than it was; one that cannot be read is when it changes."""
    if text == before or text is None:
        return False
    try:
        return float(text) > float(before or 0)
    except ValueError:
        return True


def _over(text: str | None, limit: float) -> bool:
    """Return whether an annotation is over what is usual; what cannot be read is."""
    try:
        return text is not None and float(text) > limit
    except ValueError:
        return True


def _ready(body: Body) -> bool:
    conditions = (body.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _stripped(body: Body) -> Any:
    """Return the metadata without what a report changes."""
    metadata = body["metadata"]
    kept = {k: v for k, v in metadata.items() if k not in ("resourceVersion", "managedFields", "annotations")}
    return kept, {k: v for k, v in _annotations(body).items() if k != contract.REPORT}


class _Verdict(NamedTuple):
    """What in a report can change a plan."""

    told: tuple[Any, ...]
    drift: tuple[Any, ...]
    drained: bool
    failed: int


def _verdict(text: str | None) -> _Verdict | None:
    """Return what in a report can change a plan; None if it cannot be read."""
    try:
        report = json.loads(text or "null")
        drift = report.get("drift") or {}
        return _Verdict(
            told=tuple(report.get(name) for name in _TOLD),
            drift=(drift.get("verdict"), drift.get("confidence")),
            drained=not report.get("openUserConnections"),
            failed=sum(counts.get("failed", 0) for counts in report.get("counts", {}).values()),
        )
    except (ValueError, AttributeError, TypeError):
        return None

import json

import pytest

from anomaly_operator.domain.model import PodSettings, ReplayResult, RoleOrder
from anomaly_operator.runtime.cache import Cache
from anomaly_operator.runtime.memory import Memories
from anomaly_operator.runtime.observe import Observer

KEY = ("ns", "m")
LABEL = {"anomalymodel.dev/model": "m"}
OURS = [{"uid": "u", "controller": True}]


def body(kind, name, *, labels=None, owners=(), version="1", **more):
    metadata = {"name": name, "namespace": "ns", "uid": f"{kind}-{name}", "resourceVersion": version}
    return {"kind": kind, "metadata": metadata | {"labels": labels or {}, "ownerReferences": list(owners)}} | more


def anomaly_model(spec, *, generation=1, version="1", **status):
    made = body("AnomalyModel", "m", version=version, spec=spec, status=status)
    made["metadata"] |= {"uid": "u", "generation": generation}
    return made


def pod(name, *, started="2026-01-01T00:00:00Z", version="1"):
    running = {"name": "detector", "state": {"running": {"startedAt": started}}}
    return body(
        "Pod", name, labels=LABEL | {"anomalymodel.dev/color": "blue"}, version=version,
        status={"podIP": "127.0.0.9", "containerStatuses": [running]},
    )  # fmt: skip


GOOD = {"model": {"name": "registered", "alias": "champion"}}


@pytest.fixture
def world():
    cache, memories = Cache(), Memories()
    observer = Observer(cache, memories, PodSettings(detector_image="d"))
    return cache, observer


def test_a_model_that_is_not_there_has_no_view(world):
    assert world[1].view(KEY, 0) is None


def test_a_spec_that_does_not_parse_leaves_the_last_good_one_in_force(world):
    cache, observer = world
    cache.put("AnomalyModel", anomaly_model(GOOD | {"revisionHistoryLimit": 7}))
    assert observer.view(KEY, 0).desired.spec.revision_history_limit == 7
    cache.put("AnomalyModel", anomaly_model({"model": {}}, generation=2, version="2"))
    desired = observer.view(KEY, 0).desired
    assert desired.spec.revision_history_limit == 7
    assert desired.spec_error == "spec.model.name: is required"
    cache.put("AnomalyModel", anomaly_model(GOOD, generation=3, version="3"))
    assert observer.view(KEY, 0).desired.spec_error is None


def test_a_spec_that_has_never_parsed_here_is_guarded_with_defaults(world):
    cache, observer = world
    cache.put("AnomalyModel", anomaly_model({"model": {"name": "registered"}}))
    desired = observer.view(KEY, 0).desired
    assert "exactly one of" in desired.spec_error
    assert desired.spec.model.name == "registered"
    assert desired.spec.gates.error_rate.max == 0.01


def test_what_a_container_was_told_does_not_count_for_its_successor(world):
    cache, observer = world
    cache.put("AnomalyModel", anomaly_model(GOOD))
    cache.put("Pod", pod("p"))
    view = observer.view(KEY, 0)
    (seen,) = view.observed.tracks["blue"].pods
    order = RoleOrder(role="active", epoch=3)
    view.memory.acknowledged[seen.uid, seen.started_at] = order
    assert observer.view(KEY, 0).observed.tracks["blue"].pods[0].acknowledged == order
    cache.put("Pod", pod("p", started="2026-01-01T00:05:00Z", version="2"))
    assert observer.view(KEY, 0).observed.tracks["blue"].pods[0].acknowledged is None


def test_an_object_of_somebody_else_that_bears_our_name_is_seen_as_theirs(world):
    cache, observer = world
    cache.put("AnomalyModel", anomaly_model(GOOD))
    cache.put("Service", body("Service", "m", owners=[{"uid": "another", "controller": True}]))
    cache.put("Service", body("Service", "m-blue", labels=LABEL, owners=OURS))
    cache.put("Service", body("Service", "unrelated"))
    children = observer.view(KEY, 0).observed.children
    assert {name: child.owner_uid for (_, name), child in children.items()} == {"m": "another", "m-blue": "u"}


def test_a_revision_that_another_model_owns_is_not_ours(world):
    cache, observer = world
    cache.put("AnomalyModel", anomaly_model(GOOD))
    for name, owners in (("r1", OURS), ("r2", [{"uid": "before", "controller": True}])):
        data = {"name": name, "version": "1", "template": {"spec": {}}}
        cache.put("ControllerRevision", body("ControllerRevision", f"m-{name}", labels=LABEL, owners=owners, data=data))
    assert set(observer.view(KEY, 0).observed.revisions) == {"r1"}


def test_results_of_replays_are_forgotten_with_the_candidate_they_are_about(world):
    cache, observer = world
    candidate = {"color": "green", "revision": "r1", "since": "2026-01-01T00:00:00Z"}
    cache.put("AnomalyModel", anomaly_model(GOOD, candidate=candidate))
    observer.view(KEY, 0).memory.replays["p"] = ReplayResult(done=True, at=1.0)
    assert observer.view(KEY, 0).observed.replays
    cache.put("AnomalyModel", anomaly_model(GOOD, version="2", candidate=candidate | {"revision": "r2"}))
    assert not observer.view(KEY, 0).observed.replays


def test_a_model_made_anew_under_the_same_name_begins_with_an_empty_memory(world):
    cache, observer = world
    cache.put("AnomalyModel", anomaly_model(GOOD))
    observer.view(KEY, 0).memory.unreachable = "words"
    cache.remove("AnomalyModel", anomaly_model(GOOD, version="2"))
    anew = anomaly_model(GOOD, version="3")
    anew["metadata"]["uid"] = "another"
    cache.put("AnomalyModel", anew)
    assert observer.view(KEY, 0).memory.unreachable is None


def test_how_long_a_track_has_been_without_pods_is_remembered(world):
    cache, observer = world
    cache.put("AnomalyModel", anomaly_model(GOOD))
    cache.put("Deployment", body("Deployment", "m-blue", labels=LABEL, owners=OURS, spec={"replicas": 2}))
    assert observer.view(KEY, 100.0).observed.tracks["blue"].none_ready_since == 100.0
    assert observer.view(KEY, 107.0).observed.tracks["blue"].none_ready_since == 100.0


def test_a_job_is_seen_with_the_version_that_its_pod_registered(world):
    cache, observer = world
    cache.put("AnomalyModel", anomaly_model(GOOD))
    cache.put("Job", body("Job", "m-retrain-1", labels=LABEL, owners=OURS))
    ended = {"name": "train", "state": {"terminated": {"exitCode": 0, "message": json.dumps({"version": 4})}}}
    labels = LABEL | {"batch.kubernetes.io/job-name": "m-retrain-1"}
    cache.put("Pod", body("Pod", "m-retrain-1-x", labels=labels, status={"containerStatuses": [ended]}))
    (job,) = observer.view(KEY, 0).observed.jobs
    assert (job.name, job.version, job.message) == ("m-retrain-1", "4", "")


@pytest.mark.parametrize(
    ("said", "words", "version"),
    [
        ("--data pods: no pod gave its rows\n", "--data pods: no pod gave its rows", None),
        (
            json.dumps({"version": "5", "runId": "r", "aliasMoved": False, "verdict": "Worse than version 2"}),
            "version 5 was registered, but the alias stayed: Worse than version 2",
            "5",
        ),
        ("[1]", "[1]", None),
        ("", "container train ended with exit code 3 (Error)", None),
    ],
)
def test_a_failed_job_is_seen_with_the_words_of_its_pod(world, said, words, version):
    cache, observer = world
    cache.put("AnomalyModel", anomaly_model(GOOD))
    failed = {"type": "Failed", "status": "True", "message": "Job has reached the specified backoff limit"}
    cache.put("Job", body("Job", "m-retrain-1", labels=LABEL, owners=OURS, status={"conditions": [failed]}))
    ended = {"name": "train", "state": {"terminated": {"exitCode": 3, "message": said}}}
    labels = LABEL | {"batch.kubernetes.io/job-name": "m-retrain-1"}
    cache.put("Pod", body("Pod", "m-retrain-1-x", labels=labels, status={"containerStatuses": [ended]}))
    (job,) = observer.view(KEY, 0).observed.jobs
    assert (job.message, job.version) == (words, version)


def test_another_try_of_the_same_candidate_is_another_smoke_test(world):
    cache, observer = world
    candidate = {"color": "green", "revision": "r1", "since": "2026-01-01T00:00:00Z"}
    cache.put("AnomalyModel", anomaly_model(GOOD, candidate=candidate))
    observer.view(KEY, 0).memory.smoke_tests["p"] = ReplayResult(done=True, at=1.0, failed=9)
    cache.put("AnomalyModel", anomaly_model(GOOD, version="2"))
    observer.view(KEY, 0)
    cache.put("AnomalyModel", anomaly_model(GOOD, version="3", candidate=candidate))
    assert not observer.view(KEY, 0).observed.smoke_tests


def test_what_pods_were_told_is_forgotten_with_them(world):
    cache, observer = world
    cache.put("AnomalyModel", anomaly_model(GOOD))
    cache.put("Pod", pod("stays"))
    memory = observer.view(KEY, 0).memory
    order = RoleOrder(role="active", epoch=1)
    memory.acknowledged["Pod-stays", 1.0] = order
    memory.acknowledged["Pod-gone", 1.0] = order
    assert set(observer.view(KEY, 0).memory.acknowledged) == {("Pod-stays", 1.0)}

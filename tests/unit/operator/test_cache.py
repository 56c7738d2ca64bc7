import json

import pytest

from anomaly_detector.report import DRIFT_CONFIDENCE, ERROR_RATE, REPORT
from anomaly_operator.runtime.cache import Cache
from anomaly_operator.runtime.workqueue import Priority

KEY = ("ns", "m")


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def cache(clock):
    return Cache(clock=clock)


def pod(version, *, uid="u", name="m-blue-1", annotations=None, labels=None, ready=True, managed=()):
    return {
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": uid,
            "resourceVersion": str(version),
            "labels": {"anomalymodel.dev/model": "m"} if labels is None else labels,
            "annotations": annotations or {},
            "managedFields": list(managed),
        },
        "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def report(**more):
    return json.dumps({"seq": 1, "role": "active", "epoch": 3, "drift": {"verdict": "ok"}, "counts": {}} | more)


def test_an_older_body_never_replaces_a_newer_one(cache):
    cache.put("Pod", pod(10, ready=False))
    assert cache.put("Pod", pod(9)) is None
    assert cache.get("Pod", "ns", "m-blue-1") == pod(10, ready=False)


def test_what_was_deleted_is_not_brought_back_by_an_older_list(cache):
    cache.put("Pod", pod(10))
    cache.remove("Pod", pod(12))
    cache.replace("Pod", [pod(10)], "11", None)
    assert cache.get("Pod", "ns", "m-blue-1") is None
    assert list(cache.of_model("Pod", KEY)) == []


def test_what_was_made_after_a_list_survives_it(cache):
    cache.put("Pod", pod(20))
    assert cache.replace("Pod", [], "15", None) == set()
    assert cache.get("Pod", "ns", "m-blue-1") is not None


def test_a_list_drops_what_a_watch_missed_the_deletion_of(cache):
    cache.put("Pod", pod(20))
    assert cache.replace("Pod", [], "25", None) == {KEY}
    assert cache.get("Pod", "ns", "m-blue-1") is None


def test_a_list_of_one_namespace_leaves_the_others(cache):
    cache.put("Pod", pod(20))
    cache.replace("Pod", [], "25", "elsewhere")
    assert cache.get("Pod", "ns", "m-blue-1") is not None


def test_a_name_that_was_taken_over_leads_to_the_new_object(cache):
    cache.put("Pod", pod(10, uid="old"))
    cache.put("Pod", pod(12, uid="new"))
    cache.remove("Pod", pod(13, uid="old"))
    assert cache.get("Pod", "ns", "m-blue-1")["metadata"]["uid"] == "new"


def test_an_object_that_loses_its_label_still_concerns_its_model(cache):
    cache.put("Pod", pod(10))
    assert cache.put("Pod", pod(11, labels={}))[0] == KEY
    assert list(cache.of_model("Pod", KEY)) == []


def test_a_heartbeat_that_says_nothing_new_concerns_nobody(cache):
    cache.put("Pod", pod(10, annotations={REPORT: report(seq=1)}))
    assert cache.put("Pod", pod(11, annotations={REPORT: report(seq=2)})) is None


@pytest.mark.parametrize(
    ("annotations", "priority"),
    [
        ({REPORT: report(counts={"user": {"failed": 3}})}, Priority.URGENT),
        ({REPORT: report(), ERROR_RATE: "0.5"}, Priority.URGENT),
        ({REPORT: report(), ERROR_RATE: "many"}, Priority.URGENT),
        ({REPORT: report(), DRIFT_CONFIDENCE: "0.2"}, Priority.URGENT),
        ({REPORT: report(), ERROR_RATE: "0"}, Priority.NORMAL),
        ({REPORT: report(shadowPercent=10)}, Priority.NORMAL),
        ({REPORT: report(epoch=4)}, Priority.NORMAL),
        ({REPORT: report(drift={"verdict": "drift"})}, Priority.NORMAL),
        ({REPORT: "no JSON"}, Priority.NORMAL),
        ({REPORT: report(), "other": "x"}, Priority.NORMAL),
    ],
)
def test_a_report_that_says_something_new_is_looked_at(cache, annotations, priority):
    cache.put("Pod", pod(10, annotations={REPORT: report()}))
    assert cache.put("Pod", pod(11, annotations=annotations)) == (KEY, priority)


def test_a_pod_that_does_better_is_not_urgent(cache):
    bad = {REPORT: report(counts={"user": {"failed": 3}}), ERROR_RATE: "0.5", DRIFT_CONFIDENCE: "0.6"}
    cache.put("Pod", pod(10, annotations=bad))
    good = {REPORT: report(counts={"user": {"failed": 1}}), ERROR_RATE: "0.1", DRIFT_CONFIDENCE: "0.4"}
    assert cache.put("Pod", pod(11, annotations=good)) == (KEY, Priority.NORMAL)


def test_a_pod_that_is_no_longer_ready_or_gone_is_urgent(cache):
    cache.put("Pod", pod(10))
    assert cache.put("Pod", pod(11, ready=False)) == (KEY, Priority.URGENT)
    assert cache.remove("Pod", pod(12)) == (KEY, Priority.URGENT)


def test_a_report_is_received_when_its_value_was_first_seen(cache, clock):
    cache.put("Pod", pod(10))
    clock.now = 1010.0
    cache.put("Pod", pod(11, annotations={REPORT: report(seq=1)}))
    clock.now = 1020.0
    cache.put("Pod", pod(12, annotations={REPORT: report(seq=1)}, ready=False))
    assert cache.received("u") == 1010.0
    cache.put("Pod", pod(13, annotations={REPORT: report(seq=2)}))
    assert cache.received("u") == 1020.0


def test_a_report_that_was_there_before_us_is_as_old_as_its_managed_fields_say(cache, clock):
    clock.now = 1_800_000_000.0
    written = {"manager": "anomaly-detector", "operation": "Apply", "time": "2026-01-01T00:00:00Z"}
    cache.put("Pod", pod(10, annotations={REPORT: report()}, managed=[written]))
    assert cache.received("u") == 1767225600.0


def test_what_only_a_list_knows_is_counted(cache):
    cache.put("Pod", pod(10))
    assert cache.missed("Pod", [pod(10)]) == 0
    assert cache.missed("Pod", [pod(11), pod(5, uid="v", name="w")]) == 2
    cache.remove("Pod", pod(12))
    assert cache.missed("Pod", [pod(11)]) == 0


def test_of_a_list_only_what_is_kept_takes_room(cache):
    cache.put("Pod", pod(10))
    assert cache.lean("Pod", pod(10)) is cache.get("Pod", "ns", "m-blue-1")
    listed = pod(11) | {"spec": {"containers": []}}
    cache.replace("Pod", [cache.lean("Pod", listed)], "11", None)
    assert cache.get("Pod", "ns", "m-blue-1") == pod(11)


@pytest.mark.parametrize(
    "more",
    [
        {"annotations": {ERROR_RATE: "0.5"}},
        {"annotations": {DRIFT_CONFIDENCE: "0.6"}},
        {"annotations": {ERROR_RATE: "many"}},
        {"annotations": {REPORT: report(counts={"user": {"failed": 1}})}},
        {"ready": False},
    ],
)
def test_a_model_with_a_pod_that_is_not_well_is_alarming(cache, more):
    cache.put("Pod", pod(1, uid="well", name="m-blue-2", annotations={ERROR_RATE: "0", DRIFT_CONFIDENCE: "0.4"}))
    assert not cache.alarming(KEY)
    cache.put("Pod", pod(2, **more))
    assert cache.alarming(KEY)
    assert not cache.alarming(("ns", "other"))

"""When a model is trained anew, and what keeps that from happening twice."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.domain.world import World
from tests.unit.domain.worlds import guarded, serving

from anomaly_operator.domain.actions import StartJob
from anomaly_operator.domain.cron import Cron, CronError
from anomaly_operator.domain.times import parse_time, rfc3339

RETRAINING = {"enabled": True, "data": "/data/rows.csv", "minDriftDuration": "60s", "cooldown": "10m", "maxPerDay": 2}


def drifted(**retraining: Any) -> World:
    world = guarded(retraining=RETRAINING | retraining)
    world.run(9)
    world.world_drift = 0.8
    world.until(lambda: world.condition("Drifted")[0] == "True")
    return world


def finish(world: World, kind: str, reason: str = "BackoffLimitExceeded") -> None:
    """Let the newest Job end, of which no pod is left to say more."""
    at = rfc3339(world.now)
    ended = {"type": kind, "status": "True", "lastTransitionTime": at, "reason": reason, "message": "exit code 69"}
    world.jobs[-1]["status"] = {"completionTime": at, "conditions": [ended]}
    world.settle()
    assert world.status["retrainings"][0]["outcome"] == "Running", "a pod may be seen to end after its Job"
    world.run(5, step=5)


def told(job: dict[str, Any]) -> Any:
    """Return the event that a Job is told."""
    variables = job["spec"]["template"]["spec"]["containers"][0]["env"]
    return json.loads(next(v["value"] for v in variables if v["name"] == "ANOMALY_EVENT"))


def said(world: World, kind: str) -> str:
    return next(str(c["message"]) for c in world.status["conditions"] if c["type"] == kind)


def test_drift_that_holds_starts_one_job() -> None:
    world = drifted()
    assert not world.jobs
    world.run(120, step=5)
    assert len(world.jobs) == 1
    spec = world.jobs[0]["spec"]["template"]["spec"]["containers"][0]
    assert spec["command"] == ["anomaly-train"]
    assert spec["args"][:6] == ["--data", "/data/rows.csv", "--model", "production", "--like", "2"]
    assert spec["args"][6:10] == ["--alias", "champion", "--compare-with", "2"]
    assert world.status["retrainings"][0]["trigger"] == "Drift"
    assert world.status["retrainings"][0]["outcome"] == "Running"


def test_drift_that_passes_starts_none() -> None:
    world = drifted()
    world.world_drift = 0.0
    world.run(120, step=5)
    assert not world.jobs


def test_same_drift_is_answered_once() -> None:
    world = drifted()
    world.run(70, step=5)
    finish(world, "Complete")
    world.run(1500, step=30)
    assert len(world.jobs) == 1
    assert world.status["retrainings"][0]["outcome"] == "Succeeded"


def test_failed_job_changes_nothing_else_and_is_tried_again_after_the_cooldown() -> None:
    world = drifted()
    world.run(70, step=5)
    finish(world, "Failed")
    assert world.serving_version() == "2"
    world.run(400, step=20)
    assert len(world.jobs) == 1
    world.run(300, step=20)
    assert len(world.jobs) == 2
    assert told(world.jobs[0]) == told(world.jobs[1]), "the same event, so that no second version is registered"


def test_the_event_names_the_features_with_their_tests_thresholds_and_window() -> None:
    world = drifted()
    world.run(120, step=5)
    event = told(world.jobs[0])
    (feature,) = event["features"]
    assert (feature["feature"], feature["votes"], feature["pods"]) == ("memory", 4, 3)
    assert feature["tests"] == {
        "ks": {"value": 0.001, "threshold": 0.05},
        "wasserstein": {"value": 1.5, "threshold": 0.3},
    }
    assert event["window"] == {"rows": 500, "start": event["breachStart"], "seen": event["since"]}
    assert event["window"]["start"] < event["window"]["seen"]
    assert world.status["retrainings"][0]["reason"].endswith("most in memory: 4 of 5 tests")


def test_a_failed_retraining_is_a_condition_until_one_succeeds() -> None:
    world = drifted()
    assert "Retrained" not in {c["type"] for c in world.status["conditions"]}
    world.run(70, step=5)
    assert world.condition("Retrained") == ("Unknown", "Retraining")
    finish(world, "Failed")
    assert world.condition("Retrained") == ("False", "JobFailed")
    line = world.status["retrainings"][0]
    following = rfc3339((parse_time(line["endedAt"]) or 0) + 600)
    for words in (f"attempt 1 failed (Job {line['job']}, Drift): exit code 69", f"no other before {following}"):
        assert words in said(world, "Retrained")

    world.run(700, step=20)
    assert len(world.jobs) == 2
    assert world.condition("Retrained") == ("False", "JobFailed"), "not before it has succeeded"
    finish(world, "Complete")
    assert world.condition("Retrained") == ("True", "Retrained")


def test_a_deadline_is_told_from_other_failures() -> None:
    world = drifted()
    world.run(70, step=5)
    finish(world, "Failed", "DeadlineExceeded")
    assert world.condition("Retrained") == ("False", "DeadlineExceeded")


def test_the_pause_doubles_with_each_failure_in_a_row() -> None:
    world = drifted(maxPerDay=10)
    ends: list[float] = []
    starts: list[float] = []
    for tries in range(1, 5):
        world.until(lambda tries=tries: len(world.jobs) == tries, seconds=3600, step=30)
        starts.append(world.now)
        finish(world, "Failed")
        ends.append(world.now)
    pauses = [round((start - end) / 600) for start, end in zip(starts[1:], ends, strict=False)]
    assert pauses == [1, 2, 4]


def test_daily_budget_is_kept() -> None:
    world = drifted()
    for _ in range(8):
        world.run(300, step=30)
        if world.jobs and "status" not in world.jobs[-1]:
            finish(world, "Failed")
    assert len(world.jobs) == 2


def test_command_starts_a_job_at_once_and_another_one_is_refused_meanwhile() -> None:
    world = serving(retraining=RETRAINING)
    world.say("retrain")
    world.settle()
    assert len(world.jobs) == 1
    world.say("retrain")
    world.settle()
    assert world.status["lastCommand"]["outcome"] == "Refused"
    assert len(world.jobs) == 1


def test_command_is_refused_where_retraining_is_off() -> None:
    world = serving()
    world.say("retrain")
    world.settle()
    assert "spec.retraining.enabled is false" in world.status["lastCommand"]["message"]


def test_killed_before_the_job_was_created_it_is_created_once() -> None:
    world = serving(retraining=RETRAINING)
    world.say("retrain")
    for kills_after in range(6):
        world.reconcile(crash_after=kills_after)
    world.settle()
    assert len(world.jobs) == 1
    assert len(world.status["retrainings"]) == 1


def test_schedule_starts_a_job_at_its_time() -> None:
    world = serving(retraining=RETRAINING | {"schedule": "*/30 * * * *", "cooldown": "1m"})
    world.run(1700, step=50)
    assert not world.jobs
    world.run(200, step=50)
    assert [line["trigger"] for line in world.status["retrainings"]] == ["Schedule"]


def test_broken_schedule_is_said_and_breaks_nothing() -> None:
    world = serving(retraining=RETRAINING | {"schedule": "61 * * * *"})
    world.run(5)
    assert "minute: expected 0 to 59, got '61'" in " ".join(event.message for event in world.events)


def test_pods_windows_are_the_data_unless_others_are_named() -> None:
    world = serving(retraining={"enabled": True})
    world.say("retrain")
    world.settle()
    pod = world.jobs[0]["spec"]["template"]["spec"]
    assert {"name": "anomaly-pods", "secret": {"secretName": world.jobs[0]["metadata"]["name"]}} in pod["volumes"]
    assert pod["containers"][0]["args"][:2] == ["--data", "pods"]


SOURCE = {"url": "http://influx:8086", "org": "acme", "bucket": "metrics"}
QUERY = 'from(bucket: "m") |> range(start: v.timeRangeStart, stop: v.timeRangeStop)'


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"measurement": "system"}, ["--influx-bucket", "metrics", "--influx-measurement", "system"]),
        ({"query": QUERY}, ["--flux", f"option v = {{timeRangeStart: -30d, timeRangeStop: now()}}\n{QUERY}"]),
        (
            {"measurement": "system", "fields": {"cpu": "usage=x", "memory": "used"}},
            [
                *("--influx-bucket", "metrics", "--influx-measurement", "system"),
                *("--influx-field", "cpu=usage=x", "--influx-field", "memory=used"),
            ],
        ),
    ],
)
def test_points_of_the_source_are_the_data_where_influx_is_asked_for(source: Any, expected: list[str]) -> None:
    influxdb = SOURCE | source | {"tokenSecretRef": TOKEN}
    world = serving(retraining={"enabled": True, "data": "influx"}, source={"influxdb": influxdb})
    world.say("retrain")
    world.settle()
    pod = world.jobs[0]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["args"][: 2 + len(expected)] == ["--data", "influx", *expected]
    given = {variable["name"]: variable.get("value") for variable in container["env"]}
    (mount,) = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "anomaly-points"]
    assert given["INFLUXDB_TOKEN_FILE"] == f"{mount}/token"
    assert (given["INFLUXDB_URL"], given["INFLUXDB_ORG"]) == ("http://influx:8086", "acme")
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "anomaly-points"]
    items = [{"key": "t", "path": "token"}]
    assert volume["secret"] == {"secretName": "influx-login", "items": items, "optional": True}


TOKEN = {"name": "influx-login", "key": "t"}


def test_a_template_of_the_user_s_own_finds_the_secrets_of_the_spec_where_its_variables_say() -> None:
    template = {"spec": {"template": {"spec": {"containers": [{"name": "mine", "image": "mine"}] * 2}}}}
    world = serving(
        model={"name": "production", "alias": "champion", "credentialsSecretRef": {"name": "login"}},
        retraining={"enabled": True, "data": "influx", "jobTemplate": template},
        source={"influxdb": SOURCE | {"measurement": "system", "tokenSecretRef": TOKEN}},
        influxdb=SOURCE | {"bucket": "written", "tokenSecretRef": {"name": "writer"}},
    )
    world.say("retrain")
    world.settle()
    pod = world.jobs[0]["spec"]["template"]["spec"]
    secrets = {volume["name"]: volume["secret"]["secretName"] for volume in pod["volumes"]}
    for container in pod["containers"]:
        given = {variable["name"]: variable.get("value") for variable in container["env"]}
        mounted = {mount["mountPath"]: secrets[mount["name"]] for mount in container["volumeMounts"]}
        assert mounted == {
            given["ANOMALY_CREDENTIALS_DIR"]: "login",
            given["INFLUXDB_TOKEN_FILE"].removesuffix("/token"): "influx-login",
            given["ANOMALY_INFLUXDB_DIR"]: "writer",
        }
        assert (given["ANOMALY_INFLUXDB_URL"], given["ANOMALY_INFLUXDB_ORG"]) == ("http://influx:8086", "acme")
        assert given["ANOMALY_INFLUXDB_BUCKET"] == "written"


def test_a_job_that_was_left_suspended_is_begun() -> None:
    world = serving(retraining={"enabled": True})
    world.say("retrain")
    world.settle()
    assert world.jobs[0]["spec"]["suspend"] is True  # until the Secret is there
    assert "retraining.fromPods" in said(world, "Retrained")
    again = [action for action in world.plan().actions if isinstance(action, StartJob)]
    assert [action.manifest["metadata"]["name"] for action in again] == [world.jobs[0]["metadata"]["name"]]
    assert again[0].pods
    world.jobs[0]["spec"]["suspend"] = False
    assert [action for action in world.plan().actions if isinstance(action, StartJob)] == []


def test_a_job_that_can_never_begin_is_given_up_and_says_what_it_lacks() -> None:
    world = serving(retraining={"enabled": True, "deadline": "5m"})
    world.say("retrain")
    world.settle()
    world.run(400, step=20)
    (line,) = world.status["retrainings"]
    assert line["outcome"] == "Failed"
    assert "retraining.fromPods" in line["message"]


def test_a_new_version_is_measured_against_the_one_that_serves_users() -> None:
    world = serving(retraining=RETRAINING)
    world.say("retrain")
    world.settle()
    arguments = world.jobs[0]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[arguments.index("--compare-with") + 1] == world.serving_version()


def test_a_template_of_the_user_s_own_reads_the_pods_only_if_it_says_so() -> None:
    template = {"spec": {"template": {"spec": {"containers": [{"name": "mine", "image": "mine"}]}}}}
    for data, suspended in ((None, False), ("pods", True)):
        world = serving(retraining={"enabled": True, "jobTemplate": template} | ({"data": data} if data else {}))
        world.say("retrain")
        world.settle()
        spec = world.jobs[0]["spec"]
        assert spec.get("suspend", False) is suspended
        assert bool(spec["template"]["spec"].get("volumes")) is suspended
        names = {variable["name"] for variable in spec["template"]["spec"]["containers"][0]["env"]}
        assert ("ANOMALY_PODS_FILE" in names) is suspended
        assert {"ANOMALY_EVENT", "ANOMALY_TARGET_ALIAS", "ANOMALY_ACTIVE_VERSION"} <= names


@pytest.mark.parametrize(
    ("text", "at", "following", "last"),
    [
        ("0 3 * * *", "2026-03-01T02:59", "2026-03-01T03:00", "2026-02-28T03:00"),
        ("0 3 * * *", "2026-03-01T03:00", "2026-03-02T03:00", "2026-03-01T03:00"),
        ("*/15 9-17 * * mon-fri", "2026-03-06T17:50", "2026-03-09T09:00", "2026-03-06T17:45"),
        ("0 0 29 2 *", "2026-03-01T00:00", "2028-02-29T00:00", "2024-02-29T00:00"),
        ("0 0 13 * 5", "2026-03-10T00:00", "2026-03-13T00:00", "2026-03-06T00:00"),
        ("5,35 * * * 7", "2026-03-01T00:10", "2026-03-01T00:35", "2026-03-01T00:05"),
    ],
)
def test_cron_knows_its_next_and_last_time(text: str, at: str, following: str, last: str) -> None:
    def seconds(time: str) -> float:
        return datetime.fromisoformat(time).replace(tzinfo=UTC).timestamp()

    cron = Cron.parse(text)
    assert cron.after(seconds(at)) == seconds(following)
    assert cron.before(seconds(at)) == seconds(last)


@pytest.mark.parametrize("text", ["", "* * * *", "60 * * * *", "a * * * *", "5-1 * * * *", "*/0 * * * *", "* * 0 * *"])
def test_cron_says_what_it_cannot_read(text: str) -> None:
    with pytest.raises(CronError):
        Cron.parse(text)

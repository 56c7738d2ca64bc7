"""What a training Job and its pod say of how it ended."""

import json
from typing import Any

import pytest

from anomaly_operator.domain.jobs import job, said_by


def pod(*ended: dict[str, Any]) -> dict[str, Any]:
    return {"status": {"containerStatuses": [{"name": "train", "state": {"terminated": how}} for how in ended]}}


def failed(reason: str) -> dict[str, Any]:
    condition = {"type": "Failed", "status": "True", "reason": reason, "message": "the Job's own words"}
    return {"metadata": {"name": "j"}, "status": {"conditions": [condition]}}


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        ({"exitCode": 2, "message": "line 7: cpu: 'x' is no number\n"}, "line 7: cpu: 'x' is no number"),
        ({"exitCode": 137, "reason": "OOMKilled"}, "container train ended with exit code 137 (OOMKilled)"),
        ({"exitCode": 1, "message": ""}, "container train ended with exit code 1 (Error)"),
    ],
)
def test_a_failed_job_says_its_last_lines_or_else_how_it_ended(ended: dict[str, Any], words: str) -> None:
    read = job(failed("BackoffLimitExceeded"), said_by(pod(ended)))
    assert (read.failure, read.message) == ("JobFailed", words)


def test_a_job_of_which_no_pod_is_left_says_what_the_cluster_says() -> None:
    assert job(failed("BackoffLimitExceeded")).message == "the Job's own words"


def test_a_deadline_is_said_with_what_the_pod_said() -> None:
    read = job(failed("DeadlineExceeded"), said_by(pod({"exitCode": 143, "reason": "Error"})))
    assert read.failure == "DeadlineExceeded"
    assert read.message == "the Job's own words; container train ended with exit code 143 (Error)"


def test_a_version_that_lost_the_comparison_says_so() -> None:
    said = json.dumps({"version": "4", "runId": "r", "aliasMoved": False, "verdict": "0.71 against 0.90"})
    read = job(failed("PodFailurePolicy"), said_by(pod({"exitCode": 3, "message": said})))
    assert (read.failure, read.version, read.run_id) == ("NotBetter", "4", "r")
    assert read.message == "version 4 was registered, but the alias stayed: 0.71 against 0.90"


def test_a_container_that_ended_well_without_a_word_says_nothing() -> None:
    assert said_by(pod({"exitCode": 0, "reason": "Completed"})) == {}


def test_a_job_is_heard_once_a_pod_of_it_was_seen_to_end() -> None:
    assert not job(failed("BackoffLimitExceeded"), said_by({"status": {}})).heard
    assert job(failed("BackoffLimitExceeded"), said_by(pod({"exitCode": 1}))).heard

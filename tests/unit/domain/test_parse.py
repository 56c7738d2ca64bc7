"""Objects of the API become facts; what cannot be read is said and never raised."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_detector import report as contract
from anomaly_operator.domain import codec, names, parse
from anomaly_operator.domain.records import Decision, Placed

REPORT = contract.Report(
    seq=1, time="2026-03-01T12:00:00Z", bootId="b", startedAt="2026-03-01T11:00:00Z", role="active"
)
DETECTOR, KUBECTL = contract.FIELD_MANAGER, "kubectl-annotate"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def pod_body(annotations: dict[str, str] | None = None, *, managers: dict[str, list[str]] | None = None) -> Any:
    """Return a Pod; `managers` says who holds which annotation keys."""
    entries = [
        {
            "manager": manager,
            "operation": "Apply" if manager == DETECTOR else "Update",
            "time": "2026-03-01T12:00:05Z",
            "fieldsV1": {"f:metadata": {"f:annotations": {f"f:{key}": {} for key in keys}}},
        }
        for manager, keys in (managers or {}).items()
    ]
    return {
        "metadata": {
            "name": "m-blue-1",
            "uid": "u",
            "labels": {names.COLOR_LABEL: "blue", names.REVISION_LABEL: "r1"},
            "annotations": annotations or {},
            "managedFields": entries,
        },
        "status": {
            "podIP": "10.0.0.1",
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [
                {"name": "detector", "state": {"running": {"startedAt": "2026-03-01T11:00:00Z"}}, "lastState": {}}
            ],
        },
    }


def test_pod_is_read_from_its_labels_and_status() -> None:
    pod = parse.pod(pod_body())
    assert pod is not None
    assert (pod.color, pod.revision, pod.ip, pod.ready, pod.terminating) == ("blue", "r1", "10.0.0.1", True, False)
    assert pod.started_at == 1772362800.0


def test_pod_of_no_color_is_none_of_ours() -> None:
    assert parse.pod({"metadata": {"labels": {}}}) is None


def test_value_that_the_detector_holds_alone_is_its_own() -> None:
    key = contract.ERROR_RATE
    pod = parse.pod(pod_body({key: "0.02"}, managers={DETECTOR: [key]}))
    assert pod is not None
    assert pod.error_rate is not None
    assert not pod.error_rate.foreign


@pytest.mark.parametrize("managers", [{}, {KUBECTL: [contract.ERROR_RATE]}, None])
def test_value_that_somebody_else_set_is_foreign(managers: Any) -> None:
    pod = parse.pod(pod_body({contract.ERROR_RATE: "0.5"}, managers=managers))
    assert pod is not None
    assert pod.error_rate is not None
    assert pod.error_rate.foreign


def test_value_that_both_hold_counts_as_it_stands() -> None:
    key = contract.DRIFT_CONFIDENCE
    pod = parse.pod(pod_body({key: "0.6"}, managers={DETECTOR: [key], KUBECTL: [key]}))
    assert pod is not None
    assert pod.drift_confidence is not None
    assert pod.drift_confidence.foreign


@pytest.mark.parametrize("text", ["", "much", "nan", "inf", "-0.1", "1.1", "50%", "0,5"])
def test_malformed_number_is_no_evidence_and_is_said(text: str) -> None:
    pod = parse.pod(pod_body({contract.ERROR_RATE: text}))
    assert pod is not None
    assert pod.error_rate is None
    assert pod.malformed[0].key == contract.ERROR_RATE
    assert "expected a number from 0 to 1" in pod.malformed[0].problem


def test_malformed_report_is_no_evidence_and_is_said() -> None:
    pod = parse.pod(pod_body({contract.REPORT: '{"schemaVersion": 1, "seq": -1}'}))
    assert pod is not None
    assert pod.report is None
    assert "seq: expected a whole number" in pod.malformed[0].problem


def test_report_is_read() -> None:
    pod = parse.pod(pod_body({contract.REPORT: REPORT.to_json()}, managers={DETECTOR: [contract.REPORT]}))
    assert pod is not None
    assert pod.report == REPORT
    assert not pod.report_foreign


def test_time_of_the_detectors_last_write_is_the_api_servers() -> None:
    body = pod_body({}, managers={DETECTOR: [contract.REPORT], KUBECTL: ["x"]})
    assert parse.written_at(body) == 1772366405.0
    assert parse.written_at({}) is None


def test_exit_code_65_is_a_refusal_with_its_words() -> None:
    body = pod_body()
    ended = {"terminated": {"exitCode": 65, "message": "digest differs\n"}}
    body["status"]["initContainerStatuses"] = [{"name": "fetch", "state": ended}]
    pod = parse.pod(body)
    assert pod is not None
    assert pod.refusal == "digest differs"


def test_exit_code_69_is_trouble_and_no_refusal() -> None:
    body = pod_body()
    ended = {"terminated": {"exitCode": 69, "message": "registry: connection refused"}}
    body["status"]["initContainerStatuses"] = [{"name": "fetch", "state": ended}]
    pod = parse.pod(body)
    assert pod is not None
    assert pod.refusal is None
    assert pod.trouble == "fetch: exit code 69: registry: connection refused"


def test_a_container_that_fails_again_and_again_says_its_last_words_and_not_how_long_it_pauses() -> None:
    body = pod_body()
    ended = {"terminated": {"exitCode": 69, "message": "unavailable: the registry lists no files"}}
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed container"}}
    for last, words in ((ended, "exit code 69: unavailable: the registry lists no files"), ({}, "CrashLoopBackOff:")):
        body["status"]["initContainerStatuses"] = [{"name": "fetch", "state": waiting, "lastState": last}]
        pod = parse.pod(body)
        assert pod is not None
        assert f"fetch: {words}" in (pod.trouble or "")


def test_digest_of_the_first_pod_is_read_from_its_termination_message() -> None:
    body = pod_body()
    ended = {"terminated": {"exitCode": 0, "message": '{"digest": "sha256:ab"}'}}
    body["status"]["initContainerStatuses"] = [{"name": "fetch", "state": ended}]
    pod = parse.pod(body)
    assert pod is not None
    assert pod.fetched_digest == "sha256:ab"


def test_decision_is_read_from_the_service() -> None:
    decision = Decision(
        revision="r", to=Placed(color="blue", revision="r"), outcome="Promoted", reason="Promoted", time=5.0
    )
    text = json.dumps(codec.to_json(decision))
    body = {"metadata": {"annotations": {names.DECISION: text}, "resourceVersion": "7"}, "spec": {"selector": {}}}
    assert parse.users_service(body).decision == decision


@pytest.mark.parametrize("text", ["", "{", "[]", '{"revision": "r"}', '{"revision": 1}'])
def test_decision_that_cannot_be_read_is_none(text: str) -> None:
    assert parse.users_service({"metadata": {"annotations": {names.DECISION: text}}}).decision is None


def test_command_is_read_and_a_broken_one_is_said() -> None:
    command, malformed = parse.command({names.COMMAND: '{"id": "1", "verb": "promote", "by": "ann"}'})
    assert command is not None
    assert (command.verb, command.by, malformed) == ("promote", "ann", ())
    command, malformed = parse.command({names.COMMAND: '{"verb": "promote"}'})
    assert command is None
    assert malformed[0].key == names.COMMAND


def test_fingerprint_changes_when_somebody_takes_a_field() -> None:
    own = {"manager": names.FIELD_MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {"f:a": {}}}}
    less = {**own, "fieldsV1": {"f:spec": {}}}
    before, after = ({"metadata": {"uid": "u", "managedFields": [entry]}} for entry in (own, less))
    assert parse.fingerprint(before) != parse.fingerprint(after)
    assert parse.fingerprint(before) == parse.fingerprint(before | {"status": {"replicas": 3}})


@given(status=JSON)
def test_status_is_read_whatever_it_holds(status: Any) -> None:
    codec.status_from_json(status)


@given(data=JSON)
def test_annotations_are_read_whatever_they_hold(data: Any) -> None:
    text = json.dumps(data)
    annotations = {contract.REPORT: text, contract.ERROR_RATE: text, contract.DRIFT_CONFIDENCE: text}
    assert parse.pod(pod_body(annotations)) is not None
    parse.command({names.COMMAND: text})
    parse.users_service({"metadata": {"annotations": {names.DECISION: text}}})

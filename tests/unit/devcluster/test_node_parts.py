import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_devcluster.addresses import PodAddresses, service_address
from anomaly_devcluster.node import images, status
from anomaly_devcluster.node.images import ImageTable, UnknownImageError
from anomaly_devcluster.node.probes import Verdict
from anomaly_devcluster.node.volumes import write_atomically


def verdicts(kind, spec, results):
    verdict = Verdict(kind, spec)
    seen = []
    for result in results:
        verdict.observe(result)
        seen.append(verdict.healthy)
    return seen


def test_a_container_is_unready_until_its_first_success():
    assert verdicts("readiness", {}, [False, True]) == [False, True]


def test_readiness_is_lost_only_after_the_threshold_of_failures_in_a_row():
    results = [True, False, False, True, False, False, False]
    assert verdicts("readiness", {"failureThreshold": 3}, results) == [True, True, True, True, True, True, False]


def test_readiness_needs_as_many_successes_in_a_row_as_asked_for():
    results = [True, False, True, True]
    assert verdicts("readiness", {"successThreshold": 2}, results) == [False, False, False, True]


def test_a_container_is_alive_until_it_has_failed_often_enough():
    assert verdicts("liveness", {"failureThreshold": 2}, [False, False]) == [True, False]


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 4), st.integers(1, 4))
def test_a_verdict_changes_only_after_a_full_row_of_equal_results(results, successes, failures):
    verdict = Verdict("readiness", {"successThreshold": successes, "failureThreshold": failures})
    for index, result in enumerate(results):
        if verdict.observe(result):
            row = successes if result else failures
            assert results[max(0, index + 1 - row) : index + 1] == [result] * row
            assert verdict.healthy is result


def container(state, *, ready=False, last=None):
    return {"name": "c", "state": state, "ready": ready, "lastState": last or {}}


RUNNING, WAITING = {"running": {}}, {"waiting": {}}
DONE, FAILED = {"terminated": {"exitCode": 0}}, {"terminated": {"exitCode": 1}}


@pytest.mark.parametrize(
    ("policy", "initialization", "containers", "phase"),
    [
        ("Always", "waiting", [container(WAITING)], "Pending"),
        ("Never", "failed", [container(WAITING)], "Failed"),
        ("Always", "complete", [container(WAITING)], "Pending"),
        ("Always", "complete", [container(RUNNING), container(WAITING)], "Running"),
        ("Always", "complete", [container(WAITING, last=FAILED)], "Running"),
        ("Always", "complete", [container(DONE)], "Running"),
        ("Never", "complete", [container(DONE)], "Succeeded"),
        ("Never", "complete", [container(DONE), container(FAILED)], "Failed"),
        ("OnFailure", "complete", [container(DONE)], "Succeeded"),
        ("OnFailure", "complete", [container(FAILED)], "Running"),
    ],
)
def test_the_phase_follows_from_the_containers(policy, initialization, containers, phase):
    assert status.phase(policy, initialization, containers) == phase


def test_a_condition_keeps_its_time_until_its_status_changes():
    pod = {"spec": {}, "status": {}}
    first = status.conditions(pod, "complete", [container(RUNNING)], "then")
    pod["status"]["conditions"] = first
    second = {c["type"]: c for c in status.conditions(pod, "complete", [container(RUNNING, ready=True)], "now")}
    assert second["Ready"]["status"] == "True"
    assert second["Ready"]["lastTransitionTime"] == "now"
    assert second["Initialized"]["lastTransitionTime"] == "then"


def test_conditions_of_others_are_kept():
    pod = {"spec": {}, "status": {"conditions": [{"type": "example.com/warm", "status": "True"}]}}
    assert "example.com/warm" in [c["type"] for c in status.conditions(pod, "complete", [], "now")]


def test_a_readiness_gate_holds_readiness_back():
    pod = {"spec": {"readinessGates": [{"conditionType": "warm"}]}, "status": {}}
    conditions = status.conditions(pod, "complete", [container(RUNNING, ready=True)], "now")
    assert {c["type"]: c["status"] for c in conditions}["Ready"] == "False"


def test_a_pods_address_is_not_given_to_the_next_one():
    addresses = PodAddresses(ipaddress.IPv4Network("127.64.0.0/16"))
    first = addresses.take()
    addresses.release(first)
    assert addresses.take() != first


def test_a_pod_keeps_its_address_over_a_restart_of_the_node():
    assert PodAddresses(ipaddress.IPv4Network("127.64.0.0/16")).take("127.64.3.4") == "127.64.3.4"


def test_addresses_run_out_with_an_error_that_names_the_block():
    addresses = PodAddresses(ipaddress.IPv4Network("127.64.0.0/27"))
    with pytest.raises(OSError, match=r"127\.64\.0\.0/27"):
        [addresses.take() for _ in range(40)]


def test_a_service_address_of_a_real_network_is_moved_to_loopback():
    assert service_address("10.96.12.34", 3) == "127.131.12.34"
    assert service_address("127.128.0.9", 0) == "127.128.0.9"


def test_an_image_is_found_with_and_without_its_tag(tmp_path):
    table = ImageTable(tmp_path / "images.json")
    table.load("registry.example/team/web", ["web"])
    table.load("web:2", ["web", "two"])
    assert table.command("registry.example/team/web:1.2.3") == ["web"]
    assert table.command("web:2") == ["web", "two"]


def test_an_unknown_image_says_how_to_load_it(tmp_path):
    with pytest.raises(UnknownImageError, match="devcluster load-image web:3=COMMAND"):
        ImageTable(tmp_path / "images.json").command("web:3")


@pytest.mark.parametrize("text", ["web", "web=", "=run", ""])
def test_an_assignment_that_is_none_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="expected NAME=COMMAND"):
        images.parse(text)


def test_files_are_replaced_all_at_once(tmp_path):
    write_atomically(tmp_path, {"a": (b"1", 0o644), "deep/b": (b"1", 0o644)})
    opened = (tmp_path / "..data").resolve()
    assert write_atomically(tmp_path, {"a": (b"2", 0o644)})
    assert (tmp_path / "a").read_bytes() == b"2"
    assert not (tmp_path / "deep").exists()
    assert not opened.exists()


def test_files_that_did_not_change_are_left_alone(tmp_path):
    files = {"a": (b"1", 0o644)}
    write_atomically(tmp_path, files)
    assert not write_atomically(tmp_path, files)

"""The operator as a process: start, two replicas, signals, its own port."""

import json
import time
import urllib.error
import urllib.request
from datetime import datetime

import pytest
from tests.plugins.installed_chart import SYSTEM

from anomaly_operator.adapters.webhook import DELIVERY, SIGNATURE, TIMESTAMP, signature

pytestmark = pytest.mark.e2e


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=90) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def at(line):
    return datetime.fromisoformat(line["time"])


def lease(cluster, field):
    return cluster.kubectl("get", "lease", "anomaly-operator", "-n", SYSTEM, "-o", f"jsonpath={{.spec.{field}}}")


def holder(cluster):
    return lease(cluster, "holderIdentity")


def test_the_replica_that_stands_by_leads_after_a_graceful_end_before_the_lease_is_over(start_operator, defined):
    first = start_operator("graceful-1", LEASE_SECONDS="20")
    first.wait_for("leader")
    second = start_operator("graceful-2", LEASE_SECONDS="20")
    second.wait_for("synced")
    assert holder(defined) == "graceful-1"
    assert first.terminate() == 0
    led, released = second.wait_for("leader"), first.wait_for_last("standing by")
    assert (at(led) - at(released)).total_seconds() < 10
    assert holder(defined) == "graceful-2"
    assert second.terminate() == 0
    assert holder(defined) == ""


def test_a_killed_leader_is_replaced_in_less_than_ten_seconds_and_not_before_its_lease_ends(start_operator, defined):
    first = start_operator("killed-1", LEASE_SECONDS="5")
    first.wait_for("leader")
    second = start_operator("killed-2", LEASE_SECONDS="5")
    second.wait_for("synced")
    assert holder(defined) == "killed-1"
    renewed = datetime.fromisoformat(lease(defined, "renewTime"))
    killed = time.time()
    first.kill()
    led = at(second.wait_for("leader"))
    assert (led - renewed).total_seconds() >= 5
    assert led.timestamp() - killed < 10
    assert second.terminate() == 0


def test_health_readiness_and_metrics_are_served(start_operator):
    one = start_operator("healthy")
    one.wait_for("leader")
    port = one.wait_for("listening")["port"]
    assert get(port, "/livez")[0] == 200
    assert get(port, "/readyz") == (200, "[+] synced: ok\n")
    status, text = get(port, "/metrics")
    assert status == 200
    assert "anomaly_operator_leader 1.0" in text
    assert get(port, "/webhooks/mlflow")[0] == 404
    assert one.terminate() == 0


def test_bad_settings_end_the_process_with_one_message(start_operator):
    one = start_operator("bad", PORT="many", LOG_LEVEL="loud")
    assert one.exit_code() == 2
    text = one.log.read_text()
    assert "ANOMALY_OPERATOR_PORT is 'many'" in text
    assert "ANOMALY_OPERATOR_LOG_LEVEL is 'loud'" in text


def test_a_verified_webhook_stamps_the_models_that_follow_the_registered_model(
    start_operator, defined, namespace, tmp_path
):
    secret = tmp_path / "secret"
    secret.write_text("tests only")
    for name, registered in (("follows", "hooked"), ("other", "something-else")):
        body = {
            "apiVersion": "anomalymodel.dev/v1alpha1",
            "kind": "AnomalyModel",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"model": {"name": registered, "alias": "champion", "pollInterval": "1h"}},
        }
        defined.kubectl("apply", "-f", "-", stdin=[body])
    one = start_operator("hooked", WEBHOOK_SECRET_FILE=str(secret))
    one.wait_for("leader")
    port = one.wait_for("listening")["port"]
    body = json.dumps({"entity": "model_version_alias", "action": "created", "data": {"name": "hooked"}}).encode()

    def deliver(key):
        now = str(int(time.time()))
        headers = {DELIVERY: "d-1", TIMESTAMP: now, SIGNATURE: signature(key, "d-1", now, body)}
        request = urllib.request.Request(f"http://127.0.0.1:{port}/webhooks/mlflow", body, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    assert deliver("a guess")[0] == 401
    assert deliver("tests only") == (202, {"models": 1})
    assert deliver("tests only")[0] == 409
    stamp = "jsonpath={.metadata.annotations.anomalymodel\\.dev/registry-event}"
    assert defined.kubectl("get", "am", "follows", "-n", namespace, "-o", stamp)
    assert not defined.kubectl("get", "am", "other", "-n", namespace, "-o", stamp)
    assert "tests only" not in one.log.read_text()
    assert one.terminate() == 0

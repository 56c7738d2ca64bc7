"""The annotations on the pod's own object, under the chart's role and admission policy, with the pod's own token."""

import asyncio
import itertools
import json
from datetime import datetime
from urllib.parse import urlsplit

import pytest
from tests.plugins.detector_pod import NORMAL, POD_UID, Detector, jwks, running, until
from tests.plugins.installed_chart import ACCOUNT, call, mount_account

from anomaly_detector.report import DRIFT_CONFIDENCE, ERROR_RATE, REPORT, Report

pytestmark = pytest.mark.e2e

NAMESPACE = "reports"
ZERO = [40.0, 50.0, 0.0]
_numbers = itertools.count(1)


@pytest.fixture
def pod(installed):
    """A pod object that waits for a node for ever: the detector of the test claims to be it."""
    name = f"cpu-watch-blue-{next(_numbers)}"
    labels = {"anomalymodel.dev/model": "cpu-watch", "anomalymodel.dev/color": "blue"}
    container = {"name": "detector", "image": "detector:1"}
    installed.admit_detectors(NAMESPACE)
    installed.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels, "namespace": NAMESPACE},
            "spec": {"serviceAccountName": ACCOUNT, "nodeSelector": {"no": "where"}, "containers": [container]},
        }
    )
    return call(installed.admin(), "GET", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}")["metadata"]


class Annotated:
    """A detector that reports, and its pod as an administrator sees it."""

    def __init__(self, installed, pod, detector):
        self.installed, self.name, self.detector = installed, pod["name"], detector

    def metadata(self):
        return call(self.installed.admin(), "GET", f"/api/v1/namespaces/{NAMESPACE}/pods/{self.name}")["metadata"]

    async def annotations(self):
        return (await asyncio.to_thread(self.metadata)).get("annotations", {})

    async def report(self):
        return Report.from_json((await self.annotations())[REPORT])

    async def kubectl(self, *words):
        await asyncio.to_thread(self.installed.cluster.kubectl, "-n", NAMESPACE, "annotate", "pod", self.name, *words)

    async def until(self, condition, what, seconds=60):
        async def ask():
            found = await self.annotations()
            return REPORT in found and condition(found, Report.from_json(found[REPORT]))

        await until(ask, what, self.detector, seconds)


@pytest.fixture
async def reporting(installed, pod, tmp_path, box_cox_folder, admin_key):
    """A running detector whose reports go to its pod object; its model fails on rows that hold 0."""
    detector = Detector(tmp_path, box_cox_folder, admin_key)
    detector.write_config({"heartbeatSeconds": 3600})
    user = installed.user(NAMESPACE, ACCOUNT, pod=pod)
    account = mount_account(user, tmp_path / "serviceaccount")
    server = urlsplit(installed.cluster.server)
    detector.environment |= {
        "ANOMALY_NAMESPACE": NAMESPACE,
        "ANOMALY_POD_NAME": pod["name"],
        "ANOMALY_SERVICEACCOUNT_DIR": str(account),
        "KUBERNETES_SERVICE_HOST": server.hostname,
        "KUBERNETES_SERVICE_PORT": str(server.port),
    }
    async with running(detector):
        yield Annotated(installed, pod, detector)


def users_failed(report):
    return report.counts["user"].failed if "user" in report.counts else 0


async def ask(session, detector, *rows, times=1):
    for _ in range(times):
        async with session.post(detector.url(8080, "/predict"), json={"rows": list(rows)}) as answer:
            await answer.read()


async def test_the_first_report_comes_at_start_and_scalars_that_say_nothing_have_no_key(reporting):
    await reporting.until(lambda _found, report: report.role == "standby", "the first report")
    found = await reporting.annotations()
    assert ERROR_RATE not in found
    assert DRIFT_CONFIDENCE not in found
    report = Report.from_json(found[REPORT])
    assert report.seq >= 1  # one whose writing took too long is written again
    assert datetime.fromisoformat(report.startedAt) <= datetime.fromisoformat(report.time)
    managers = {entry["manager"]: entry for entry in (await asyncio.to_thread(reporting.metadata))["managedFields"]}
    assert managers["anomaly-detector"]["operation"] == "Apply"


async def test_errors_over_the_limit_are_reported_at_once_and_each_further_one(reporting, session):
    await reporting.until(lambda _found, report: report.role == "standby", "the first report")
    await reporting.detector.put_role(session, "active", 1)
    await ask(session, reporting.detector, NORMAL, times=7)
    await ask(session, reporting.detector, ZERO, times=3)  # no heartbeat comes within this test
    await reporting.until(lambda _found, report: users_failed(report) == 3, "three failures are reported")
    found = await reporting.annotations()
    assert float(found[ERROR_RATE]) == pytest.approx(0.3)
    assert (await reporting.report()).counts["user"].served == 10


async def test_a_return_under_the_limit_is_reported_at_once(reporting, session):
    await reporting.detector.put_role(session, "active", 1)
    await ask(session, reporting.detector, ZERO, times=3)
    await reporting.until(lambda found, _report: found.get(ERROR_RATE) == "1", "errors are reported")
    reporting.detector.write_config({"heartbeatSeconds": 3600, "gates": {"errorRate": {"max": 1}}})
    await ask(session, reporting.detector, NORMAL, times=3)
    await reporting.until(lambda found, _report: found.get(ERROR_RATE) == "0.5", "the limit is not exceeded any more")


async def test_a_value_that_somebody_else_set_is_left_to_them_until_they_remove_it(reporting, session):
    await reporting.detector.put_role(session, "active", 1)
    await ask(session, reporting.detector, ZERO)
    await reporting.until(lambda found, _report: found.get(ERROR_RATE) == "1", "the detector's own value")
    await reporting.kubectl(f"{ERROR_RATE}=0.25", "--overwrite")
    await reporting.detector.put_role(session, "active", 2)
    await ask(session, reporting.detector, ZERO, times=2)
    await reporting.until(lambda _found, report: report.epoch == 2 and users_failed(report) == 3, "the report goes on")
    assert (await reporting.annotations())[ERROR_RATE] == "0.25"
    await reporting.kubectl(f"{ERROR_RATE}-")
    await reporting.detector.put_role(session, "active", 3)
    await reporting.until(lambda found, _report: found.get(ERROR_RATE) == "1", "the detector's own value is back")


async def test_the_scalar_goes_when_the_role_makes_it_say_nothing(reporting, session):
    await reporting.detector.put_role(session, "active", 1)
    await ask(session, reporting.detector, ZERO)
    await reporting.until(lambda found, _report: ERROR_RATE in found, "errors are reported")
    await reporting.detector.put_role(session, "standby", 2)
    await reporting.until(lambda found, report: report.epoch == 2 and ERROR_RATE not in found, "no error rate")


async def test_a_rotated_token_is_used_and_a_refusal_is_no_end(reporting, session):
    account = reporting.detector.config_dir.parent / "serviceaccount"
    good = (account / "token").read_text()
    await reporting.until(lambda _found, report: report.role == "standby", "the first report")
    (account / "token").write_text("stale")
    await reporting.detector.put_role(session, "active", 1)

    async def refused():
        return "report not written" in reporting.detector.log.read_text()

    await until(refused, "the refusal is logged", reporting.detector)
    (account / "token").write_text(good)
    await reporting.until(lambda _found, report: report.role == "active", "the new token works")
    log = reporting.detector.log.read_text()
    assert good not in log
    assert json.dumps(good) not in log
    assert POD_UID not in log
    assert jwks(reporting.detector.key) not in log

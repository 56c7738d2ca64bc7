"""What an operator does to what it finds when it starts: nothing, unless somebody has changed it."""

import random

import pytest
from benchmarks.control_plane import rig
from fleet import addresses, members
from http_api import MERGE
from tests.e2e.operator.conftest import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
SETTLE_SECONDS = 300


def applied(process):
    return process.metric("anomaly_operator_actions_total", action="ApplyChild", outcome="done")


def told(process):
    return process.metric("anomaly_operator_actions_total", action="TellRole")


async def test_an_operator_that_starts_again_applies_only_what_was_changed_while_it_was_away():
    free = addresses(block := random.randrange(2, 16))
    models = members(2, free)
    async with rig(60, block, sum(len(model.green) + len(model.blue) for model in models)) as on:
        await on.populate(models)
        with on.operator() as process:
            process.wait_ready(SETTLE_SECONDS)
            process.wait_quiet(quiet=1, seconds=SETTLE_SECONDS)
            assert (applied(process), told(process)) == (0, 0)  # everything is as another replica has left it
        # A value that was applied, a template, and a label that was removed.
        inside = f"namespaces/{models[0].namespace}"
        name = models[0].name
        edits = {
            f"/apis/policy/v1/{inside}/poddisruptionbudgets/{name}-green": {"spec": {"maxUnavailable": 2}},
            f"/apis/apps/v1/{inside}/deployments/{name}-green": {"spec": {"progressDeadlineSeconds": 7}},
            f"/api/v1/{inside}/serviceaccounts/{name}-anomaly-detector": {
                "metadata": {"labels": {"app.kubernetes.io/instance": None}}
            },
        }
        for path, change in edits.items():
            await on.server.done("PATCH", path, change, media=MERGE, manager="kubectl-edit")
        with on.operator() as process:
            process.wait_ready(SETTLE_SECONDS)
            eventually(lambda: applied(process) >= len(edits), SETTLE_SECONDS)
            process.wait_quiet(quiet=1, seconds=SETTLE_SECONDS)
            assert applied(process) == len(edits)
            budget, deployment, account = [await on.server.done("GET", path) for path in edits]
        assert budget["spec"]["maxUnavailable"] == 1
        assert deployment["spec"]["progressDeadlineSeconds"] == 600
        assert account["metadata"]["labels"]["app.kubernetes.io/instance"] == name
        with on.operator() as process:
            process.wait_ready(SETTLE_SECONDS)
            process.wait_quiet(quiet=1, seconds=SETTLE_SECONDS)
            assert (applied(process), told(process)) == (0, 0)

"""One cluster for all tests of a session, and a fresh namespace for each test that asks for one.

With KUBEBUILDER_ASSETS set its control plane is a real kube-apiserver; tests marked `switchboard` or `emulation` are
skipped then, each by its name.
"""

import itertools
import os

import pytest

from anomaly_devcluster import testing

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def cluster():
    """Run one cluster for the session; crash loops back off in tenths of seconds, so that tests need not wait."""
    with testing.cluster("--backoff-seconds=0.2", "--autoscaler-seconds=1") as running:
        yield running


@pytest.fixture
def namespace(cluster):
    """Return the name of a namespace that is there for this test alone."""
    name = f"t{next(_numbers)}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=90s")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def wait_until_served(cluster, definition):
    """Wait until a definition's kind is served.

    A real API server creates a definition without conditions, not even an empty list, which `kubectl wait` takes for an
    error; the accepted names are there from the first, and they are filled in together with the conditions.
    """
    name, kind = definition["metadata"]["name"], definition["spec"]["names"]["kind"]
    for condition in (f"jsonpath={{.status.acceptedNames.kind}}={kind}", "condition=Established"):
        cluster.kubectl("wait", f"crd/{name}", f"--for={condition}", "--timeout=90s")


def pytest_report_header():
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    return f"control plane: {f'the programs in {assets}' if assets else 'the emulation'}"


def pytest_collection_modifyitems(items):
    if not os.environ.get("KUBEBUILDER_ASSETS"):
        return
    for item in items:
        if item.get_closest_marker("switchboard"):
            item.add_marker(pytest.mark.skip(reason="a real control plane has no switchboard for faults"))
        elif mark := item.get_closest_marker("emulation"):
            item.add_marker(pytest.mark.skip(reason=mark.args[0]))

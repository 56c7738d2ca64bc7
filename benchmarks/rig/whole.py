"""A whole that is real: a devcluster with the chart in it, and the operator as a process beside it."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart
from operator_process import BIN, OperatorProcess

from anomaly_devcluster import testing
from mlflow_server import free_port

ROOT = Path(__file__).parents[2]
SYSTEM, NAMESPACE = "anomaly-system", "bench"
IMAGE = "anomaly-detector:bench"
DETECTOR = (str(BIN / "anomaly-detector"), "--bind", "$(POD_IP)")


def chart() -> list[dict[str, Any]]:
    """Return the chart's objects, without a Deployment of the operator that does anything."""
    with Chart.load(ROOT / "charts" / "anomaly-operator") as loaded:
        files = loaded.render({"replicas": 0}, name="anomaly-operator", namespace=SYSTEM)
    return [
        one for file, text in sorted(files.items()) if file.endswith(".yaml") for one in yaml.safe_load_all(text) if one
    ]


@contextlib.contextmanager
def operating(
    cluster: testing.Cluster, folder: Path, tracking_uri: str, *, image: Sequence[str] = DETECTOR, **settings: str
) -> Iterator[OperatorProcess]:
    """Run the operator on a cluster with the chart in it; `image` is what the pods' image stands for."""
    cluster.load_image(IMAGE, image)
    for namespace in (SYSTEM, NAMESPACE):
        cluster.kubectl("create", "namespace", namespace)
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=chart())
    given = {"NAMESPACE": SYSTEM, "DETECTOR_IMAGE": IMAGE, "TRACKING_URI": tracking_uri} | settings
    process = OperatorProcess(folder, cluster.kubeconfig, port=free_port(), **given)
    try:
        process.wait_ready()
        yield process
    finally:
        process.kill()

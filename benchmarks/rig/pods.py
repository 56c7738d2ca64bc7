"""Our own pods, as the node starts them; the tests' detector does the work."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rig.model import Saved
from rig.servers import RIG, Target, invocations_body, invocations_labels, listening, process

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.plugins.detector_pod import Detector, free_address

PORT, SINK_PORT = 8080, 6443


def prepared(saved: Saved, place: Path) -> Detector:
    """Return a pod that is not started yet."""
    place.mkdir()
    return Detector(place, saved.mlflow_folder, Ed25519PrivateKey.generate())


def targets(pod: Detector) -> dict[str, Target]:
    """Return how to ask a pod, by protocol."""
    return {
        "Open Inference Protocol": Target(
            name="ours", address=pod.address, port=PORT, path="/v2/models/cpu-watch/infer"
        ),
        "MLflow's protocol": Target(
            name="ours",
            address=pod.address,
            port=PORT,
            path="/invocations",
            body=invocations_body,
            labels=invocations_labels,
        ),
    }


@contextmanager
def started(pod: Detector) -> Iterator[Detector]:
    """Start a pod and wait until it is ready; end it on the way out."""
    pod.start()
    try:
        asyncio.run(pod.until_ready())
        yield pod
    finally:
        pod.stop()


@contextmanager
def report_sink(place: Path) -> Iterator[dict[str, str]]:
    """Run an API server that takes reports, and return a pod's environment for it."""
    place.mkdir()
    address = free_address()
    with process(
        [sys.executable, RIG / "report_sink.py", place, address, str(SINK_PORT)], log=place / "log"
    ) as running:
        listening(running, address, SINK_PORT)
        yield {
            "ANOMALY_SERVICEACCOUNT_DIR": str(place),
            "KUBERNETES_SERVICE_HOST": address,
            "KUBERNETES_SERVICE_PORT": str(SINK_PORT),
        }

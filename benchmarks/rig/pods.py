"""Our own pods, as the node starts them; the tests' detector does the work."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rig.model import Saved
from rig.servers import Target, invocations_body, invocations_labels

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.plugins.detector_pod import Detector

PORT = 8080


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
    import asyncio  # noqa: PLC0415

    pod.start()
    try:
        asyncio.run(pod.until_ready())
        yield pod
    finally:
        pod.stop()

"""Install the operator as users do: its Helm chart, by Helm's own library."""

from pathlib import Path
from typing import Any

from helm_python import Config

CHART = Path(__file__).parent.parent / "charts" / "anomaly-operator"
RELEASE = "anomaly-operator"


def install(kubeconfig: Path, *, namespace: str, values: dict[str, Any]) -> None:
    """Run `helm install --create-namespace`. Raises helm_python.HelmError with what was refused."""
    with Config(kubeconfig_path=kubeconfig, namespace=namespace) as helm:
        helm.install(CHART, RELEASE, values, namespace=namespace, create_namespace=True)


def values(*, tracking_uri: str) -> dict[str, Any]:
    """Return the values of the demo: images of the stage, and reports every second instead of every minute."""
    return {
        "image": {"repository": "anomaly-operator", "tag": "demo"},
        "detector": {
            "image": {"repository": "anomaly-detector", "tag": "demo"},
            "heartbeatSeconds": 1,
            "readinessPeriodSeconds": 1,
        },
        "replicas": 1,
        "registry": {"trackingUri": tracking_uri},
        "retraining": {"fromPods": True},
    }

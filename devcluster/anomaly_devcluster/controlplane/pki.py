"""The certificates and keys of one run, and the kubeconfig made of them."""

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import yaml

from anomaly_devcluster.addresses import node_address, service_block
from anomaly_devcluster.certificates import Authority, Pair


@dataclass(frozen=True, slots=True)
class Pki:
    """Everything that the parts of a control plane identify themselves with."""

    authority: Pair
    server: Pair
    admin: Pair
    kubelet_client: Pair
    """By which the API server asks the node for logs."""
    node: Pair
    service_account: Pair
    """Signs service account tokens; they are verified by the key in its certificate."""

    @classmethod
    def create(cls, slot: int) -> Self:
        """Make new ones for the cluster in this slot."""
        authority = Authority.create()
        hosts = ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        hosts += ["10.96.0.1", str(service_block(slot)[1])]
        return cls(
            authority=authority.pair,
            server=authority.server(hosts),
            admin=authority.client("kubernetes-admin", ("system:masters",)),
            kubelet_client=authority.client("kube-apiserver-kubelet-client", ("system:masters",)),
            node=authority.server([node_address(slot), "devcluster"]),
            service_account=authority.client("service-accounts"),
        )

    def write(self, folder: Path) -> None:
        """Write each as NAME.crt and NAME.key, readable by the user alone."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("authority", "server", "admin", "kubelet_client", "node", "service_account"):
            pair: Pair = getattr(self, name)
            stem = name.replace("_", "-")
            (folder / f"{stem}.crt").write_text(pair.certificate)
            write_private(folder / f"{stem}.key", pair.key)

    def kubeconfig(self, server: str, name: str) -> str:
        """Return the administrator's kubeconfig."""

        def encoded(text: str) -> str:
            return base64.b64encode(text.encode()).decode()

        context = f"devcluster-{name}"
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [
                    {
                        "name": context,
                        "cluster": {
                            "server": server,
                            "certificate-authority-data": encoded(self.authority.certificate),
                        },
                    }
                ],
                "users": [
                    {
                        "name": context,
                        "user": {
                            "client-certificate-data": encoded(self.admin.certificate),
                            "client-key-data": encoded(self.admin.key),
                        },
                    }
                ],
                "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
                "current-context": context,
            }
        )


def write_private(path: Path, text: str) -> None:
    """Write a file that only the user may read, all at once."""
    staged = path.with_name(f".{path.name}")
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    staged.replace(path)

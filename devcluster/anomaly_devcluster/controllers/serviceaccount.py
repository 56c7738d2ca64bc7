"""Give each namespace its default ServiceAccount and the certificate authority that its pods trust."""

from anomaly_devcluster.client import CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS, Object, Resource
from anomaly_devcluster.controllers.base import Controller, being_deleted
from anomaly_devcluster.informer import Informer, Key

ROOT_CA = "kube-root-ca.crt"


class ServiceAccountController(Controller):
    """Create the `default` ServiceAccount and the ConfigMap `kube-root-ca.crt`, also after somebody deleted them."""

    def watch(self) -> None:
        """Follow namespaces and what they must hold."""
        self.namespaces = self.on_objects(NAMESPACES)
        self.accounts = self._on_named(SERVICE_ACCOUNTS, "default")
        self.maps = self._on_named(CONFIG_MAPS, ROOT_CA)

    def _on_named(self, resource: Resource, name: str) -> Informer:
        informer = self.informers(resource)

        def changed(_: str, body: Object) -> None:
            if body["metadata"]["name"] == name:
                self.enqueue(("", body["metadata"]["namespace"]))

        informer.on_change(changed)
        return informer

    async def reconcile(self, key: Key) -> float | None:
        """Bring one namespace to what it must hold."""
        namespace = self.namespaces.get(*key)
        if namespace is None or being_deleted(namespace):
            return None
        name, authority = key[1], {"ca.crt": self.client.access.authority}
        if self.accounts.get(name, "default") is None:
            metadata: Object = {"name": "default", "namespace": name}
            await self.accounts.create({"metadata": metadata})
        known = self.maps.get(name, ROOT_CA)
        if known is None:
            metadata = {"name": ROOT_CA, "namespace": name}
            await self.maps.create({"metadata": metadata, "data": authority})
        elif known.get("data") != authority:
            await self.maps.update({**known, "data": authority})
        return None

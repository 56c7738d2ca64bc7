"""Empty a namespace that is being deleted, then let it go."""

from anomaly_devcluster.client import NAMESPACES, Object
from anomaly_devcluster.controllers.base import Controller, being_deleted, deletable
from anomaly_devcluster.informer import Key

_AGAIN_SECONDS = 0.3


class NamespaceController(Controller):
    """Delete a terminating namespace's content until there is none, then remove its finalizer."""

    def watch(self) -> None:
        """Follow namespaces."""
        self.namespaces = self.on_objects(NAMESPACES)

    async def reconcile(self, key: Key) -> float | None:
        """Take the deletion of one namespace a step further."""
        namespace = self.namespaces.get(*key)
        if namespace is None or not being_deleted(namespace) or not namespace["spec"].get("finalizers"):
            return None
        left = 0
        for resource in await deletable(self.client):
            if resource.namespaced:
                left += await self._empty(resource.path(key[1]))
        if left:
            return _AGAIN_SECONDS
        kept = [f for f in namespace["spec"]["finalizers"] if f != "kubernetes"]
        await self.client.update(
            NAMESPACES, {**namespace, "spec": {**namespace["spec"], "finalizers": kept}}, "finalize"
        )
        return None

    async def _empty(self, path: str) -> int:
        """Delete a collection; return how many objects were still there."""
        items: list[Object] = (await self.client.request("GET", path, params={"limit": "500"}))["items"]
        if any(not being_deleted(item) for item in items):
            await self.client.request("DELETE", path, {"kind": "DeleteOptions", "apiVersion": "v1"})
        return len(items)

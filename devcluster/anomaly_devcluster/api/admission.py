"""What the API server's own admission plug-ins do: namespaces, service accounts of pods, addresses of Services."""

import copy
import ipaddress
import secrets
from typing import Any

from anomaly_devcluster.addresses import Addresses
from anomaly_devcluster.api.builtin import kinds
from anomaly_devcluster.api.call import Call
from anomaly_devcluster.api.errors import Cause, forbidden, invalid, not_found
from anomaly_devcluster.store import Key, Store

Object = dict[str, Any]
TOKEN_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
_PROTECTED = ("default", "kube-system", "kube-public")


class Admission:
    """What depends on other objects than the one that is written."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def check_namespace(self, call: Call, operation: str, _: Object | None, new: Object | None) -> None:
        """Refuse to create in a namespace that is absent or going, and to delete the first ones; with 404 or 403."""
        if operation == "DELETE":
            if call.resource.qualified == "namespaces" and call.name in _PROTECTED:
                raise forbidden("", "namespaces", call.name, "this namespace may not be deleted")
            return
        if operation != "CREATE" or not call.resource.namespaced or new is None:
            return
        name = new["metadata"]["namespace"]
        namespace = self._store.get("namespaces", ("", name))
        if namespace is None:
            raise not_found("", "namespaces", name)
        if namespace.body["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {name} because it is being terminated"
            refused = forbidden(call.resource.group, call.resource.plural, new["metadata"].get("name", ""), why)
            cause = Cause("metadata.namespace", "NamespaceTerminating", f"namespace {name} is being terminated")
            refused.details = {**(refused.details or {}), "causes": [cause.as_object()]}
            raise refused

    def complete_pod(self, call: Call, operation: str, _: Object | None, new: Object | None) -> None:
        """Give a new pod its service account, and the volume with its token; 403 when the account does not exist."""
        if operation != "CREATE" or new is None or call.resource.qualified != "pods":
            return
        spec, namespace = new["spec"], new["metadata"]["namespace"]
        name = spec.get("serviceAccountName") or "default"
        account = self._store.get("serviceaccounts", (namespace, name))
        if account is None:
            why = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
            raise forbidden("", "pods", new["metadata"].get("name", ""), why)
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        mount = spec.get("automountServiceAccountToken", account.body.get("automountServiceAccountToken", True))
        containers = [*spec.get("initContainers", ()), *spec.get("containers", ())]
        without = [c for c in containers if TOKEN_MOUNT not in [m["mountPath"] for m in c.get("volumeMounts") or ()]]
        if mount and without:
            volume = f"kube-api-access-{secrets.token_hex(3)[:5]}"
            spec.setdefault("volumes", []).append({"name": volume, **copy.deepcopy(kinds()["tokenVolume"])})
            for container in without:
                entry = {"name": volume, "readOnly": True, "mountPath": TOKEN_MOUNT}
                container.setdefault("volumeMounts", []).append(entry)


class ServiceAddresses:
    """Services get an address of their own from a block."""

    def __init__(self, store: Store, block: ipaddress.IPv4Network) -> None:
        self._store = store
        self._addresses = Addresses(block)
        self._owners: dict[str, Key] = {}

    def __call__(self, call: Call, _: str, old: Object | None, new: Object | None) -> None:
        """Give a Service its address, or keep the one that it asks for; refuse with 422."""
        if new is None or call.resource.qualified != "services":
            return
        spec = new.setdefault("spec", {})
        before = (old or {}).get("spec", {}).get("clusterIP")
        address = spec.get("clusterIP") or before
        if not address:
            address = "None" if call.dry_run else self._addresses.free(self._taken)
        elif address not in ("None", before):
            self._check(call, new, address)
        spec["clusterIP"] = address
        spec["clusterIPs"] = [address]
        if address != "None" and not call.dry_run:
            self._owners[address] = (new["metadata"]["namespace"], new["metadata"]["name"])

    def _taken(self, address: str) -> bool:
        owner = self._owners.get(address)
        service = self._store.get("services", owner) if owner else None
        return bool(service and service.body["spec"].get("clusterIP") == address)

    def _check(self, call: Call, new: Object, address: str) -> None:
        if call.verb != "create" and self._store.get("services", call.key):
            return  # validation says that it may not change
        try:
            inside = ipaddress.IPv4Address(address) in self._addresses.block
        except ValueError:
            inside = False
        detail = "failed to allocate IP: provided IP is already allocated"
        if not inside:
            where = f"the provided IP is not in the valid range {self._addresses.block}"
            detail = f"failed to allocate IP {address}: {where}"
        if not inside or self._taken(address):
            cause = Cause.invalid("spec.clusterIPs", address, detail)
            raise invalid("", "Service", new["metadata"].get("name", ""), [cause])

"""Discovery, classic and aggregated, and `/version`."""

from collections.abc import Iterable
from typing import Any

from anomaly_devcluster.api.builtin import kinds
from anomaly_devcluster.api.errors import StatusError, no_such_path, not_emulated, qualified
from anomaly_devcluster.api.resources import VERBS, Catalog, Resource

Object = dict[str, Any]

_KIND = ("group", "version", "kind")
VERSION: Object = kinds()["version"]


def core_versions(address: str) -> Object:
    """Answer `/api`."""
    clients = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": clients}


def group_list(catalog: Catalog) -> Object:
    """Answer `/apis`."""
    groups = [_group(name, versions) for name, versions in catalog.groups().items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(catalog: Catalog, name: str) -> Object:
    """Answer `/apis/{group}`; raises StatusError(404)."""
    versions = catalog.groups().get(name)
    if not versions or not name:
        raise no_such_path()
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)}


def _group(name: str, versions: list[str]) -> Object:
    served = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": served, "preferredVersion": served[0]}


def resource_list(catalog: Catalog, group_name: str, version: str) -> Object:
    """Answer `/api/v1` and `/apis/{group}/{version}`; raises StatusError(404)."""
    if version not in catalog.groups().get(group_name, ()):
        raise no_such_path()
    group_version = f"{group_name}/{version}" if group_name else version
    listed = [entry for r in catalog if (r.group, r.version) == (group_name, version) for entry in _listed(r)]
    for review in kinds()["reviews"]:
        if (review["group"], version) == (group_name, "v1"):
            entry = {"name": review["plural"], "singularName": review["kind"].lower(), "namespaced": False}
            listed.append(entry | {"kind": review["kind"], "verbs": ["create"]})
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": listed}


def _listed(resource: Resource) -> Iterable[Object]:
    entry: Object = {"name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced}
    entry |= {"kind": resource.kind, "verbs": list(VERBS)}
    named = {"shortNames": list(resource.short_names), "categories": list(resource.categories)}
    yield entry | {name: listed for name, listed in named.items() if listed}
    for name, sub in resource.subresources.items():
        below: Object = {"name": f"{resource.plural}/{name}", "singularName": "", "namespaced": resource.namespaced}
        if (sub.group, sub.version) != (resource.group, resource.version):
            below |= {"group": sub.group, "version": sub.version}
        yield below | {"kind": sub.kind, "verbs": list(sub.verbs)}


def aggregated(catalog: Catalog, *, core: bool) -> Object:
    """Answer `/api` or `/apis` with everything at once (apidiscovery.k8s.io/v2)."""
    items = []
    for name, versions in catalog.groups().items():
        if bool(name) != core:
            shown = [_aggregated_version(catalog, name, version) for version in versions]
            items.append({"metadata": {"name": name, "creationTimestamp": None} if name else {}, "versions": shown})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _aggregated_version(catalog: Catalog, group_name: str, version: str) -> Object:
    resources: dict[str, Object] = {}
    for entry in resource_list(catalog, group_name, version)["resources"]:
        name, _, below = entry["name"].partition("/")
        kind = {"group": group_name, "version": version} | {k: v for k, v in entry.items() if k in _KIND}
        if below:
            shown = {"subresource": below, "responseKind": kind, "verbs": entry["verbs"]}
            resources[name].setdefault("subresources", []).append(shown)
            continue
        shown = {"resource": name, "responseKind": kind, "scope": "Namespaced" if entry["namespaced"] else "Cluster"}
        shown |= {"singularResource": entry["singularName"], "verbs": entry["verbs"]}
        shown |= {key: entry[key] for key in ("shortNames", "categories") if key in entry}
        resources[name] = shown
    return {"version": version, "freshness": "Current", "resources": list(resources.values())}


def unknown(group_name: str, version: str, plural: str) -> StatusError:
    """Tell what Kubernetes has and devcluster has not from what nobody has."""
    if plural in kinds()["notEmulated"].get(f"{group_name}/{version}".lstrip("/"), ()):
        return not_emulated(f"{qualified(group_name, plural)} ({version})")
    return no_such_path()

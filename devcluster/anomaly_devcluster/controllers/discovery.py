"""Which resources the API serves now."""

from anomaly_devcluster.client import ApiError, Client, Resource

_NEEDED = {"list", "watch", "delete"}


async def deletable(client: Client) -> list[Resource]:
    """Return all resources that can be listed, watched and deleted, each in its group's preferred version."""
    versions = ["v1"]
    groups = await client.request("GET", "/apis")
    versions += [group["preferredVersion"]["groupVersion"] for group in groups["groups"]]
    found = []
    for version in versions:
        prefix = "/apis" if "/" in version else "/api"
        try:
            resources = (await client.request("GET", f"{prefix}/{version}"))["resources"]
        except ApiError:
            continue  # an aggregated API without a backend must not stop the others
        found += [
            Resource(version, r["name"], r["kind"], r["namespaced"])
            for r in resources
            if "/" not in r["name"] and set(r["verbs"]) >= _NEEDED
        ]
    return found

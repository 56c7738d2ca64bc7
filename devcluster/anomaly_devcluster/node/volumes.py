"""Put a pod's volumes on disk, and keep those that show live objects up to date."""

import asyncio
import contextlib
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from anomaly_devcluster import clock
from anomaly_devcluster.client import Object
from anomaly_devcluster.node.environment import ConfigurationError, Lookup, contents, field

Files = dict[str, tuple[bytes, int]]
"""Relative path to content and mode."""
IssueToken = Callable[[str | None, int], Awaitable[Object]]
"""Ask for a token: audience and lifetime in seconds; answers with a TokenRequest's status."""


def write_atomically(folder: Path, files: Files) -> bool:
    """Show exactly these files in `folder`, all at once, as a kubelet does; return whether anything changed.

    Readers see the old files or the new ones: each name is a link through `..data`, which is replaced in one step.
    """
    data = folder / "..data"
    if data.exists() and _read(data) == {name: content for name, (content, _) in files.items()}:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    version = folder / f"..{time.strftime('%Y_%m_%d_%H_%M_%S')}.{secrets.token_hex(4)}"
    version.mkdir()
    for name, (content, mode) in files.items():
        target = version / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(mode)
    old = data.resolve() if data.is_symlink() else None
    staged = folder / "..data_tmp"
    with contextlib.suppress(FileNotFoundError):
        staged.unlink()
    staged.symlink_to(version.name)
    staged.replace(data)
    top = {Path(name).parts[0] for name in files}
    for name in top:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    for entry in folder.iterdir():
        if not entry.name.startswith("..") and entry.name not in top:
            entry.unlink()
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
    return True


def _read(folder: Path) -> dict[str, bytes]:
    root = folder.resolve()
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


class Volumes:
    """The volumes of one pod."""

    def __init__(self, pod: Object, folder: Path, claims: Path, lookup: Lookup, issue: IssueToken) -> None:
        self._folder = folder
        self._claims = claims / str(pod["metadata"]["namespace"])
        self._lookup = lookup
        self._issue = issue
        self._volumes: list[Object] = pod["spec"].get("volumes") or []
        self._tokens: dict[str, tuple[bytes, float]] = {}

    async def refresh(self, pod: Object) -> float | None:
        """Write what the volumes must show now; return in how many seconds a token must be renewed.

        Raises ConfigurationError when something that is not optional is missing.
        """
        for volume in self._volumes:
            path = self._folder / volume["name"]
            if "emptyDir" in volume:
                path.mkdir(parents=True, exist_ok=True)
            elif "persistentVolumeClaim" in volume:
                (self._claims / volume["persistentVolumeClaim"]["claimName"]).mkdir(parents=True, exist_ok=True)
            else:
                files = await self._files(pod, volume)
                await asyncio.to_thread(write_atomically, path, files)
        renewals = [at - time.time() for _, at in self._tokens.values()]
        return max(0.0, min(renewals)) if renewals else None

    def place(self, volume: str) -> Path:
        """Return the folder of a volume; raises ConfigurationError if the pod has no volume of that name."""
        known = next((known for known in self._volumes if known["name"] == volume), None)
        if known is None:
            raise ConfigurationError(f"volumeMounts: the pod has no volume {volume}")
        if "persistentVolumeClaim" in known:
            return self._claims / str(known["persistentVolumeClaim"]["claimName"])
        return self._folder / volume

    def table(self, container: Object) -> dict[str, str]:
        """Return the mount table of a container: path inside to path on the host."""
        mounts = container.get("volumeMounts") or []
        return {m["mountPath"]: str(self.place(m["name"]) / m.get("subPath", "")) for m in mounts}

    async def _files(self, pod: Object, volume: Object) -> Files:
        content = {kind: what for kind, what in volume.items() if kind != "name"}
        sources = content["projected"]["sources"] if "projected" in content else [content]
        mode = next((what["defaultMode"] for what in content.values() if "defaultMode" in what), 0o644)
        files: Files = {}
        for index, source in enumerate(sources):
            files |= await self._source(pod, source, mode, f"{volume['name']}/{index}")
        return files

    async def _source(self, pod: Object, source: Object, mode: int, place: str) -> Files:
        if reference := source.get("configMap"):
            return self._object_files("ConfigMap", reference, mode)
        if reference := source.get("secret"):
            return self._object_files("Secret", reference, mode)
        if downward := source.get("downwardAPI"):
            items: list[Any] = [item for item in downward.get("items") or () if "fieldRef" in item]
            values = [field(pod, item["fieldRef"]["fieldPath"]).encode() for item in items]
            return {item["path"]: (value, item.get("mode", mode)) for item, value in zip(items, values, strict=True)}
        if token := source.get("serviceAccountToken"):
            return {token["path"]: (await self._token(token, place), 0o600)}
        name = place.partition("/")[0]
        raise ConfigurationError(f"volume {name}: {', '.join(source)} is not supported by devcluster")

    def _object_files(self, kind: str, reference: Object, mode: int) -> Files:
        name = reference.get("name") or reference.get("secretName", "")
        body = self._lookup(kind, name)
        if body is None:
            if reference.get("optional"):
                return {}
            raise ConfigurationError(f'{kind.lower()} "{name}" not found')
        data = contents(body)
        if not reference.get("items"):
            return {key: (value, mode) for key, value in data.items()}
        files: Files = {}
        for item in reference["items"]:
            if item["key"] in data:
                files[item["path"]] = data[item["key"]], item.get("mode", mode)
            elif not reference.get("optional"):
                raise ConfigurationError(f"references non-existent {kind.lower()} key: {item['key']}")
        return files

    async def _token(self, source: Object, place: str) -> bytes:
        known = self._tokens.get(place)
        if known is not None and known[1] > time.time():
            return known[0]
        seconds = source.get("expirationSeconds", 3600)
        status = await self._issue(source.get("audience"), seconds)
        lifetime = clock.parse(status["expirationTimestamp"]) - time.time()
        renew_at = time.time() + min(0.8 * lifetime, 24 * 3600)
        self._tokens[place] = status["token"].encode(), renew_at
        return self._tokens[place][0]

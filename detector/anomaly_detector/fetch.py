"""`anomaly-detector fetch`: bring the artifact into the cache, verify it, prove that it can be loaded.

Sources in order: the cache itself, a ready pod of either color, the registry. Nothing is deserialized before the
digest has been compared. Exit 65: refused, never tried again; 69: unreachable, tried again.
"""

import asyncio
import json
import logging
import tarfile
from pathlib import Path

import aiohttp

from anomaly_detector import bundle, registry
from anomaly_detector.cache import Cache
from anomaly_detector.loading import RefusedError, UnavailableError, flatten, wanted_digest
from anomaly_detector.logs import masked
from anomaly_detector.settings import FetchSettings
from anomaly_detector.train.termination import leave_message

log = logging.getLogger(__name__)

EXIT_REFUSED, EXIT_UNAVAILABLE = 65, 69
PEER_TIMEOUT = aiohttp.ClientTimeout(total=60, connect=1, sock_read=10)
LARGEST_BYTES = 4 * 2**30
_OK = 200
_CHUNK = 1 << 20


async def run(settings: FetchSettings) -> int:
    """Fetch, write the termination message and return the exit status."""
    try:
        digest = await fetch(settings)
    except RefusedError as error:
        return _end(EXIT_REFUSED, f"refused: {error}")
    except UnavailableError as error:
        return _end(EXIT_UNAVAILABLE, f"unavailable: {error}")
    except OSError as error:
        return _end(EXIT_UNAVAILABLE, f"unavailable: {error.filename or 'disk'}: {error.strerror or error}")
    except Exception as error:
        log.exception("a fault of the program")
        return _end(EXIT_UNAVAILABLE, f"unavailable: {type(error).__name__}: {error}")
    return _end(0, json.dumps({"digest": digest}))


async def fetch(settings: FetchSettings) -> str:
    """Return the digest of the artifact, which is then in the cache, verified and flattened.

    Raises RefusedError or UnavailableError.
    """
    artifact = settings.artifact
    cache = Cache(artifact.cache_dir)
    await asyncio.to_thread(cache.sweep)
    digest = wanted_digest(artifact, cache)
    if digest is None or not await asyncio.to_thread(cache.holds, digest):
        digest = await _from_elsewhere(settings, cache, digest)
    else:
        log.info("in the cache", extra={"digest": digest})
    if not artifact.digest:
        cache.remember(artifact.source, digest)
    await flatten(cache, digest, allow_pickle=artifact.allow_pickle)
    await asyncio.to_thread(cache.prune, digest)
    return digest


async def _from_elsewhere(settings: FetchSettings, cache: Cache, digest: str | None) -> str:
    if digest is not None and await _from_peers(settings, cache, digest):
        return digest
    with cache.scratch() as scratch:
        folder = scratch / "model"
        folder.mkdir()
        folder = await registry.download(settings, folder)
        found = await asyncio.to_thread(bundle.digest, folder)
        if digest is not None and found != digest:
            raise RefusedError(f"digest: expected {digest}, got {found} from {settings.artifact.source}")
        cache.adopt(folder, cache.model(found))
    log.info("from the registry", extra={"digest": found, "source": settings.artifact.source})
    return found


async def _from_peers(settings: FetchSettings, cache: Cache, digest: str) -> bool:
    """Try both colors' Services; a peer that sends something else is passed over."""
    name = digest.removeprefix("sha256:")
    async with aiohttp.ClientSession(timeout=PEER_TIMEOUT) as session:
        for color, url in settings.neighbours.items():
            with cache.scratch() as scratch:
                try:
                    if not await _receive(session, f"{url}/artifact/{name}", scratch / "tar"):
                        continue
                    folder = scratch / "model"
                    await asyncio.to_thread(_unpack, scratch / "tar", folder)
                    if await asyncio.to_thread(bundle.digest, folder) != digest:
                        raise RefusedError("the digest differs")  # noqa: TRY301 - as any other useless answer
                    cache.adopt(folder, cache.model(digest))
                except (aiohttp.ClientError, TimeoutError, OSError, tarfile.TarError, RefusedError) as error:
                    log.info("no artifact from the %s pods: %s", color, error or type(error).__name__)
                    continue
                log.info("from a %s pod", color, extra={"digest": digest})
                return True
    return False


async def _receive(session: aiohttp.ClientSession, url: str, place: Path) -> bool:
    async with session.get(url) as answer:
        if answer.status != _OK:
            return False
        received = 0
        with place.open("wb") as file:
            async for chunk in answer.content.iter_chunked(_CHUNK):
                received += len(chunk)
                if received > LARGEST_BYTES:
                    raise RefusedError(f"more than {LARGEST_BYTES} bytes")
                file.write(chunk)
    return True


def _unpack(tar: Path, folder: Path) -> None:
    """Unpack plain files and folders only, none of them outside `folder`."""
    with tarfile.open(tar, "r:") as archive:
        archive.extractall(folder, filter="data")


def _end(status: int, message: str) -> int:
    """Leave the message, one line, where the kubelet looks for it."""
    line = masked(" ".join(message.split()))
    if status:
        log.error("%s", line)
    leave_message(line)
    return status

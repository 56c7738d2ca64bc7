"""From the cache to a model that can serve: verify, flatten in a process of its own, load, warm up."""

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from anomaly_detector import scoring
from anomaly_detector.bundle import Bundle, BundleError, read_bundle
from anomaly_detector.cache import Cache
from anomaly_detector.config import Config
from anomaly_detector.dataplane import DataPlane, Model
from anomaly_detector.drift.detector import DriftDetector
from anomaly_detector.explain import Explainer
from anomaly_detector.protocols import Contract, Query
from anomaly_detector.settings import Artifact, Settings

log = logging.getLogger(__name__)
T = TypeVar("T")

EXIT_REFUSED = 65
FLATTEN_SECONDS = 120.0
WARM_UP_ROUNDS = 20


class RefusedError(Exception):
    """The artifact is not what was resolved, or may not be loaded: trying again does not help."""


class UnavailableError(Exception):
    """The artifact cannot be had now: trying again may help."""


class _DamagedError(UnavailableError):
    """What was flattened cannot be read; it has been removed."""


async def flatten(cache: Cache, digest: str, *, allow_pickle: bool) -> None:
    """Have the flattened model in the cache, made if need be in a short-lived process.

    Raises RefusedError with the reason, or UnavailableError when the process dies or takes too long.
    """
    await _flattened(cache, digest, _meta, allow_pickle=allow_pickle)


async def _flattened(cache: Cache, digest: str, read: Callable[[Path], T], *, allow_pickle: bool) -> T:
    """Return what `read` finds in the flattened model's folder, which is made if need be; if damaged anew, once."""
    place = cache.flat(digest)

    def attempt() -> T:
        try:
            _check_pickle(place, allow_pickle=allow_pickle)
            return read(place)
        except scoring.RefusedError as error:
            raise RefusedError(str(error)) from None
        except RefusedError:
            raise
        except Exception as error:
            cache.remove(place)
            raise _DamagedError(f"{place}: cannot be read: {error!r}") from error

    if place.is_dir():
        try:
            return await asyncio.to_thread(attempt)
        except _DamagedError as damage:
            log.warning("made anew: %s", damage)
    await _make(cache, digest, allow_pickle=allow_pickle)
    return await asyncio.to_thread(attempt)


def _check_pickle(flat: Path, *, allow_pickle: bool) -> None:
    """Refuse what another pod was allowed to flatten from a pickle and this one is not."""
    if _meta(flat)["format"] != "skops" and not allow_pickle:
        raise RefusedError("the artifact is a pickle and spec.model.allowPickle is false")


def _meta(flat: Path) -> dict[str, Any]:
    meta: dict[str, Any] = json.loads((flat / "meta.json").read_text())
    return meta


async def _make(cache: Cache, digest: str, *, allow_pickle: bool) -> None:
    with cache.scratch() as scratch:
        out = scratch / "flat"
        command = [sys.executable, "-m", "anomaly_detector.scoring.flatten", str(cache.model(digest)), str(out)]
        if allow_pickle:
            command.append("--allow-pickle")
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        try:
            _, stderr = await asyncio.wait_for(process.communicate(), FLATTEN_SECONDS)
        except TimeoutError:
            raise UnavailableError(f"loading the model took more than {FLATTEN_SECONDS:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        said = stderr.decode(errors="replace").strip()
        if process.returncode == EXIT_REFUSED:
            raise RefusedError(said.splitlines()[-1] if said else "the model was refused without a reason")
        if process.returncode != 0:
            raise UnavailableError(f"loading the model failed ({process.returncode}): {said[-500:]}")
        await asyncio.to_thread(cache.adopt, out, cache.flat(digest))


async def load(settings: Settings, config: Config, boot_id: str) -> DataPlane:
    """Return a warm data plane for the pod's artifact.

    Raises RefusedError, or UnavailableError when `fetch` has not brought the artifact.
    """
    artifact, cache = settings.artifact, Cache(settings.artifact.cache_dir)
    digest = wanted_digest(artifact, cache)
    if digest is None or not await asyncio.to_thread(cache.holds, digest):
        raise UnavailableError(f"{artifact.cache_dir}: no artifact {digest or 'of ' + artifact.source}; run `fetch`")
    try:
        bundle = read_bundle(cache.model(digest))
    except BundleError as error:
        raise RefusedError(str(error)) from None

    def read(flat: Path) -> tuple[scoring.Scorer, tuple[str, ...]]:
        return scoring.load(flat, cache.model(digest)), tuple(_meta(flat)["datatypes"])

    scorer, datatypes = await _flattened(cache, digest, read, allow_pickle=artifact.allow_pickle)
    contract = Contract(
        features=scorer.features,
        model=settings.model,
        version=settings.version,
        accepts_missing=scorer.accepts_missing,
        accepts_infinite=scorer.accepts_infinite,
        datatypes=datatypes,
    )
    model = Model(scorer=scorer, bundle=bundle, contract=contract)
    plane = DataPlane(model, boot_id=boot_id, timeout=settings.request_timeout)
    plane.explainer = make_explainer(model, config)
    await warm_up(plane)
    return plane


def wanted_digest(artifact: Artifact, cache: Cache) -> str | None:
    """Return the digest that was resolved, else the one that `fetch` computed."""
    return artifact.digest or cache.digest_of(artifact.source)


def make_explainer(model: Model, config: Config) -> Explainer | None:
    """Return the explainer that the configuration asks for; none while off or where it has nothing to go by."""
    if not config.explanations:
        return None
    bundle = model.bundle
    try:
        return Explainer(
            model.scorer,
            units=None if bundle is None else bundle.units,
            reference=None if bundle is None else bundle.reference,
            score_quantiles=None if bundle is None else bundle.scores,
            top_k=config.top_k,
        )
    except ValueError as error:
        log.warning("no explanations: %s", error)
        return None


def make_drift_detector(model: Model, config: Config) -> DriftDetector:
    """Return a drift detector with the bundle's reference; without a bundle it learns from the first rows."""
    bundle = model.bundle
    return DriftDetector(
        model.scorer.features,
        config.drift,
        reference=None if bundle is None else bundle.reference,
        reference_scores=None if bundle is None else _reference_scores(model, bundle),
        calibration=None if bundle is None else bundle.calibration,
    )


async def warm_up(plane: DataPlane) -> None:
    """Score and explain some rows, so that the first user does not wait for compilers and caches."""
    model = plane.model
    rows = np.zeros((1, len(model.contract.features))) if model.bundle is None else model.bundle.reference[:256]
    for _ in range(WARM_UP_ROUNDS):
        for some in (rows, rows[:1]):
            try:
                scored = await plane.answer(Query(rows=some))
                await plane.explain(some[:1], scored.scores[:1])
            except Exception as error:  # noqa: BLE001 - zeros need not be valid input of a model without reference
                log.info("warm-up: %s", error)
                return


def _reference_scores(model: Model, bundle: Bundle) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.asarray(model.scorer.score(bundle.reference), dtype=np.float64)

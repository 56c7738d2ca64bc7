"""From the cache to a model that can serve: verify, flatten in a process of its own, load, warm up."""

import asyncio
import json
import logging
import shutil
import sys
from pathlib import Path

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

EXIT_REFUSED = 65
FLATTEN_SECONDS = 120.0
WARM_UP_ROUNDS = 20


class RefusedError(Exception):
    """The artifact is not what was resolved, or may not be loaded: trying again does not help."""


class UnavailableError(Exception):
    """The artifact cannot be had now: trying again may help."""


async def flatten(cache: Cache, digest: str, *, allow_pickle: bool) -> Path:
    """Return the flattened model's folder, making it if need be, in a short-lived process.

    Raises RefusedError with the reason, or UnavailableError when the process dies or takes too long.
    """
    place = cache.flat(digest)
    if (place / "meta.json").is_file():
        _check_pickle(place, allow_pickle=allow_pickle)
        return place
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
        await asyncio.to_thread(cache.adopt, out, place)
    return place


async def load(settings: Settings, config: Config, boot_id: str) -> DataPlane:
    """Return a warm data plane for the pod's artifact.

    Raises RefusedError, or UnavailableError when `fetch` has not brought the artifact.
    """
    artifact, cache = settings.artifact, Cache(settings.artifact.cache_dir)
    digest = wanted_digest(artifact, cache)
    if digest is None or not await asyncio.to_thread(cache.holds, digest):
        raise UnavailableError(f"{artifact.cache_dir}: no artifact {digest or 'of ' + artifact.source}; run `fetch`")
    flat = await flatten(cache, digest, allow_pickle=artifact.allow_pickle)
    try:
        bundle = read_bundle(cache.model(digest))
        scorer = await asyncio.to_thread(scoring.load, flat, cache.model(digest))
    except (BundleError, scoring.RefusedError) as error:
        raise RefusedError(str(error)) from None
    except (OSError, ValueError, KeyError) as error:
        shutil.rmtree(flat, ignore_errors=True)
        raise UnavailableError(f"{flat}: cannot be read, made anew at the next start: {error}") from None
    contract = Contract(
        features=scorer.features,
        model=settings.model,
        version=settings.version,
        accepts_missing=scorer.accepts_missing,
        accepts_infinite=scorer.accepts_infinite,
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


def _check_pickle(flat: Path, *, allow_pickle: bool) -> None:
    """Refuse what another pod was allowed to flatten from a pickle and this one is not."""
    meta = json.loads((flat / "meta.json").read_text())
    if meta.get("format") != "skops" and not allow_pickle:
        raise RefusedError("the artifact is a pickle and spec.model.allowPickle is false")

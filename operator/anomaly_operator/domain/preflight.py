"""What speaks against a version before any pod of it starts: what the registry says of it, and what pods say."""

from anomaly_operator.domain import reasons
from anomaly_operator.domain.fields import parse_quantity
from anomaly_operator.domain.model import Desired, Observed, Pod, Resolved, Revision
from anomaly_operator.domain.spec import Spec

Objection = tuple[str, str]
"""A reason, and the same in words."""


def objection(observed: Observed, desired: Desired, resolved: Resolved, pinned: str | None) -> Objection | None:
    """Return why a version must not be tried at all; `pinned` is the digest that it had before."""
    model = desired.spec.model
    if resolved.artifact_format == "cloudpickle" and not model.allow_pickle:
        words = (
            f"version {resolved.version} of {model.name} is a cloudpickle artifact, which can run code when it is"
            " loaded: log it with skops, or set spec.model.allowPickle to true"
        )
        return reasons.PICKLE_NOT_ALLOWED, words
    too_large = _too_large(desired.spec, resolved)
    if too_large is not None:
        return reasons.MODEL_TOO_LARGE, too_large
    if resolved.digest and pinned and resolved.digest != pinned:
        words = (
            f"version {resolved.version} of {model.name} has the digest {resolved.digest} now and had {pinned}:"
            " artifacts must not change under the same number; register them as a new version"
        )
        return reasons.DIGEST_CHANGED, words
    mismatch = _environment(observed, desired, resolved)
    return None if mismatch is None else (reasons.ENVIRONMENT_MISMATCH, mismatch)


def _too_large(spec: Spec, resolved: Resolved) -> str | None:
    """Return that the artifact does not fit into a pod's emptyDir: the kubelet would evict pod after pod."""
    cache = spec.detector.cache
    try:
        limit = parse_quantity(cache.size_limit)
    except ValueError:
        return None  # the API server says so when the Deployment is applied
    if cache.persistent_volume_claim is not None or resolved.size is None or resolved.size <= limit:
        return None
    return (
        f"version {resolved.version} of {spec.model.name} has {resolved.size} bytes, more than"
        f" spec.detector.cache.sizeLimit ({cache.size_limit}): raise that, or register a smaller model"
    )


def _environment(observed: Observed, desired: Desired, resolved: Resolved) -> str | None:
    """Return that the image has another scikit-learn than the version was logged with.

    What an image has is known from pods that run it already, by their reports; of an image that no pod runs yet, its
    init container is the first to tell. A tag that may mean another image by now tells nothing.
    """
    image = desired.spec.detector.image or desired.settings.detector_image
    logged = resolved.scikit_learn
    if not logged or not _is_fixed(image):
        return None
    pods = [pod for track in observed.tracks.values() for pod in track.pods]
    running = [(pod, revision) for pod in pods if (revision := observed.revisions.get(pod.revision)) is not None]
    running = [(pod, revision) for pod, revision in running if _image(revision) == image]
    if any(pod.ready and revision.version == resolved.version for pod, revision in running):
        return None  # it is loaded already
    here = {found for pod, _ in running if (found := _scikit_learn(pod))}
    if len(here) != 1 or _minor(logged) in {_minor(found) for found in here}:
        return None
    return (
        f"version {resolved.version} of {desired.spec.model.name} was logged with scikit-learn {logged} and the image"
        f" {image} has {here.pop()}, which reads models of the same minor version only: train again, or set"
        f" spec.detector.image to one with scikit-learn {_minor(logged)}"
    )


def _scikit_learn(pod: Pod) -> str:
    return pod.report.scikitLearn if pod.report is not None and not pod.report_foreign else ""


def _image(revision: Revision) -> str:
    containers = (revision.template.get("spec") or {}).get("containers") or ()
    return next((str(one.get("image")) for one in containers if one.get("name") == "detector"), "")


def _is_fixed(image: str) -> bool:
    tag = image.rpartition("/")[2].partition(":")[2]
    return "@" in image or tag not in ("", "latest")


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])

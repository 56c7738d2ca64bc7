"""Training data from the detector pods themselves: the newest rows that users sent, from each pod's ring.

A retraining Job finds the pods in the file that ANOMALY_PODS_FILE names (docs/pod-contract.md).
"""

import io
import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import requests

from anomaly_detector.train.environment import setting
from anomaly_detector.train.errors import DataError, RegistryError
from anomaly_detector.train.features import FeatureNotes
from anomaly_detector.train.frames import Missing, Place, to_table
from anomaly_detector.train.table import Table

TIMEOUT = (5.0, 30.0)  # to connect, between bytes


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod's admin port and the token that opens it."""

    name: str
    url: str
    token: str = field(repr=False)


def read_pods(*, notes: FeatureNotes, missing: Missing = "refuse") -> Table:
    """Return the rows of all pods in the order of time; a pod that does not answer is left out if another does.

    Raises DataError when the file with the pods is missing or no table comes back, RegistryError if no pod answers.
    """
    frames, failures = [], []
    for pod in _pods():
        try:
            frames.append(_window(pod))
        except (requests.RequestException, ValueError) as error:
            failures.append(f"{pod.name}: {error}")
    if not frames:
        raise RegistryError("--data pods: no pod gave its rows: " + "; ".join(failures))
    table = to_table(pd.concat(frames, ignore_index=True), Place(source="pods"), notes=notes, missing=missing)
    return replace(table, source=f"pods ({len(frames)} of {len(frames) + len(failures)})")


def _pods() -> list[Pod]:
    text = setting("ANOMALY_PODS")  # read from the file that ANOMALY_PODS_FILE names
    if text is None:
        raise DataError("--data pods: ANOMALY_PODS_FILE is not set; the operator's retraining Jobs have it")
    try:
        return [Pod(pod["name"], pod["url"].rstrip("/"), pod["token"]) for pod in json.loads(text)["pods"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f'ANOMALY_PODS_FILE: expected {{"pods": [{{"name", "url", "token"}}]}}: {error!r}') from None


def _window(pod: Pod) -> Any:
    answer = requests.get(f"{pod.url}/window", headers={"Authorization": f"Bearer {pod.token}"}, timeout=TIMEOUT)
    if answer.status_code != requests.codes.ok:
        raise ValueError(f"{answer.status_code} {answer.text[:200]}")
    return pd.read_csv(io.StringIO(answer.text))


def kept_rows(reference: Any, share: float) -> Any:
    """Return a share of a reference sample's rows, evenly spaced, in its order; none for a share of zero."""
    count = round(len(reference) * share)
    return reference[np.linspace(0, len(reference) - 1, count).round().astype(np.intp)] if count else None

"""The drift event that asked for a retraining; it travels with the version that answers it."""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from anomaly_detector.report import PREFIX
from anomaly_detector.train.errors import DataError

EVENT_ID = PREFIX + "event-id"
EVENT = PREFIX + "event"
ID = re.compile(r"[A-Za-z0-9._:/@+-]{1,200}")  # it is part of a query to the registry
MOST_CHARACTERS = 4_900  # the registry's limit of a tag is 5,000


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftEvent:
    """Why a model is trained anew."""

    id: str
    """The same event asks for one version, however often the Job is started."""
    breach_start: np.datetime64 | None
    """UTC; rows from here on are of the new world."""
    body: dict[str, Any]
    """All of it, as given: tests, values, window."""

    def tags(self) -> dict[str, str]:
        """Return the tags that a run and a version carry."""
        return {EVENT_ID: self.id, EVENT: _fitting(self.body)}


def read_event(given: str) -> DriftEvent:
    """Read `--event`: JSON itself (it begins with a brace) or a file that holds it. Raises DataError."""
    try:
        text = given if given.lstrip().startswith("{") else Path(given).read_text()
        body = json.loads(text)
    except OSError as error:
        raise DataError(f"--event {given}: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"--event: not JSON: {error}") from None
    if not isinstance(body, dict) or not isinstance(body.get("id"), str):
        raise DataError("--event: expected an object with an id, a text that is the same for the same event")
    if not ID.fullmatch(body["id"]):
        raise DataError(f"--event: id {body['id']!r}: expected up to 200 letters, digits and . _ : / @ + -")
    return DriftEvent(id=body["id"], breach_start=_time(body.get("breachStart")), body=body)


def _fitting(body: dict[str, Any]) -> str:
    """Return JSON that fits into a tag: the least drifted features are left out first, then all that is not needed."""
    features = body.get("features")
    features = features if isinstance(features, list) else []
    kept = {name: body[name] for name in ("id", "trigger", "breachStart") if name in body}
    shorter = (body | {"features": features[:count]} for count in range(len(features) - 1, -1, -1))
    for candidate in (body, *shorter, kept):
        text = json.dumps(candidate, separators=(",", ":"))
        if len(text) <= MOST_CHARACTERS:
            break
    return text


def _time(text: Any) -> np.datetime64 | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise DataError(f"--event: breachStart: expected an RFC 3339 time, got {text!r}")
    return np.datetime64(at.astimezone(UTC).replace(tzinfo=None), "us")

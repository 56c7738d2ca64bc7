"""How long a track has been short of ready pods: a small memory that the runtime carries between observations."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from anomaly_operator.domain.model import Track
from anomaly_operator.domain.records import Color


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """Since when a color has been short of pods; None while it is not."""

    none_ready_since: float | None = None
    half_unready_since: float | None = None


def watch(before: Mapping[Color, Shortage], tracks: Mapping[Color, Track], now: float) -> dict[Color, Shortage]:
    """Return the memory after an observation at `now`."""
    after = {}
    for color, track in tracks.items():
        known = before.get(color, Shortage())
        wanted = track.deployment.replicas if track.deployment else 0  # of none, nothing is half
        ready = sum(pod.ready and not pod.terminating for pod in track.pods)
        after[color] = Shortage(
            none_ready_since=_since(ready == 0, known.none_ready_since, now),
            half_unready_since=_since(2 * ready < wanted, known.half_unready_since, now),
        )
    return after


def applied(track: Track, shortage: Shortage) -> Track:
    """Return the track with what the memory says of it."""
    return replace(track, none_ready_since=shortage.none_ready_since, half_unready_since=shortage.half_unready_since)


def _since(short: bool, since: float | None, now: float) -> float | None:  # noqa: FBT001 - private, always by position
    if not short:
        return None
    return now if since is None else since

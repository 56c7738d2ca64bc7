"""Orders plots from a worker process and keeps the newest."""

import asyncio
import sys
from collections import OrderedDict
from typing import Any

import orjson

from anomaly_detector.problems import Problem

KINDS = ("waterfall", "force", "summary", "dependence")
KEPT = 32
SECONDS = 60.0


class Plotter:
    """Draws one plot at a time; drawing takes seconds and must not take the pod's memory or its event loop."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._one_at_a_time = asyncio.Lock()

    async def plot(self, order: dict[str, Any]) -> bytes:
        """Return a plot's PNG or HTML; see `draw`. Raises Problem (503) when it cannot be drawn in time."""
        key = orjson.dumps(order, option=orjson.OPT_SERIALIZE_NUMPY)
        if key not in self._kept:
            async with self._one_at_a_time:
                if key not in self._kept:
                    self._kept[key] = await _draw(key)
        self._kept.move_to_end(key)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]


async def _draw(order: bytes) -> bytes:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "anomaly_detector.plots.draw",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        drawn, said = await asyncio.wait_for(process.communicate(order), SECONDS)
    except TimeoutError:
        raise Problem(503, "PlotTimeout", f"the plot was not drawn within {SECONDS:g} s; try again") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        reason = said.decode(errors="replace").strip().splitlines()
        raise Problem(503, "PlotFailed", f"the plot could not be drawn: {reason[-1][:200] if reason else 'no reason'}")
    return drawn

"""What a change of `config.json` builds anew, beside the requests."""

import asyncio
import logging

from anomaly_detector.config import Config
from anomaly_detector.dataplane import DataPlane
from anomaly_detector.loading import make_drift_detector, make_explainer
from anomaly_detector.observer import Observer

log = logging.getLogger(__name__)


class Rebuilder:
    """Replaces the explainer and the drift detector when what they were built by has changed.

    Both take up to seconds, for large or slow models, so a thread builds them; the old ones serve until then.
    """

    def __init__(self, plane: DataPlane, observer: Observer, config: Config) -> None:
        self._plane, self._observer = plane, observer
        self._built = self._wanted = config
        self._task: asyncio.Task[None] | None = None

    def want(self, config: Config) -> None:
        """Build what this configuration asks for."""
        self._wanted = config
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._follow())

    async def done(self) -> None:
        """Wait until what was wanted last is in force."""
        if self._task is not None:
            await self._task

    async def _follow(self) -> None:
        while (config := self._wanted) != self._built:
            try:
                await self._build(config)
            except Exception:
                log.exception("the new configuration could not be put in force")
            self._built = config

    async def _build(self, config: Config) -> None:
        model, built = self._plane.model, self._built
        if (config.explanations, config.top_k) != (built.explanations, built.top_k):
            self._plane.explainer = await asyncio.to_thread(make_explainer, model, config)
        if config.drift != built.drift:
            self._observer.replace_detector(await asyncio.to_thread(make_drift_detector, model, config))

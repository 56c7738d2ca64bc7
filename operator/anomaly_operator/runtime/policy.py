"""Whether the admission policy is in place without which no detector may be given rights."""

import asyncio
import logging
from collections.abc import Callable

from anomaly_operator.adapters.kube import Kube, KubeError, NotFoundError
from anomaly_operator.domain.names import POLICY

log = logging.getLogger(__name__)

PERIOD = 10.0
_KINDS = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")


class PolicyWatch:
    """Look for the policy and its binding now and then."""

    def __init__(self, kube: Kube, on_change: Callable[[bool], None]) -> None:
        self._kube, self._on_change = kube, on_change
        self._in_place: bool | None = None

    async def look(self) -> None:
        """Look once; an API error leaves what is known as it is."""
        try:
            for kind in _KINDS:
                await self._kube.get(kind, None, POLICY)
            found = True
        except NotFoundError:
            found = False
        except KubeError as error:
            log.warning("the admission policy %s could not be looked for: %s", POLICY, error)
            return
        if found != self._in_place:
            self._in_place = found
            self._on_change(found)

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self.look()
            await asyncio.sleep(PERIOD)

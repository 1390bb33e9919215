"""Copies the weights of tenants to the rotas of this worker's queues, where the scripts read them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from broker_config.telemetry import get_logger
from sessions.errors import BackendError
from sessions.store.keys import escaped
from sessions.store.rota import Rota
from sessions.store.submission_limits import OwnLimitStore

_PERIOD: Final = 1.0
_RENEWED: Final = 3600.0
_log = get_logger(__name__)


class TenantWeights:
    """One per worker process. All workers of a queue write the same, so it does not matter who comes last."""

    def __init__(self, client: Any, rota: Rota, queues: Callable[[], Sequence[str]]) -> None:
        self._limits = OwnLimitStore(client)
        self._rota = rota
        self._queues = queues
        self._copied: tuple[int, Sequence[str]] | None = None
        self._at = 0.0

    async def run(self) -> None:
        """Keep up with changes, for ever."""
        while True:
            try:
                await self.copy()
            except BackendError as error:
                _log.warning("weights_not_copied", error=str(error))
            await asyncio.sleep(_PERIOD)

    async def copy(self) -> None:
        """Copy the weights if they or the queues have changed, and once an hour.

        Raises:
            BackendError: the store did not answer, or a weight cannot be read.
        """
        version, queues = await self._limits.version(), tuple(self._queues())
        if self._copied == (version, queues) and time.monotonic() - self._at < _RENEWED:
            return
        own = await self._limits.all() if version else {}
        weights = {escaped(tenant): one.weight for (tenant, user), one in own.items() if not user and one.weight}
        for queue in queues:
            await self._rota.set_weights(queue, weights)
        self._copied, self._at = (version, queues), time.monotonic()

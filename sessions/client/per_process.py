"""The clients of this process: one for each fleet, shared by all threads and event loops."""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from typing import Any, Final

from broker_config.settings import Settings, load_settings
from sessions.client.fleet_client import FleetClient
from sessions.protocol.worker_info import WorkerInfo

__all__ = ["FleetClient", "fleet_info", "get_client"]


@lru_cache(maxsize=8)
def _client_of(settings: Settings, generation: int) -> FleetClient:
    return FleetClient(settings)


class _Generations:
    """A number that grows when the cached clients become unusable, which is after a fork."""

    def __init__(self) -> None:
        self.current = 0
        # `lru_cache` alone would create a client for each thread that asks at the same time.
        self.lock = threading.RLock()
        os.register_at_fork(
            before=self.lock.acquire, after_in_parent=self.lock.release, after_in_child=self.lock.release
        )


_generations: Final = _Generations()


def get_client(settings: Settings | None = None) -> FleetClient:
    """The client of this process for these settings (by default those of the environment)."""
    wanted = settings or load_settings()
    with _generations.lock:
        client = _client_of(wanted, _generations.current)
        if not client.portal.usable:
            _generations.current += 1
            client = _client_of(wanted, _generations.current)
        return client


def fleet_info(settings: Settings | None = None) -> dict[str, Any]:
    """The running workers by id."""
    client = get_client(settings)

    async def running() -> list[WorkerInfo]:
        await client.open()
        return await client.connection.workers(fresh=True)

    return {worker.id: worker for worker in client.portal.call(running())}

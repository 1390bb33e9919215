"""Which workers are running and what they know, so that a client can refuse a tool that no worker has."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from pydantic import ValidationError

from sessions.protocol.worker_info import WorkerInfo
from sessions.store.keys import FLEET, WORKERS, worker_key
from sessions.store.scripts import ScriptRunner, translated
from sessions.store.transitions import fleet as transitions

ALIVE_MS: Final = 15_000
"""A worker without a report for this long counts as dead. (Its turns are rescued when their leases end.)"""
_REMEMBERED: Final = 5.0


async def note_worker(scripts: ScriptRunner, info: WorkerInfo, consumed: dict[str, int]) -> Sequence[str]:
    """Report that this worker is running, what it knows, and how far it has read its queues.

    Returns:
        Digests of the models whose calls are being held back (`sessions.store.model_limits`).
    """
    call = transitions.note_worker(
        (FLEET,), worker=info.id, info=info.model_dump_json(), alive_ms=ALIVE_MS, consumed=consumed
    )
    return (await scripts.run(call)).models


async def forget_worker(scripts: ScriptRunner, worker_id: str) -> None:
    """Report that this worker leaves."""
    await scripts.run(transitions.note_worker((FLEET,), worker=worker_id, info="", alive_ms=ALIVE_MS, consumed={}))


class Catalog:
    """The running workers, cached for a few seconds."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._seen: tuple[float, list[WorkerInfo]] = (0.0, [])

    async def workers(self, *, fresh: bool = False) -> list[WorkerInfo]:
        """The workers that were running a moment ago.

        Raises:
            StoreUnavailable, BackendError: the store did not answer.
        """
        seen, workers = self._seen
        if fresh or not workers or time.monotonic() - seen > _REMEMBERED:
            with translated():
                workers = await running_workers(self._client)
            self._seen = (time.monotonic(), workers)
        return workers

    async def serves(self, queue: str) -> bool:
        """Whether a running worker serves a queue."""
        return any(queue in worker.queues for worker in await self.workers())


async def running_workers(client: Any) -> list[WorkerInfo]:
    """The workers that have reported recently; those with an unknown version of the report are left out."""
    ids = [raw.decode() for raw in await client.zrange(WORKERS, 0, -1)]
    found: list[WorkerInfo] = []
    for raw in await client.mget([worker_key(i) for i in ids]) if ids else ():
        if raw is not None:
            try:
                found.append(WorkerInfo.model_validate_json(raw))
            except ValidationError:
                continue
    return found

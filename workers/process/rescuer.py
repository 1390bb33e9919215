"""Finds sessions that nobody works on though something is due: a dead worker's, a lost wake-up's, a pause that ended.

Every worker looks once a second through the partitions that it has claimed for a short time. A claim saves work and
guards nothing: the lease does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Final

from celery import Celery
from kombu.exceptions import OperationalError

from broker_config.celery_options import RESCUE_SUFFIX
from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.errors import BackendError
from sessions.store.keys import CONSUMED, FLEET, partition_key
from sessions.store.scripts import ScriptRunner, translated
from sessions.store.transitions.fleet import Looked, claim_rescue, rescue_partition

Wake = Callable[[str, int, str], Awaitable[bool]]
_log = get_logger(__name__)
_GROUPS: Final = 16
_TICK: Final = 1.0
_AFTER_OUTAGE: Final = 1.0
_LOOK_AT: Final = 500
_ALIVE_MS: Final = 2_000  # workers speak once a second; the groups of one taken for dead are the others' at once


class Rescuer:
    """One worker's share of the rescue."""

    def __init__(
        self,
        settings: Settings,
        scripts: ScriptRunner,
        store: object,
        app: Celery,
        worker_id: str,
        wake: Wake,
        run_here: Callable[[str, str], bool],
    ) -> None:
        self._settings = settings
        self._scripts = scripts
        self._store = store
        self._app = app
        self._worker_id = worker_id
        self._wake = wake
        self._run_here = run_here
        # At most the lease less 2 s, so that a dead rescuer costs no more than a dead worker (R9).
        self._claim_ms = int(max(1.0, min(3.0, settings.lease - 2.0)) * 1000)
        self._queues = {*settings.served, *(name + RESCUE_SUFFIX for name in settings.served)}
        self._rest = False

    async def run(self) -> None:
        """Look once a second, for ever."""
        while True:
            try:
                await self.look()
            except BackendError as error:
                _log.warning("rescue_paused", error=str(error))
                # The store is coming back: let living workers say first which leases an outage ended (R8).
                await asyncio.sleep(_AFTER_OUTAGE)
            except Exception:  # noqa: BLE001 - whatever it is, a worker without its rescuer loses turns in silence
                _log.exception("rescue_broke")
            await asyncio.sleep(_TICK)

    async def look(self) -> int:
        """Look once; how many wake-ups were published."""
        if self._rest:  # the last publish failed: leave the claim to a worker that reaches the broker
            self._rest = False
            return 0
        claim = claim_rescue(
            (FLEET,), worker=self._worker_id, claim_ms=self._claim_ms, groups=_GROUPS, alive_ms=_ALIVE_MS
        )
        groups = (await self._scripts.run(claim)).groups
        partitions = [partition_key(p) for p in range(self._settings.partitions) if p % _GROUPS in groups]
        if not partitions:
            return 0
        marks = json.dumps(await self._marks())
        replies = await asyncio.gather(
            *(
                self._scripts.run(rescue_partition(keys, most=_LOOK_AT, marks=marks))
                for keys in self._batches(partitions)
            )
        )
        full = await self._met({queue for reply in replies for _, queue in reply.due} - self._queues)
        return sum([await self._publish(reply, full) for reply in replies])

    def _batches(self, partitions: list[str]) -> list[tuple[str, ...]]:
        """All partitions in one call on a plain server; one call each on a cluster, where they live apart."""
        return [(p,) for p in partitions] if self._settings.redis_cluster else [tuple(partitions)]

    async def _met(self, queues: set[str]) -> set[str]:
        """Of the queues seen here for the first time, those with wake-ups in them: from the next look on they tell.

        Else each worker that starts would add one for every session of a queue that nobody serves.
        """
        if not queues:
            return set()
        self._queues |= queues | {queue.removesuffix(RESCUE_SUFFIX) for queue in queues}
        lengths = await asyncio.get_running_loop().run_in_executor(None, self._lengths)
        return {queue for queue in queues if lengths.get(queue)}

    async def _publish(self, looked: Looked, full: set[str]) -> int:
        for ref, queue in looked.due:
            if queue in full:
                continue
            _log.info("rescued", session=ref, queue=queue)
            self._rest = self._rest or not await self._wake(ref, looked.now_ms, queue)
            if self._rest and not self._serve(ref, queue):
                break  # the index has them again in two seconds
        return len(looked.due)

    def _serve(self, ref: str, queue: str) -> bool:
        """The broker takes no wake-up, because it is gone or full: run the session here; False when no slot is free."""
        return self._run_here(ref, queue.removesuffix(RESCUE_SUFFIX))

    async def _marks(self) -> dict[str, list[int]]:
        """For each queue: how far it was read (acceptance time of the newest wake-up taken, ms), and how long it is."""
        lengths = await asyncio.get_running_loop().run_in_executor(None, self._lengths)
        with translated():
            consumed = await self._store.hgetall(CONSUMED)  # type: ignore[attr-defined]
        return {name: [int(consumed.get(name.encode(), 0)), length] for name, length in lengths.items()}

    def _lengths(self) -> dict[str, int]:
        try:
            with self._app.pool.acquire(block=True) as connection:
                channel = connection.default_channel
                return {name: _length(channel, name) for name in sorted(self._queues)}
        except (OperationalError, OSError, *self._app.connection_for_read().connection_errors) as error:
            _log.warning("queues_not_seen", error=repr(error))
            return {}


def _length(channel: object, queue: str) -> int:
    size: Callable[[str], int] | None = getattr(channel, "_size", None)  # kombu's virtual transports, Redis among them
    if size is not None:
        return int(size(queue))
    return int(channel.queue_declare(queue=queue, passive=True).message_count)  # type: ignore[attr-defined]

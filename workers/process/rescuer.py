"""Finds sessions with something due that no worker runs, and publishes wake-ups for them.

Their worker crashed, their wake-up was lost, a turn's pause has ended, or a schedule is due. Every worker checks once a
second, in the partitions that it has claimed for a few seconds. Claims only keep workers from doing the same work
twice. If two workers have the same claim, nothing breaks, because the lease decides who runs a session.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
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
from sessions.store.wake_up import Publish, WakeUp

_log = get_logger(__name__)
_GROUPS: Final = 16
_TICK: Final = 1.0
_AFTER_OUTAGE: Final = 1.0
_LOOK_AT: Final = 500
_ALIVE_MS: Final = 2_000  # workers note once a second that they are alive; a dead one's groups go to the others


class Rescuer:
    """One worker's share of the rescue. One per worker process."""

    def __init__(
        self,
        settings: Settings,
        scripts: ScriptRunner,
        store: object,
        app: Celery,
        worker_id: str,
        publish: Publish,
        run_here: Callable[[str, str], bool],
        act_on_schedules: Callable[[Iterable[str]], None],
    ) -> None:
        self._settings = settings
        self._scripts = scripts
        self._store = store
        self._app = app
        self._worker_id = worker_id
        self._publish_wake = publish
        self._run_here = run_here
        self._act_on_schedules = act_on_schedules
        # Shorter than the lease by 2 s where possible, so that a crash of a rescuer delays the rescue no longer than a
        # crash of the worker that ran the session.
        self._claim_ms = int(max(1.0, min(3.0, settings.lease - 2.0)) * 1000)
        self._queues = {*settings.served, *(name + RESCUE_SUFFIX for name in settings.served)}
        self._rest = False

    async def run(self) -> None:
        """Check once a second, for ever."""
        while True:
            try:
                await self.look()
            except BackendError as error:
                _log.warning("rescue_paused", error=str(error))
                # The store may be coming back. Give the workers that are alive time to report which leases expired in
                # the outage, so that those do not count as crashes.
                await asyncio.sleep(_AFTER_OUTAGE)
            except Exception:  # noqa: BLE001 - no error may end the rescue, because turns would be lost without notice
                _log.exception("rescue_broke")
            await asyncio.sleep(_TICK)

    async def look(self) -> int:
        """Check once. Returns the number of sessions that were due."""
        if self._rest:  # the last publish failed: let the claim go to a worker that reaches the broker
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
        self._act_on_schedules([ref for reply in replies for ref in reply.ticking])
        full = await self._met({queue for reply in replies for _, queue in reply.to_wake} - self._queues)
        return sum([await self._publish(reply, full) for reply in replies])

    def _batches(self, partitions: list[str]) -> list[tuple[str, ...]]:
        """All partitions in one call on a single server; one call each on a cluster (different slots)."""
        return [(p,) for p in partitions] if self._settings.redis_cluster else [tuple(partitions)]

    async def _met(self, queues: set[str]) -> set[str]:
        """Of these queues, which are new to this rescuer, those that have wake-ups in them.

        Nothing is published to them this time. From the next check on, `_marks` shows how far they were read.
        Otherwise each worker that starts would publish a wake-up for every session of a queue that no worker serves.
        """
        if not queues:
            return set()
        self._queues |= queues | {queue.removesuffix(RESCUE_SUFFIX) for queue in queues}
        lengths = await asyncio.get_running_loop().run_in_executor(None, self._lengths)
        return {queue for queue in queues if lengths.get(queue)}

    async def _publish(self, looked: Looked, full: set[str]) -> int:
        for ref, queue in looked.to_wake:
            if queue in full:
                continue
            _log.info("rescued", session=ref, queue=queue)
            self._rest = self._rest or not await self._publish_wake(WakeUp(ref, queue, looked.now_ms))
            if self._rest and not self._serve(ref, queue):
                break  # the index lists the rest again in two seconds
        return len(looked.to_wake)

    def _serve(self, ref: str, queue: str) -> bool:
        """Run the session here, because the broker is down or full and takes no wake-up. False when no slot is free."""
        return self._run_here(ref, queue.removesuffix(RESCUE_SUFFIX))

    async def _marks(self) -> dict[str, list[int]]:
        """For each queue: the acceptance time (ms) of the newest wake-up that was taken from it, and its length."""
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
    size: Callable[[str], int] | None = getattr(channel, "_size", None)  # kombu's virtual transports, such as Redis
    if size is not None:
        return int(size(queue))
    return int(channel.queue_declare(queue=queue, passive=True).message_count)  # type: ignore[attr-defined]

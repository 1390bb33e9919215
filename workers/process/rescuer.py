"""Finds sessions with something due that no worker runs, and publishes wake-ups for them.

Their worker crashed, their place in the rota or their wake-up was lost, a turn's pause has ended, or a schedule is due.
Every worker checks once a second, in the partitions that it has claimed for a few seconds. Claims only keep workers
from doing the same work twice. If two workers have the same claim, nothing breaks, because the lease decides who runs a
session.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final

from celery import Celery
from kombu.exceptions import OperationalError

from broker_config.celery_options import RESCUE_SUFFIX
from broker_config.settings import Settings
from broker_config.telemetry import get_logger
from sessions.errors import BackendError
from sessions.store.keys import FLEET, partition_key
from sessions.store.rota import Rota
from sessions.store.scripts import ScriptRunner
from sessions.store.transitions.fleet import claim_rescue, rescue_partition
from sessions.store.wake_up import Publish, WakeUp

_log = get_logger(__name__)
_GROUPS: Final = 16
_TICK: Final = 1.0
_AFTER_OUTAGE: Final = 1.0
_LOOK_AT: Final = 500
_PUBLISHED_AT_ONCE: Final = 500
_ALIVE_MS: Final = 2_000  # workers note once a second that they are alive; a dead one's groups go to the others


class Rescuer:
    """One worker's share of the rescue. One per worker process."""

    def __init__(
        self,
        settings: Settings,
        scripts: ScriptRunner,
        rota: Rota,
        app: Celery,
        worker_id: str,
        publish: Publish,
        run_here: Callable[[WakeUp], bool],
        act_on_schedules: Callable[[Iterable[str]], None],
    ) -> None:
        self._settings = settings
        self._scripts = scripts
        self._rota = rota
        self._app = app
        self._worker_id = worker_id
        self._publish_wake = publish
        self._run_here = run_here
        self._act_on_schedules = act_on_schedules
        # Shorter than the lease by 2 s where possible, so that a crash of a rescuer delays the rescue no longer than a
        # crash of the worker that ran the session.
        self._claim_ms = int(max(1.0, min(3.0, settings.lease - 2.0)) * 1000)
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
        await self._replace_wake_ups()
        claim = claim_rescue(
            (FLEET,), worker=self._worker_id, claim_ms=self._claim_ms, groups=_GROUPS, alive_ms=_ALIVE_MS
        )
        groups = (await self._scripts.run(claim)).groups
        partitions = [partition_key(p) for p in range(self._settings.partitions) if p % _GROUPS in groups]
        if not partitions:
            return 0
        replies = await asyncio.gather(
            *(self._scripts.run(rescue_partition(keys, most=_LOOK_AT)) for keys in self._batches(partitions))
        )
        self._act_on_schedules([ref for reply in replies for ref in reply.ticking])
        now_ms = max(reply.now_ms for reply in replies)
        waiting: dict[str, list[str]] = defaultdict(list)
        for ref, queue in (due for reply in replies for due in reply.to_wake):
            waiting[queue].append(ref)
        for queue, refs in waiting.items():
            # One that is in the rota waits for its turn, however long.
            lost = await self._rota.join_first(queue, refs, now_ms)
            await self._wake(WakeUp(ref, queue, now_ms, in_rota=True) for ref in lost[:_PUBLISHED_AT_ONCE])
        return sum(map(len, waiting.values()))

    def _batches(self, partitions: list[str]) -> list[tuple[str, ...]]:
        """All partitions in one call on a single server; one call each on a cluster (different slots)."""
        return [(p,) for p in partitions] if self._settings.redis_cluster else [tuple(partitions)]

    async def _replace_wake_ups(self) -> None:
        """Publish wake-ups where sessions wait in the rota and none are left.

        Which ones were lost does not matter, because each stands for one place. A few are enough at a time: if more are
        missing, the next look finds the queue empty again.
        """
        for queue in await asyncio.get_running_loop().run_in_executor(None, self._empty_queues):
            await self._wake(await self._rota.overdue(queue, _PUBLISHED_AT_ONCE))

    async def _wake(self, wake_ups: Iterable[WakeUp]) -> None:
        for wake_up in wake_ups:
            _log.info("rescued", session=wake_up.ref, queue=wake_up.queue)
            self._rest = self._rest or not await self._publish_wake(wake_up)
            if self._rest and not self._run_here(wake_up):
                break  # the broker is down or full, and so are the slots here; the next look finds the rest

    def _empty_queues(self) -> list[str]:
        """The queues of this worker that have no wake-ups, nor has their rescue queue; all if the broker is down."""
        try:
            with self._app.pool.acquire(block=True) as connection:
                channel = connection.default_channel
                return [
                    queue
                    for queue in self._settings.served
                    if not any(_length(channel, name) for name in (queue, queue + RESCUE_SUFFIX))
                ]
        except (OperationalError, OSError, *self._app.connection_for_read().connection_errors) as error:
            _log.warning("queues_not_seen", error=repr(error))
            return list(self._settings.served)


def _length(channel: object, queue: str) -> int:
    size: Callable[[str], int] | None = getattr(channel, "_size", None)  # kombu's virtual transports, such as Redis
    if size is not None:
        return int(size(queue))
    return int(channel.queue_declare(queue=queue, passive=True).message_count)  # type: ignore[attr-defined]

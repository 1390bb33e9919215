"""Whether a deployment is active: for code that starts, ends and examines fleets, not for the turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from broker_config.redis_clients import async_store
from broker_config.settings import Settings
from sessions.protocol.worker_info import WorkerInfo
from sessions.store.catalog import running_workers
from sessions.store.keys import WORKERS, partition_key
from sessions.store.scripts import store_error


@dataclass(frozen=True, slots=True)
class Activity:
    """The state of a deployment at one moment.

    Attributes:
        last_seen: seconds since each worker's last report, by its id.
        open_sessions: sessions with a turn that has not ended, whichever queue it is in and whenever it begins, or with
            an active schedule.
    """

    workers: tuple[WorkerInfo, ...]
    last_seen: dict[str, float]
    open_sessions: int

    @property
    def turns_done(self) -> int:
        """Turns that the running workers have ended: only this shows short turns."""
        return sum(worker.turns_done for worker in self.workers)


async def look(settings: Settings) -> Activity:
    """Look at workers and open turns, on a separate connection.

    Raises:
        StoreUnavailable, BackendError: the store did not answer.
    """
    client = async_store(settings, name="sessionfleet-activity")
    try:
        workers = await running_workers(client)
        now = await store_time(client)
        spoke: Any = await client.zrange(WORKERS, 0, -1, withscores=True)
        async with client.pipeline(transaction=False) as pipe:
            for partition in range(settings.partitions):
                pipe.zcard(f"{partition_key(partition)}:wakeups")
            counts = await pipe.execute()
    except Exception as error:
        raise store_error(error) from error
    finally:
        await client.aclose()
    last_seen = {name.decode(): max(0.0, now - score / 1000) for name, score in spoke}
    return Activity(tuple(workers), last_seen, sum(counts))


async def store_time(client: Any) -> float:
    """The store's clock, in seconds since the epoch."""
    time = await client.time()
    seconds, micros = next(iter(time.values())) if isinstance(time, dict) else time
    return int(seconds) + int(micros) / 1_000_000

"""Turns that were set aside: their worker crashed too many times, or their record was lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sessions.store.keys import SessionKeys, partition_key
from sessions.store.scripts import store_error, translated


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A turn that is not run again. Its record and journal are kept for the lifetime of a result."""

    turn_id: str
    tenant: str
    since: float


async def dead_letters(client: Any, partitions: int) -> list[DeadLetter]:
    """All dead letters of a deployment, oldest first.

    Raises:
        StoreUnavailable, BackendError: the store did not answer.
    """
    found = []
    try:
        async with client.pipeline(transaction=False) as pipe:
            for partition in range(partitions):
                pipe.zrange(f"{partition_key(partition)}:dead", 0, -1, withscores=True)
            indexes = await pipe.execute()
    except Exception as error:
        raise store_error(error) from error
    for index in indexes:
        for member, score in index:
            ref, _, part = member.decode().rpartition("~")
            keys = SessionKeys.from_ref(ref, partitions)
            found.append(DeadLetter(keys.public_id(part), keys.tenant, score / 1000))
    return sorted(found, key=lambda letter: letter.since)


async def forget_dead(client: Any, keys: SessionKeys, part: str) -> None:
    """Remove a turn from the list of dead letters; its record stays.

    Raises:
        StoreUnavailable, BackendError: the store did not answer.
    """
    with translated():
        await client.zrem(f"{keys.partition}:dead", f"{keys.ref}~{part}")

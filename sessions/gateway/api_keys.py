"""API keys as the gateway checks them: looked up in the store by id, and cached for two seconds."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

from sessions.errors import TooManyRequests, Unauthenticated
from sessions.gateway.api_key import id_in, is_key
from sessions.gateway.principal import Principal, Right
from sessions.store.api_keys import ApiKeyRecord

REMEMBERED: Final = 2.0
"""Seconds for which an answer of the store is cached, and so for which a revoked key still opens requests."""
MOST_REMEMBERED: Final = 4096
STRANGERS_A_SECOND: Final = 100
"""How often per second the store is asked about ids that this process does not know to be valid."""
_WRONG: Final = "this API key is unknown, revoked or expired"


@dataclass(frozen=True, slots=True)
class _Known:
    record: ApiKeyRecord | None
    until: float


class ApiKeys:
    """Identifies the owner of an API key. Its cache is limited, and so is the load that invalid keys put on the store.

    Args:
        look_up: the record of an id, from the store.
        used: is told of each use of a good key.
    """

    def __init__(
        self,
        look_up: Callable[[str], Awaitable[ApiKeyRecord | None]],
        used: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._look_up = look_up
        self._used = used
        # Separate, so that a flood of unknown ids cannot displace the valid ones.
        self._good: OrderedDict[str, _Known] = OrderedDict()
        self._unknown: OrderedDict[str, _Known] = OrderedDict()
        self._asking: dict[str, asyncio.Task[ApiKeyRecord | None]] = {}
        self._second = 0
        self._strangers = 0

    async def principal(self, key: str) -> Principal:
        """The owner of a key.

        Raises:
            Unauthenticated: it is not a valid key. StoreUnavailable: the store cannot be asked.
            TooManyRequests: too many unknown keys are being tried at this moment.
        """
        key_id = id_in(key)
        record = None if key_id is None else await self._record(key_id)
        if not is_key(key, record) or record is None:
            raise Unauthenticated(f"{_WRONG}; `sessionfleet keys api list` lists the keys")
        self._used(record.id)
        return principal_of(record)

    async def _record(self, key_id: str) -> ApiKeyRecord | None:
        known = self._good.get(key_id) or self._unknown.get(key_id)
        if known is not None and monotonic() < known.until:
            return known.record
        task = self._asking.get(key_id)
        if task is None:
            if key_id not in self._good:
                self._count_stranger()
            task = asyncio.get_running_loop().create_task(self._ask(key_id))
            self._asking[key_id] = task
            task.add_done_callback(lambda done: self._asked(key_id, done))
        # Other requests wait for the same answer: a client that disconnects must not cancel the lookup.
        return await asyncio.shield(task)

    async def _ask(self, key_id: str) -> ApiKeyRecord | None:
        record = await self._look_up(key_id)
        known = _Known(record, monotonic() + REMEMBERED)
        for memory in (self._good, self._unknown):
            memory.pop(key_id, None)
        memory = self._unknown if record is None else self._good
        memory[key_id] = known
        if len(memory) > MOST_REMEMBERED:
            memory.popitem(last=False)
        return record

    def _asked(self, key_id: str, done: asyncio.Task[ApiKeyRecord | None]) -> None:
        self._asking.pop(key_id, None)
        if not done.cancelled():
            done.exception()  # for the requests that still wait; there may be none

    def _count_stranger(self) -> None:
        second = int(monotonic())
        if second != self._second:
            self._second, self._strangers = second, 0
        self._strangers += 1
        if self._strangers > STRANGERS_A_SECOND:
            raise TooManyRequests(
                "too many unknown API keys are being tried right now; try again later", retry_after=1.0
            )


def principal_of(record: ApiKeyRecord) -> Principal:
    """The principal that a key identifies. Rights that this version does not know are ignored."""
    user = None if record.acts_for_users else record.user or f"key:{record.id}"
    rights = frozenset(right for right in Right if right.value in record.rights)
    return Principal(
        record.tenant,
        user=user,
        rights=rights,
        acts_for_users=record.acts_for_users,
        id=f"key:{record.id}",
        rate=record.rate,
        concurrency=record.concurrency,
    )

"""The indexes by which sessions are listed: by tenant or by user, ordered by last use or by creation.

An index is one sorted set in each partition, changed by the scripts that create, use and end sessions, in the slot of
the session (ADR 0026). Reading merges the partitions. On one server a script does that, in one call. On a cluster each
partition is asked for a few entries, and again only if the merged page may lack some of its own.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, NamedTuple

from broker_config.settings import Settings
from sessions.store.keys import INDEXED, partition_key
from sessions.store.scripts import ScriptRunner
from sessions.store.transitions.indexes import read_index

_FIRST_READ: Final = 3
"""Entries of each partition of a cluster that are read at first, more than an even spread over them needs."""


class Position(NamedTuple):
    """An entry of an index. Positions are in the order of the index if they are sorted with the greatest first."""

    score: int
    name: str


@dataclass(frozen=True, slots=True)
class IndexRange:
    """What to read: which index (`session_index`), the entries after a position, down to a score."""

    index: str
    after: Position | None = None
    least: int | None = None


class SessionIndex:
    """Reads the indexes of one deployment."""

    def __init__(self, scripts: ScriptRunner, settings: Settings) -> None:
        self._scripts = scripts
        partitions = [partition_key(number) for number in range(settings.partitions)]
        # Keys of several partitions are in several slots, so on a cluster one call is for one partition.
        self._batches: list[tuple[str, ...]] = (
            [(each,) for each in partitions] if settings.redis_cluster else [tuple(partitions)]
        )

    async def complete(self) -> bool:
        """Whether all sessions are in the indexes: not while those of an older deployment are being added."""
        return await self._scripts.read("GET", INDEXED) is not None

    async def read(self, wanted: IndexRange, count: int) -> list[Position]:
        """The next `count` entries of the index; fewer at its end.

        Raises:
            StoreUnavailable, BackendError: the store did not answer.
        """
        found: list[Position] = []
        unread = dict.fromkeys(self._batches, wanted.after)
        size = min(count, math.ceil(count / len(self._batches)) + _FIRST_READ)
        while unread:
            batches = list(unread)
            pages = await asyncio.gather(*(self._page(batch, wanted, unread[batch], size) for batch in batches))
            found = sorted([*found, *chain.from_iterable(pages)], reverse=True)[:count]
            unread = {
                batch: page[-1]
                for batch, page in zip(batches, pages, strict=True)
                if len(page) == size and (len(found) < count or page[-1] > found[-1])
            }
            size = min(count, 4 * size)
        return found

    async def _page(
        self, batch: Sequence[str], wanted: IndexRange, after: Position | None, size: int
    ) -> Sequence[Position]:
        call = read_index(
            batch,
            index=wanted.index,
            score="+inf" if after is None else str(after.score),
            name="" if after is None else after.name,
            least="-inf" if wanted.least is None else str(wanted.least),
            most=size,
        )
        return [Position(*entry) for entry in (await self._scripts.run(call)).found]

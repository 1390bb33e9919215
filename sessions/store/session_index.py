"""The indexes by which sessions are listed: by tenant or by user, ordered by last use or by creation.

An index is one sorted set in each partition, changed by the scripts that create, use and end sessions, in the slot of
the session (ADR 0026). Reading merges the partitions. A script does that for all partitions on one server, in one call;
on a cluster the pages of the servers are merged here, and a server is asked again only if it may have more.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, NamedTuple, Self

from broker_config.settings import Settings
from sessions.store.keys import INDEXED, IndexKind, escaped, session_index
from sessions.store.partition_batches import Batches, PartitionBatches
from sessions.store.scripts import ScriptRunner
from sessions.store.transitions.indexes import read_index

_LONGEST_SCORE: Final = 15
_SPARE: Final = 3
"""Entries of each server that are read at first, more than an even spread over them needs."""


class Position(NamedTuple):
    """An entry of an index. Positions are in the order of the index if they are sorted with the greatest first."""

    score: int
    name: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """A position from its text; None if the text is of none."""
        score, _, name = text.partition(":")
        digits = score.isascii() and score.isdigit() and len(score) <= _LONGEST_SCORE
        return cls(int(score), name) if digits and name.isascii() else None

    @property
    def text(self) -> str:
        """For a cursor."""
        return f"{self.score}:{self.name}"


class Entry(NamedTuple):
    """An entry of an index, and the wanted fields of the session's record."""

    position: Position
    values: Sequence[bytes | None]


@dataclass(frozen=True, slots=True)
class IndexRange:
    """What to read: the index of a tenant, or of one user, the entries after a position, down to a score.

    Attributes:
        fields: of the sessions' records.
    """

    kind: IndexKind
    tenant: str
    user_id: str | None = None
    after: Position | None = None
    least: int | None = None
    fields: Sequence[str] = ()


class SessionIndex:
    """Reads the indexes of one deployment."""

    def __init__(self, scripts: ScriptRunner, client: Any, settings: Settings) -> None:
        self._scripts = scripts
        self._batches = PartitionBatches(client, settings)

    async def complete(self) -> bool:
        """Whether all sessions are in the indexes: not while those of an older deployment are being added."""
        return await self._scripts.read("GET", INDEXED) is not None

    async def read(self, wanted: IndexRange, count: int) -> list[Entry]:
        """The next `count` entries of the index; fewer at its end.

        Raises:
            StoreUnavailable, BackendError: the store did not answer.
        """
        return await self._batches.read(lambda batches: self._merged(batches, wanted, count))

    async def _merged(self, batches: Batches, wanted: IndexRange, count: int) -> list[Entry]:
        found: list[Entry] = []
        unread = dict.fromkeys(batches, wanted.after)
        size = count if len(batches) == 1 else min(count, math.ceil(count / len(batches)) + _SPARE)
        while unread:
            read = list(unread)
            pages = await asyncio.gather(*(self._page(batch, wanted, unread[batch], size) for batch in read))
            found = sorted(chain(found, *pages), key=lambda entry: entry.position, reverse=True)[:count]
            unread = {
                batch: page[-1].position
                for batch, page in zip(read, pages, strict=True)
                if len(page) == size and (len(found) < count or page[-1].position > found[-1].position)
            }
            size = min(count, 4 * size)
        return found

    async def _page(
        self, batch: Sequence[str], wanted: IndexRange, after: Position | None, size: int
    ) -> Sequence[Entry]:
        call = read_index(
            (batch[0],),
            tenant=escaped(wanted.tenant),
            index=session_index(wanted.kind, wanted.tenant, wanted.user_id),
            score="+inf" if after is None else str(after.score),
            name="" if after is None else after.name,
            least="-inf" if wanted.least is None else str(wanted.least),
            most=size,
            partitions=batch[1:],
            fields=wanted.fields,
        )
        reply = await self._scripts.run(call)
        return [Entry(Position(score, name), values) for score, name, values in reply.found]

"""The scopes of which this process has a copy: each is read once, then kept up to date from its log, until evicted."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from sessions.errors import StoreUnavailable
from sessions.store.memory import MemoryStore
from sessions.store.memory_places import MemoryScope
from workers.retrieval.memory.scope_index import ScopeIndex
from workers.retrieval.ports import LexicalModel

_PAGE: Final = 200
_TRIES: Final = 5


@dataclass(slots=True)
class Copy:
    """A copy of a scope. At a time, one coroutine updates it, and one computes vectors for it."""

    index: ScopeIndex
    refreshing: asyncio.Lock = field(default_factory=asyncio.Lock)
    embedding: asyncio.Lock = field(default_factory=asyncio.Lock)


class ScopeCopies:
    """The most recently used copies, with at most `most` memories in total."""

    def __init__(self, store: MemoryStore, lexical: LexicalModel, most: int) -> None:
        self._store = store
        self._lexical = lexical
        self._most = most
        self._copies: OrderedDict[str, Copy] = OrderedDict()

    @property
    def memories(self) -> int:
        """How many memories the copies have in total."""
        return sum(len(copy.index) for copy in self._copies.values())

    async def current(self, scope: MemoryScope, tag: str) -> Copy:
        """A copy of a scope that includes everything that was acknowledged before this call.

        Args:
            scope: the scope.
            tag: the tag of the model whose vectors are read.

        Raises:
            BackendError: the store cannot be read.
        """
        copy = self._copies.setdefault(scope.base, Copy(ScopeIndex(self._lexical)))
        self._copies.move_to_end(scope.base)
        async with copy.refreshing:
            await self._refresh(scope, copy, tag)
        self._drop_unused(keep=scope.base)
        return copy

    async def _refresh(self, scope: MemoryScope, copy: Copy, tag: str) -> None:
        for _ in range(_TRIES):
            if await self._apply_changes(scope, copy.index, tag):
                return
            copy.index = await self._read_all(scope, tag)
        raise StoreUnavailable(f"the memories of {scope.base!r} change faster than they can be read; try again")

    async def _apply_changes(self, scope: MemoryScope, index: ScopeIndex, tag: str) -> bool:
        """False if the log does not reach back to the copy's position, for instance because the scope was deleted."""
        changes = await self._store.changes(scope, index.mark)
        if changes is None:
            return False
        found = await self._store.read(scope, changes.ids, tag=tag)
        for memory_id in changes.ids:
            if memory_id in found:
                index.put(found[memory_id])
            else:
                index.remove(memory_id)
        index.mark = changes.mark
        return True

    async def _read_all(self, scope: MemoryScope, tag: str) -> ScopeIndex:
        """Read a scope page by page, to block neither the store nor this loop. Changes meanwhile are in the log."""
        index = ScopeIndex(self._lexical)
        index.mark = await self._store.mark(scope)
        ids = await self._store.ids(scope)
        for start in range(0, len(ids), _PAGE):
            for stored in (await self._store.read(scope, ids[start : start + _PAGE], tag=tag)).values():
                index.put(stored)
        return index

    def _drop_unused(self, keep: str) -> None:
        left = self.memories
        for base in list(self._copies):
            if left <= self._most:
                return
            if base != keep:
                left -= len(self._copies.pop(base).index)

"""The scopes that this process has a copy of: read once, then kept up to date from their logs, while there is room."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from sessions.errors import StoreUnavailable
from sessions.store.memory import MemoryScope, MemoryStore
from workers.retrieval.memory.scope_index import ScopeIndex
from workers.retrieval.ports import LexicalModel

_PAGE: Final = 200
_TRIES: Final = 5


@dataclass(slots=True)
class Copy:
    """A scope's index. One coroutine at a time brings it up to date, and one makes vectors for it."""

    index: ScopeIndex
    refreshing: asyncio.Lock = field(default_factory=asyncio.Lock)
    embedding: asyncio.Lock = field(default_factory=asyncio.Lock)


class ScopeCopies:
    """The copies used last, as many as have `most` memories together."""

    def __init__(self, store: MemoryStore, lexical: LexicalModel, most: int) -> None:
        self._store = store
        self._lexical = lexical
        self._most = most
        self._copies: OrderedDict[str, Copy] = OrderedDict()

    @property
    def memories(self) -> int:
        """How many memories there are copies of."""
        return sum(len(copy.index) for copy in self._copies.values())

    async def current(self, scope: MemoryScope, tag: str) -> Copy:
        """The copy of a scope with all that was acknowledged before this call; `tag` says whose vectors to read.

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
        """False when the log does not reach back to where the copy stands: the scope may even have been deleted."""
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
        """Page by page, so that neither the store nor this loop stands still; what changes meanwhile is in the log."""
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

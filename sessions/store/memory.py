"""Memories in the store: what a session or a user was taught, each a text with its kind and metadata.

A scope has four keys: the memories, a short log of their changes, their vectors, and the digests of their contents, by
which the same memory is recognised. A memory is opaque to the scripts, so that it can be encrypted on its way in and
decrypted on its way out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import uuid_utils

from sessions.errors import BadRequest, StoreUnavailable
from sessions.protocol.access import refused
from sessions.store.memory_copies import MemoryCopies
from sessions.store.memory_places import (
    Digests,
    MemoryScope,
    MemorySealing,
    Seal,
    as_it_is,
    log_key,
    memories_key,
    sha256_alone,
    vectors_key,
)
from sessions.store.memory_record import Changes, LogMark, Memory, StoredMemory
from sessions.store.scripts import ScriptRunner, translated
from sessions.store.transitions import records as transitions
from sessions.store.transitions.records import Changed, Known, Replaced
from sessions.store.transitions.shared import Full, Missing, OtherOwner

MOST_MEMORIES: Final = 20_000
_REMEMBERED_MS: Final = 60_000
_PAGE: Final = 200
_REMOVED_AT_ONCE: Final = 500
_TRIES: Final = 20


class MemoryStore:
    """Reads and changes the memories of sessions and users."""

    def __init__(
        self,
        scripts: ScriptRunner,
        client: Any,
        *,
        most: int = MOST_MEMORIES,
        seal: Seal = as_it_is,
        open: Seal = as_it_is,  # noqa: A002 - the pair has this name
        digests: Digests = sha256_alone,
    ) -> None:
        """Over a client of the store.

        Args:
            most: memories that a scope may have.
            seal: encrypts a memory or vector for the place where it is stored; open: decrypts it.
            digests: identify a content without telling it.
        """
        self._scripts = scripts
        self._client = client
        self._most = most
        self._sealing = MemorySealing(seal, open, digests)
        self.copies = MemoryCopies(scripts, client, self._sealing)

    # --- changes ----------------------------------------------------------------------------------------

    async def add(
        self,
        scope: MemoryScope,
        memory: Memory,
        *,
        user_id: str | None = None,
        ttl: float | None = None,
        operation: str | None = None,
        remembered_ms: int = _REMEMBERED_MS,
    ) -> str:
        """Add a memory, or replace the one with its id. Returns the id of the memory that the scope has now.

        If another memory of the scope has the same content (text, kind and metadata), it stays the only one, and
        counts as said again at this memory's time.

        Args:
            operation: identifies this change, so that repeating it changes nothing; remembered_ms: for how long.

        Raises:
            BadRequest: the scope has no room. SessionOwnerError: the session belongs to another user. StoreFull.
        """
        operation = operation or uuid_utils.uuid4().hex
        call = transitions.write_memory(
            (scope.base, scope.partition),
            operation=operation,
            scope=scope.kind,
            user=user_id,
            session_ttl_ms=None if ttl is None else int(ttl * 1000),
            remembered_ms=remembered_ms,
            id=memory.id,
            memory=self._sealing.sealed(scope, memory),
            most=self._most,
            same=self._sealing.content_digests(scope, memory),
        )
        match await self._scripts.run(call):
            case Known(id=known):
                again = f"{operation}-again"
                await self.change(
                    scope,
                    known,
                    lambda known: known.said_again(memory.created_ms),
                    user_id=user_id,
                    operation=again,
                    remembered_ms=remembered_ms,
                )
                return known
            case OtherOwner():
                raise refused(scope.session_id, user_id)
            case Full(count=count):
                raise BadRequest(
                    f"there are {count} memories, and the limit is {self._most} (SESSIONFLEET_MEMORY_LIMIT): remove "
                    "some with delete_memory() or clear_memory()"
                )
        return memory.id

    async def change(
        self,
        scope: MemoryScope,
        memory_id: str,
        change: Callable[[Memory], Memory],
        *,
        user_id: str | None = None,
        operation: str | None = None,
        remembered_ms: int = _REMEMBERED_MS,
    ) -> Memory | None:
        """Replace a memory by what `change` makes of it; returns the new version, or None if there is no such memory.

        If somebody else changes it meanwhile, `change` is called again with that version: no change is lost.

        Args:
            operation: identifies this change, so that repeating it changes nothing; remembered_ms: for how long.

        Raises:
            SessionOwnerError: the session belongs to another user. StoreFull.
            StoreUnavailable: it was changed by others every time. Anything that `change` raises.
        """
        operation = operation or uuid_utils.uuid4().hex
        for _ in range(_TRIES):
            found = (await self.read(scope, [memory_id])).get(memory_id)
            if found is None:
                return None
            new = change(found.memory)
            call = transitions.replace_memory(
                (scope.base, scope.partition),
                operation=operation,
                scope=scope.kind,
                user=user_id,
                remembered_ms=remembered_ms,
                id=memory_id,
                digest=found.digest,
                memory=self._sealing.sealed(scope, new),
                same_text=new.text == found.memory.text,
                same=self._sealing.content_digests(scope, new),
            )
            match await self._scripts.run(call):
                case Replaced():
                    return new
                case Missing():
                    return None
                case OtherOwner():
                    raise refused(scope.session_id, user_id)
                case Changed():
                    continue
        raise StoreUnavailable(f"the memory {memory_id!r} is changed by others all the time; try again")

    async def remove(
        self,
        scope: MemoryScope,
        ids: Sequence[str],
        *,
        user_id: str | None = None,
        operation: str | None = None,
        remembered_ms: int = _REMEMBERED_MS,
    ) -> int:
        """Remove memories; returns how many of them existed.

        Args:
            operation: identifies this removal of at most 500, so that repeating it returns the same; remembered_ms: for
                how long.

        Raises:
            SessionOwnerError: the session belongs to another user.
        """
        pages = [ids[start : start + _REMOVED_AT_ONCE] for start in range(0, len(ids), _REMOVED_AT_ONCE)]
        return sum([await self._remove(scope, page, user_id, operation, remembered_ms) for page in pages])

    async def clear(self, scope: MemoryScope, *, user_id: str | None = None) -> int:
        """Remove all memories of a scope, in one step; returns how many there were.

        Raises:
            SessionOwnerError: the session belongs to another user.
        """
        return await self._remove(scope, (), user_id)

    async def _remove(
        self,
        scope: MemoryScope,
        ids: Sequence[str],
        user_id: str | None,
        operation: str | None = None,
        remembered_ms: int = _REMEMBERED_MS,
    ) -> int:
        call = transitions.remove_memory(
            (scope.base, scope.partition),
            operation=operation or uuid_utils.uuid4().hex,
            scope=scope.kind,
            user=user_id,
            remembered_ms=remembered_ms,
            ids=ids,
        )
        reply = await self._scripts.run(call)
        if isinstance(reply, OtherOwner):
            raise refused(scope.session_id, user_id)
        return reply.count

    async def note_vectors(self, scope: MemoryScope, tag: str, vectors: Sequence[tuple[StoredMemory, bytes]]) -> int:
        """Store vectors of memories that were not replaced or removed since they were read; returns how many.

        Args:
            tag: of the model that made them, without ':'.
        """
        sealed = [
            (stored.memory.id, stored.digest, self._sealing.seal(vectors_key(scope), stored.memory.id, vector))
            for stored, vector in vectors
        ]
        return (await self._scripts.run(transitions.note_vectors((scope.base,), tag=tag, vectors=sealed))).count

    # --- reading ----------------------------------------------------------------------------------------

    async def ids(self, scope: MemoryScope) -> list[str]:
        """The ids of all memories, newest first."""
        with translated():
            return sorted((raw.decode() for raw in await self._client.hkeys(memories_key(scope))), reverse=True)

    async def get(self, scope: MemoryScope, memory_id: str) -> Memory | None:
        """One memory, or None."""
        found = await self.read(scope, [memory_id])
        return found[memory_id].memory if found else None

    async def read(self, scope: MemoryScope, ids: Sequence[str], *, tag: str | None = None) -> dict[str, StoredMemory]:
        """The existing ones among these memories; with a model's tag, including the vectors that it made.

        Raises:
            CorruptRecord: one of them cannot be read.
        """
        found: dict[str, StoredMemory] = {}
        for start in range(0, len(ids), _PAGE):
            page = ids[start : start + _PAGE]
            reply = await self._scripts.run(
                transitions.read_memories((scope.base,), with_vectors=tag is not None, ids=page)
            )
            vectors = reply.vectors or [None] * len(page)
            for memory_id, raw, vector in zip(page, reply.memories, vectors, strict=True):
                if raw is not None:
                    found[memory_id] = self._stored(scope, memory_id, raw, vector, tag)
        return found

    def _stored(
        self, scope: MemoryScope, memory_id: str, raw: bytes, vector: bytes | None, tag: str | None
    ) -> StoredMemory:
        memory = self._sealing.opened(scope, memory_id, raw)
        digest = hashlib.sha1(raw, usedforsecurity=False).hexdigest()
        if vector is None or tag is None:
            return StoredMemory(memory, digest)
        made_by, _, sealed = vector.partition(b":")
        if made_by != tag.encode():
            return StoredMemory(memory, digest)
        return StoredMemory(memory, digest, self._sealing.open(vectors_key(scope), memory_id, sealed))

    # --- following the changes --------------------------------------------------------------------------

    async def mark(self, scope: MemoryScope) -> LogMark | None:
        """The newest position in the log: the version of the scope. None without memories."""
        newest = await self._scripts.read("XREVRANGE", log_key(scope), "+", "-", "COUNT", 1)
        return LogMark.of(newest[0]) if newest else None

    async def changes(self, scope: MemoryScope, mark: LogMark | None) -> Changes | None:
        """What changed after a mark; None if the log does not reach back that far, and all must be read again."""
        if mark is None:
            return Changes() if await self.mark(scope) is None else None
        entries = await self._scripts.read("XRANGE", log_key(scope), mark.entry, "+")
        if not entries or LogMark.of(entries[0]) != mark:
            return None
        marks = [LogMark.of(entry) for entry in entries]
        return Changes(tuple(dict.fromkeys(m.change[1].decode() for m in marks[1:])), marks[-1])

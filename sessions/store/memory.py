"""Memories in the store: what a session or a user was taught, each a text with its kind and metadata.

A scope has three keys: the memories, a short log of their changes, and their vectors. A memory is opaque to the
scripts, so that it can be encrypted on its way in and decrypted on its way out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import uuid_utils

from sessions.errors import BadRequest
from sessions.protocol.access import refused
from sessions.store.memory_record import Changes, LogMark, Memory, StoredMemory
from sessions.store.scripts import ScriptRunner, translated
from sessions.store.state import StateScope
from sessions.store.transitions import records as transitions
from sessions.store.transitions.shared import Full, OtherOwner

MemoryScope = StateScope
"""Memories are stored next to the state of the same session or user."""

MOST_MEMORIES: Final = 20_000
_REMEMBERED_MS: Final = 60_000
_PAGE: Final = 200
_REMOVED_AT_ONCE: Final = 500

Seal = Callable[[str, str, bytes], bytes]
"""From key, field and value to the stored bytes, or back: a value encrypted for one place cannot be used in another."""


def _as_it_is(_key: str, _field: str, value: bytes) -> bytes:
    return value


class MemoryStore:
    """Reads and changes the memories of sessions and users."""

    def __init__(
        self,
        scripts: ScriptRunner,
        client: Any,
        *,
        most: int = MOST_MEMORIES,
        seal: Seal = _as_it_is,
        open: Seal = _as_it_is,  # noqa: A002 - the pair has this name
    ) -> None:
        """Over a client of the store.

        Args:
            most: memories that a scope may have.
            seal: encrypts a memory or vector for the place where it is stored; open: decrypts it.
        """
        self._scripts = scripts
        self._client = client
        self._most = most
        self._seal = seal
        self._open = open

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
    ) -> None:
        """Add a memory, or replace the one with its id.

        Args:
            operation: identifies this change, so that repeating it changes nothing; remembered_ms: for how long.

        Raises:
            BadRequest: the scope has no room. SessionOwnerError: the session belongs to another user. StoreFull.
        """
        call = transitions.write_memory(
            (scope.base, scope.partition),
            operation=operation or uuid_utils.uuid4().hex,
            scope=scope.kind,
            user=user_id,
            session_ttl_ms=None if ttl is None else int(ttl * 1000),
            remembered_ms=remembered_ms,
            id=memory.id,
            memory=self._seal(_memories(scope), memory.id, memory.dump()),
            most=self._most,
        )
        match await self._scripts.run(call):
            case OtherOwner():
                raise refused(scope.session_id, user_id)
            case Full(count=count):
                raise BadRequest(
                    f"there are {count} memories, and the limit is {self._most} (SESSIONFLEET_MEMORY_LIMIT): remove "
                    "some with delete_memory() or clear_memory()"
                )

    async def remove(self, scope: MemoryScope, ids: Sequence[str], *, user_id: str | None = None) -> int:
        """Remove memories; returns how many of them existed.

        Raises:
            SessionOwnerError: the session belongs to another user.
        """
        pages = [ids[start : start + _REMOVED_AT_ONCE] for start in range(0, len(ids), _REMOVED_AT_ONCE)]
        return sum([await self._remove(scope, page, user_id) for page in pages])

    async def clear(self, scope: MemoryScope, *, user_id: str | None = None) -> int:
        """Remove all memories of a scope, in one step; returns how many there were.

        Raises:
            SessionOwnerError: the session belongs to another user.
        """
        return await self._remove(scope, (), user_id)

    async def _remove(self, scope: MemoryScope, ids: Sequence[str], user_id: str | None) -> int:
        call = transitions.remove_memory(
            (scope.base, scope.partition),
            operation=uuid_utils.uuid4().hex,
            scope=scope.kind,
            user=user_id,
            remembered_ms=_REMEMBERED_MS,
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
            (stored.memory.id, stored.digest, self._seal(_vectors(scope), stored.memory.id, vector))
            for stored, vector in vectors
        ]
        return (await self._scripts.run(transitions.note_vectors((scope.base,), tag=tag, vectors=sealed))).count

    # --- reading ----------------------------------------------------------------------------------------

    async def ids(self, scope: MemoryScope) -> list[str]:
        """The ids of all memories, newest first."""
        with translated():
            return sorted((raw.decode() for raw in await self._client.hkeys(_memories(scope))), reverse=True)

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
        memory = Memory.load(self._open(_memories(scope), memory_id, raw))
        digest = hashlib.sha1(raw, usedforsecurity=False).hexdigest()
        if vector is None or tag is None:
            return StoredMemory(memory, digest)
        made_by, _, sealed = vector.partition(b":")
        if made_by != tag.encode():
            return StoredMemory(memory, digest)
        return StoredMemory(memory, digest, self._open(_vectors(scope), memory_id, sealed))

    # --- following the changes --------------------------------------------------------------------------

    async def mark(self, scope: MemoryScope) -> LogMark | None:
        """The newest position in the log: the version of the scope. None without memories."""
        with translated():
            newest = await self._client.xrevrange(_log(scope), count=1)
        return LogMark.of(newest[0]) if newest else None

    async def changes(self, scope: MemoryScope, mark: LogMark | None) -> Changes | None:
        """What changed after a mark; None if the log does not reach back that far, and all must be read again."""
        if mark is None:
            return Changes() if await self.mark(scope) is None else None
        with translated():
            entries = await self._client.xrange(_log(scope), min=mark.entry)
        if not entries or LogMark.of(entries[0]) != mark:
            return None
        marks = [LogMark.of(entry) for entry in entries]
        return Changes(tuple(dict.fromkeys(m.change[1].decode() for m in marks[1:])), marks[-1])

    # --- copies -----------------------------------------------------------------------------------------

    async def copy(self, scope: MemoryScope, to: MemoryScope, copy: str, within: int) -> None:
        """Store a session's memories and vectors for a session that `create_session` is about to create from them.

        Args:
            copy: identifies this copy; within: seconds after which it is dropped if it was not used.
        """
        ids = await self.ids(scope)
        for start in range(0, len(ids), _PAGE):
            page = ids[start : start + _PAGE]
            reply = await self._scripts.run(transitions.read_memories((scope.base,), with_vectors=True, ids=page))
            await self._put(_memories(scope), _memories(to), copy, _there(page, reply.memories), within)
            await self._put(_vectors(scope), _vectors(to), copy, _there(page, reply.vectors), within)

    async def store(self, to: MemoryScope, memories: Sequence[Memory], copy: str, within: int) -> None:
        """Store memories for a session that `create_session` is about to create; `copy` and `within` as for a copy."""
        values = {m.id: self._seal(_memories(to), m.id, m.dump()) for m in memories}
        if values:
            with translated():
                await self._client.hset(f"{_memories(to)}:copy:{copy}", mapping=values)
                await self._client.expire(f"{_memories(to)}:copy:{copy}", within)

    async def _put(self, source: str, to: str, copy: str, values: dict[str, bytes], within: int) -> None:
        if not values:
            return
        moved = {memory_id: self._moved(source, to, memory_id, value) for memory_id, value in values.items()}
        with translated():
            await self._client.hset(f"{to}:copy:{copy}", mapping=moved)
            await self._client.expire(f"{to}:copy:{copy}", within)

    def _moved(self, source: str, to: str, memory_id: str, value: bytes) -> bytes:
        """Encrypted again, because the encryption may depend on the place."""
        tag, mark, sealed = value.partition(b":") if source.endswith(_VECTORS) else (b"", b"", value)
        return tag + mark + self._seal(to, memory_id, self._open(source, memory_id, sealed))


_VECTORS: Final = ":vectors"


def _memories(scope: MemoryScope) -> str:
    return f"{scope.base}:memory"


def _vectors(scope: MemoryScope) -> str:
    return f"{scope.base}:memory:vectors"


def _log(scope: MemoryScope) -> str:
    return f"{scope.base}:memory:log"


def _there(page: Sequence[str], values: Sequence[bytes | None]) -> dict[str, bytes]:
    return {memory_id: value for memory_id, value in zip(page, values, strict=True) if value is not None}

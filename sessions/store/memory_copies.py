"""Copies of a session's memories for a session that is about to be created: a fork, or an import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sessions.store.memory_places import MemoryScope, MemorySealing, digests_key, memories_key, vectors_key
from sessions.store.memory_record import Memory
from sessions.store.scripts import ScriptRunner, translated
from sessions.store.transitions import records as transitions

_PAGE: Final = 200
_VECTORS: Final = ":vectors"


class MemoryCopies:
    """Writes memories under the names from which `create_session` takes them."""

    def __init__(self, scripts: ScriptRunner, client: Any, sealing: MemorySealing) -> None:
        self._scripts = scripts
        self._client = client
        self._sealing = sealing

    async def copy(self, scope: MemoryScope, to: MemoryScope, copy: str, within: int) -> None:
        """Store a session's memories and vectors for a session that `create_session` is about to create from them.

        Args:
            copy: identifies this copy; within: seconds after which it is dropped if it was not used.
        """
        ids = await self._ids(scope)
        for start in range(0, len(ids), _PAGE):
            page = ids[start : start + _PAGE]
            reply = await self._scripts.run(transitions.read_memories((scope.base,), with_vectors=True, ids=page))
            stored = _there(page, reply.memories)
            await self._put(memories_key(to), copy, self._moved(memories_key(scope), memories_key(to), stored), within)
            vectors = _there(page, reply.vectors)
            await self._put(vectors_key(to), copy, self._moved(vectors_key(scope), vectors_key(to), vectors), within)
            memories = [self._sealing.opened(scope, memory_id, raw) for memory_id, raw in stored.items()]
            await self._put(digests_key(to), copy, self._digests(to, memories), within)

    async def store(self, to: MemoryScope, memories: Sequence[Memory], copy: str, within: int) -> None:
        """Store memories for a session that `create_session` is about to create; `copy` and `within` as for a copy."""
        sealed = {memory.id: self._sealing.sealed(to, memory) for memory in memories}
        await self._put(memories_key(to), copy, sealed, within)
        await self._put(digests_key(to), copy, self._digests(to, memories), within)

    async def _put(self, key: str, copy: str, values: Mapping[str, str | bytes], within: int) -> None:
        if not values:
            return
        with translated():
            await self._client.hset(f"{key}:copy:{copy}", mapping=values)
            await self._client.expire(f"{key}:copy:{copy}", within)

    def _digests(self, to: MemoryScope, memories: Sequence[Memory]) -> dict[str, str]:
        digests: dict[str, str] = {}
        for memory in memories:
            digest = self._sealing.content_digests(to, memory)[0]
            digests |= {digest: memory.id, memory.id: digest}
        return digests

    def _moved(self, source: str, to: str, values: Mapping[str, bytes]) -> dict[str, bytes]:
        """Encrypted again, because the encryption may depend on the place."""
        moved = {}
        for memory_id, value in values.items():
            tag, mark, sealed = value.partition(b":") if source.endswith(_VECTORS) else (b"", b"", value)
            opened = self._sealing.open(source, memory_id, sealed)
            moved[memory_id] = tag + mark + self._sealing.seal(to, memory_id, opened)
        return moved

    async def _ids(self, scope: MemoryScope) -> list[str]:
        with translated():
            return [raw.decode() for raw in await self._client.hkeys(memories_key(scope))]


def _there(page: Sequence[str], values: Sequence[bytes | None]) -> dict[str, bytes]:
    return {memory_id: value for memory_id, value in zip(page, values, strict=True) if value is not None}

"""Copies of a session's memories for a session that is about to be created: a fork, or an import."""

from __future__ import annotations

from collections.abc import Sequence
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
            await self._put(memories_key(scope), memories_key(to), copy, _there(page, reply.memories), within)
            await self._put(vectors_key(scope), vectors_key(to), copy, _there(page, reply.vectors), within)
            stored = _there(page, reply.memories)
            memories = [self._sealing.opened(scope, memory_id, raw) for memory_id, raw in stored.items()]
            await self._put_digests(to, memories, copy, within)

    async def store(self, to: MemoryScope, memories: Sequence[Memory], copy: str, within: int) -> None:
        """Store memories for a session that `create_session` is about to create; `copy` and `within` as for a copy."""
        values = {m.id: self._sealing.sealed(to, m) for m in memories}
        if values:
            with translated():
                await self._client.hset(f"{memories_key(to)}:copy:{copy}", mapping=values)
                await self._client.expire(f"{memories_key(to)}:copy:{copy}", within)
            await self._put_digests(to, memories, copy, within)

    async def _put_digests(self, to: MemoryScope, memories: Sequence[Memory], copy: str, within: int) -> None:
        digests: dict[str, str] = {}
        for memory in memories:
            digest = self._sealing.content_digests(to, memory)[0]
            digests |= {digest: memory.id, memory.id: digest}
        if digests:
            with translated():
                await self._client.hset(f"{digests_key(to)}:copy:{copy}", mapping=digests)
                await self._client.expire(f"{digests_key(to)}:copy:{copy}", within)

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
        return tag + mark + self._sealing.seal(to, memory_id, self._sealing.open(source, memory_id, sealed))

    async def _ids(self, scope: MemoryScope) -> list[str]:
        with translated():
            return [raw.decode() for raw in await self._client.hkeys(memories_key(scope))]


def _there(page: Sequence[str], values: Sequence[bytes | None]) -> dict[str, bytes]:
    return {memory_id: value for memory_id, value in zip(page, values, strict=True) if value is not None}

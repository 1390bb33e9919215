"""The texts of chunks, if they are kept in the store instead of the index: one hash for each lane.

A field is `<revision>/<chunk number>`; its value is the chunk's text and heading, encrypted if there are keys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sessions.errors import CorruptRecord
from sessions.store.keys import SessionKeys
from sessions.store.scripts import translated
from sessions.store.sealing import KeyRing
from workers.retrieval.operation_context import OperationContext
from workers.retrieval.ports import Hit, IndexPoint

_PAGE: Final = 500
_TEXT_FIELDS: Final = ("text", "heading")

Place = tuple[SessionKeys, str, int]
"""A lane, a revision and a chunk number."""


class ChunkTexts:
    """Reads the texts of lanes; writes them through an operation's `FencedFields`, which encrypt them."""

    def __init__(self, store: Any, keyring: KeyRing) -> None:
        self._store = store
        self._keyring = keyring

    async def keep(self, op: OperationContext, revision: str, points: Sequence[IndexPoint]) -> None:
        """Store the texts of these chunks.

        Raises:
            LeaseLost: nothing was written.
        """
        texts = {_field(revision, point.payload["number"]): _dump(point) for point in points if "text" in point.payload}
        if texts:
            await op.fields.write("texts", texts)

    async def read(self, places: Sequence[Place]) -> list[dict[str, Any] | None]:
        """The `text` and `heading` of each chunk; None for a chunk that is not in the store.

        Raises:
            SealError, CorruptRecord: a text cannot be decrypted or parsed.
        """
        if not places:
            return []
        where = [(lane.texts, _field(revision, number)) for lane, revision, number in places]
        with translated():
            async with self._store.pipeline(transaction=False) as pipe:
                for key, field in where:
                    pipe.hget(key, field)
                found = await pipe.execute()
        return [self._loaded(key, field, raw) for (key, field), raw in zip(where, found, strict=True)]

    async def payloads(self, chunks: Sequence[tuple[SessionKeys, IndexPoint | Hit]]) -> list[Mapping[str, Any] | None]:
        """What the index or the store has of chunks of these lanes; None for a chunk without a text in either."""
        bare = [(lane, chunk) for lane, chunk in chunks if "text" not in chunk.payload]
        places = [(lane, chunk.revision, chunk.payload["number"]) for lane, chunk in bare]
        texts = dict(zip((chunk.id for _, chunk in bare), await self.read(places), strict=True))
        found = [(chunk, texts.get(chunk.id, {})) for _, chunk in chunks]
        return [None if text is None else {**chunk.payload, **text} for chunk, text in found]

    async def full(self, lane: SessionKeys, points: Sequence[IndexPoint]) -> list[IndexPoint]:
        """The chunks of a lane with their texts, wherever those are kept. A text that is gone is left out."""
        payloads = await self.payloads([(lane, point) for point in points])
        return [
            replace(point, payload=payload or point.payload) for point, payload in zip(points, payloads, strict=True)
        ]

    async def drop(self, op: OperationContext, revision: str | None = None) -> None:
        """Remove the texts of a revision; with None all of the operation's lane, including those left by a crash.

        Raises:
            LeaseLost: only some of them were removed.
        """
        match, cursor = "*" if revision is None else _field(revision, "*"), 0
        while True:
            with translated():
                cursor, page = await self._store.hscan(op.keys.texts, cursor, match=match, count=_PAGE)
            if page:
                await op.fields.write("texts", {field.decode(): "" for field in page})
            if cursor == 0:
                return

    def _loaded(self, key: str, field: str, raw: bytes | None) -> dict[str, Any] | None:
        if raw is None:
            return None
        opened = self._keyring.open(key, field, raw)
        try:
            return dict(zip(_TEXT_FIELDS, json.loads(opened), strict=True))
        except (ValueError, TypeError) as error:
            raise CorruptRecord(f"a text in {key!r} cannot be read: {error!r}; add the document again") from error


def without_text(point: IndexPoint) -> IndexPoint:
    """The chunk without text and heading, for an index that must not contain texts."""
    return replace(point, payload={name: value for name, value in point.payload.items() if name not in _TEXT_FIELDS})


def _dump(point: IndexPoint) -> str:
    return json.dumps([point.payload.get(name) for name in _TEXT_FIELDS], ensure_ascii=False)


def _field(revision: str, number: int | str) -> str:
    return f"{revision}/{number}"

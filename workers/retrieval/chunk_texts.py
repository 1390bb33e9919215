"""Texts of chunks that are kept in the store and not in the index: one hash beside a lane's list of documents.

A field is `<revision>/<chunk's number>`, its value the chunk's text and heading, sealed where there are keys.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sessions.errors import CorruptRecord
from sessions.store.keys import SessionKeys
from sessions.store.scripts import translated
from sessions.store.sealing import KeyRing
from workers.retrieval.operation_context import OperationContext
from workers.retrieval.ports import IndexPoint

_PAGE: Final = 500
_SAID: Final = ("text", "heading")

Place = tuple[SessionKeys, str, int]
"""A lane, a revision, a chunk's number."""


class ChunkTexts:
    """Reads the texts of lanes; writes them under an operation's lease, whose `fields` encrypt them."""

    def __init__(self, store: Any, keyring: KeyRing) -> None:
        self._store = store
        self._keyring = keyring

    async def keep(self, op: OperationContext, revision: str, points: Sequence[IndexPoint]) -> None:
        """Keep what these chunks say.

        Raises:
            LeaseLost: nothing was written.
        """
        said = {_field(revision, point.payload["number"]): _said(point) for point in points if "text" in point.payload}
        if said:
            await op.fields.write("texts", said)

    async def read(self, places: Sequence[Place]) -> list[dict[str, Any] | None]:
        """What chunks say, as `text` and `heading`; None where that is not there.

        Raises:
            SealError, CorruptRecord: it cannot be read.
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

    async def drop(self, op: OperationContext, revision: str | None = None) -> None:
        """Remove the texts of a revision, or (None) all of the operation's lane, also those of a crash.

        Raises:
            LeaseLost: they were removed in part.
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
            return dict(zip(_SAID, json.loads(opened), strict=True))
        except (ValueError, TypeError) as error:
            raise CorruptRecord(f"a text in {key!r} cannot be read: {error!r}; add the document again") from error


def without_text(point: IndexPoint) -> IndexPoint:
    """The chunk as the index gets it when it is to hold no texts; a heading is one, too."""
    return replace(point, payload={name: value for name, value in point.payload.items() if name not in _SAID})


def _said(point: IndexPoint) -> str:
    return json.dumps([point.payload.get(name) for name in _SAID], ensure_ascii=False)


def _field(revision: str, number: int | str) -> str:
    return f"{revision}/{number}"

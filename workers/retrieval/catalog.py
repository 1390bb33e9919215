"""The list of a scope's documents, a hash in the store: what `list_knowledge` shows, and what tells what is known.

A document's field is `<collection>/<source>`. `#<collection>/<digest>` names the document that has this content, so
that nobody looks through all of them. `#unfinished` tells what an operation has begun to change in the index: one at
most, for the operations of a lane come one after the other, and each first settles what it finds there.

Values are sealed where there are keys; fields are not, and their digests then take a key to make.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

from sessions.errors import CorruptRecord
from sessions.store.keys import SessionKeys
from sessions.store.scripts import translated
from sessions.store.sealing import KeyRing
from workers.retrieval.operation_context import FencedFields

_PAGE: Final = 500
_UNFINISHED: Final = "#unfinished"
_Raw = bytes  # within `Entry` the name is a field's


@dataclass(frozen=True, slots=True)
class Entry:
    """One document of a scope.

    Attributes:
        revision: digest of all that its chunks were made of; digest: of its content (`KeyRing`).
        bytes: of the content; pages: None where its kind has none.
        model: id of the embedding model; added_ms: milliseconds since the epoch.
    """

    source: str
    collection: str
    revision: str
    digest: str
    bytes: int
    model: str
    added_ms: int
    kind: str = ""
    pages: int | None = None
    chunks: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)
    v: int = 1

    @property
    def field(self) -> str:
        """Its field in the hash."""
        return f"{self.collection}/{self.source}"

    @property
    def digest_field(self) -> str:
        """The field that names it by its content."""
        return f"#{self.collection}/{self.digest}"

    @property
    def untitled(self) -> bool:
        """Whether its name was made up of its content, as that of a text is: it says nothing."""
        return self.source in (f"text-{self.digest[:12]}", f"document-{self.digest[:12]}")

    def cut(self, kind: str, pages: int | None, chunks: int) -> Entry:
        """With what was found out by reading it."""
        return replace(self, kind=kind, pages=pages, chunks=chunks)

    def receipt(self, status: str) -> dict[str, Any]:
        """What the caller of `add_knowledge` is told."""
        told = ("source", "kind", "bytes", "pages", "chunks", "collection")
        return {"status": status, **{name: getattr(self, name) for name in told}}

    @classmethod
    def load(cls, raw: _Raw) -> Entry:
        """A document from its stored form.

        Raises:
            CorruptRecord: it cannot be read.
        """
        try:
            return cls(**json.loads(raw))
        except (ValueError, TypeError) as error:
            raise CorruptRecord(f"an entry in the list of knowledge cannot be read: {error!r}") from error


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What an operation has begun to change in the index, while the list does not tell it yet.

    Attributes:
        part: the operation's id within its lane.
        entry: the document that is written or published; None where documents are removed.
        source: which one is removed; None for all of the scope.
    """

    part: str
    doing: Literal["write", "publish", "remove"]
    entry: Entry | None = None
    source: str | None = None

    @classmethod
    def load(cls, raw: _Raw) -> Unfinished:
        """From its stored form.

        Raises:
            CorruptRecord: it cannot be read.
        """
        try:
            fields = json.loads(raw)
            entry = None if fields["entry"] is None else Entry(**fields["entry"])
            return cls(fields["part"], fields["doing"], entry, fields["source"])
        except (ValueError, TypeError, KeyError) as error:
            raise CorruptRecord(f"what is unfinished in a list of knowledge cannot be read: {error!r}") from error


class SourceCatalog:
    """Reads the lists of scopes; writes them under an operation's lease, whose `fields` encrypt them."""

    def __init__(self, store: Any, keyring: KeyRing) -> None:
        self._store = store
        self._keyring = keyring

    async def entry(self, lane: SessionKeys, collection: str, source: str) -> Entry | None:
        """What is known of a document."""
        name = f"{collection}/{source}"
        with translated():
            raw = await self._store.hget(lane.sources, name)
        return None if raw is None else self._loaded(lane, name, raw)

    async def same_content(self, lane: SessionKeys, collection: str, digests: Sequence[str]) -> Entry | None:
        """The document that has the content of one of these digests."""
        names = [f"#{collection}/{digest}" for digest in digests]
        with translated():
            found = await self._store.hmget(lane.sources, names)
        for name, raw in zip(names, found, strict=True):
            if raw is not None:
                return await self.entry(lane, collection, self._keyring.open(lane.sources, name, raw).decode())
        return None

    async def entries(self, lane: SessionKeys, source: str | None = None) -> AsyncIterator[Entry]:
        """The documents of a scope in all collections, or those of one name."""
        cursor = 0
        while True:
            with translated():
                cursor, page = await self._store.hscan(lane.sources, cursor, count=_PAGE)
            for name, raw in page.items():
                if not name.startswith(b"#"):
                    entry = self._loaded(lane, name.decode(), raw)
                    if source in (None, entry.source):
                        yield entry
            if cursor == 0:
                return

    async def unfinished(self, lane: SessionKeys) -> Unfinished | None:
        """What an operation of this lane has begun and not ended."""
        with translated():
            raw = await self._store.hget(lane.sources, _UNFINISHED)
        return None if raw is None else Unfinished.load(self._keyring.open(lane.sources, _UNFINISHED, raw))

    async def begin(self, fields: FencedFields, unfinished: Unfinished) -> None:
        """Note what is about to be done to the index."""
        await fields.write("sources", {_UNFINISHED: json.dumps(asdict(unfinished))})

    async def finish(self, fields: FencedFields) -> None:
        """Note that it is done, or undone."""
        await fields.write("sources", {_UNFINISHED: ""})

    def _loaded(self, lane: SessionKeys, name: str, raw: bytes) -> Entry:
        return Entry.load(self._keyring.open(lane.sources, name, raw))

    async def put(self, fields: FencedFields, entry: Entry, before: Entry | None) -> None:
        """Note a document that was published, in the place of an earlier revision. Nothing is unfinished then."""
        values = {_UNFINISHED: "", entry.field: json.dumps(asdict(entry)), entry.digest_field: entry.source}
        if before is not None and before.digest != entry.digest:
            values[before.digest_field] = ""
        await fields.write("sources", values)

    async def drop(self, fields: FencedFields, entry: Entry) -> None:
        """Forget a document that was removed."""
        await fields.write("sources", {entry.field: "", entry.digest_field: ""})

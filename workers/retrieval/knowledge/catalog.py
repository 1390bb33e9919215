"""The catalog of a scope's documents, a hash in the store. `list_knowledge` reads it.

Fields:
    `<collection>/<source>`     a document
    `#<collection>/<digest>`    the sources of the documents with this content, to find their vectors without a scan
    `#unfinished`               the pending change of the index. There is at most one, since the operations of a lane
                                run one at a time and each starts by settling the previous one's

With encryption keys, values are encrypted. Field names are not; their digests are then keyed, so that they reveal
nothing about the content.
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
from workers.retrieval.ports import Document

_PAGE: Final = 500
_PENDING_CHANGE: Final = "#unfinished"
_SEVERAL: Final = "\0"  # begins a list of sources; a single source is stored as it is
_MOST_ALIKE: Final = 8  # sources of one content that are noted; with thousands of copies, each would rewrite all names
_Raw = bytes  # within `CatalogEntry`, the name `bytes` is a field


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One document of a scope.

    Attributes:
        revision: a digest of everything that its chunks depend on.
        digest: a digest of its content (see `KeyRing`).
        bytes: the size of its content.
        model: the id of the embedding model.
        added_ms: when it was added, in milliseconds since the epoch.
        pages: None for kinds of documents without pages.
        warnings: what of it could not be read, in sentences.
        unread_pages: the pages (1-based) that could not be read, or in part only.
        recognised_pages: the pages (1-based) whose text was recognised.
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
    warnings: Sequence[str] = ()
    unread_pages: Sequence[int] = ()
    recognised_pages: Sequence[int] = ()
    v: int = 1

    @property
    def field(self) -> str:
        """The name of its field in the hash."""
        return f"{self.collection}/{self.source}"

    @property
    def digest_field(self) -> str:
        """The name of the field that maps its content to its source."""
        return f"#{self.collection}/{self.digest}"

    @property
    def title(self) -> str:
        """Its source, if that says something about it; '' for one that was generated from its content."""
        generated = (f"text-{self.digest[:12]}", f"document-{self.digest[:12]}")
        return "" if self.source in generated else self.source

    def with_parsed(self, document: Document, chunks: int) -> CatalogEntry:
        """The entry with what is known after parsing the document."""
        return replace(
            self,
            kind=document.kind,
            pages=document.pages,
            chunks=chunks,
            warnings=list(document.warnings),
            unread_pages=list(document.unread_pages),
            recognised_pages=list(document.recognised_pages),
        )

    def receipt(self, status: str, *, embedded: int = 0, same_as: str | None = None) -> dict[str, Any]:
        """The result that the caller of `add_knowledge` gets.

        Args:
            embedded: how many of its chunks were embedded, because the index had no vectors of their texts.
            same_as: another document with the same content.
        """
        names = (
            "source",
            "kind",
            "bytes",
            "pages",
            "chunks",
            "collection",
            "warnings",
            "unread_pages",
            "recognised_pages",
        )
        known = {name: getattr(self, name) for name in names}
        return {"status": status, **known, "embedded": embedded, "same_as": same_as}

    @classmethod
    def load(cls, raw: _Raw) -> CatalogEntry:
        """Parse a stored entry.

        Raises:
            CorruptRecord: it cannot be parsed.
        """
        try:
            return cls(**json.loads(raw))
        except (ValueError, TypeError) as error:
            raise CorruptRecord(f"an entry in the list of knowledge cannot be read: {error!r}") from error


@dataclass(frozen=True, slots=True)
class PendingChange:
    """A change of the index that an operation has started and not completed in the catalog.

    Attributes:
        part: the operation's id within its lane.
        doing: the kind of change.
        entry: the document that is written or published; None for a removal.
        source: the document that is removed; None for all of the scope.
    """

    part: str
    doing: Literal["write", "publish", "remove"]
    entry: CatalogEntry | None = None
    source: str | None = None

    @classmethod
    def load(cls, raw: _Raw) -> PendingChange:
        """Parse a stored pending change.

        Raises:
            CorruptRecord: it cannot be parsed.
        """
        try:
            fields = json.loads(raw)
            entry = None if fields["entry"] is None else CatalogEntry(**fields["entry"])
            return cls(fields["part"], fields["doing"], entry, fields["source"])
        except (ValueError, TypeError, KeyError) as error:
            raise CorruptRecord(f"a pending change in a list of knowledge cannot be read: {error!r}") from error


class SourceCatalog:
    """Reads the catalogs of scopes; writes them through an operation's `FencedFields`, which encrypt them."""

    def __init__(self, store: Any, keyring: KeyRing) -> None:
        self._store = store
        self._keyring = keyring

    async def entry(self, lane: SessionKeys, collection: str, source: str) -> CatalogEntry | None:
        """The entry of a document, or None."""
        name = f"{collection}/{source}"
        with translated():
            raw = await self._store.hget(lane.sources, name)
        return None if raw is None else self._loaded(lane, name, raw)

    async def same_content(
        self, lane: SessionKeys, collection: str, digests: Sequence[str], *, but: str
    ) -> CatalogEntry | None:
        """A document whose content has one of these digests, or None.

        Args:
            but: the source that is not meant.
        """
        for digest in digests:
            for source in await self._alike(lane, f"#{collection}/{digest}"):
                entry = None if source == but else await self.entry(lane, collection, source)
                if entry is not None and entry.digest in digests:
                    return entry
        return None

    async def entries(self, lane: SessionKeys, source: str | None = None) -> AsyncIterator[CatalogEntry]:
        """The documents of a scope in all collections, optionally only those of one source."""
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

    async def pending_change(self, lane: SessionKeys) -> PendingChange | None:
        """The change that an operation of this lane has started and not completed, or None."""
        with translated():
            raw = await self._store.hget(lane.sources, _PENDING_CHANGE)
        return None if raw is None else PendingChange.load(self._keyring.open(lane.sources, _PENDING_CHANGE, raw))

    async def begin(self, fields: FencedFields, pending_change: PendingChange) -> None:
        """Record a change that is about to be made to the index."""
        change = asdict(pending_change) | {"entry": _stored(pending_change.entry)}
        await fields.write("sources", {_PENDING_CHANGE: json.dumps(change)})

    async def finish(self, fields: FencedFields) -> None:
        """Record that the pending change was completed or reverted."""
        await fields.write("sources", {_PENDING_CHANGE: ""})

    def _loaded(self, lane: SessionKeys, name: str, raw: bytes) -> CatalogEntry:
        return CatalogEntry.load(self._keyring.open(lane.sources, name, raw))

    async def put(
        self, fields: FencedFields, lane: SessionKeys, entry: CatalogEntry, before: CatalogEntry | None
    ) -> None:
        """Record a published document, which replaces an earlier revision, and clear the pending change."""
        values = {_PENDING_CHANGE: "", entry.field: json.dumps(_stored(entry))}
        if before is not None and before.digest != entry.digest:
            values[before.digest_field] = await self._without(lane, before)
        alike = [source for source in await self._alike(lane, entry.digest_field) if source != entry.source]
        values[entry.digest_field] = _dumped([*alike, entry.source][-_MOST_ALIKE:])
        await fields.write("sources", values)

    async def drop(self, fields: FencedFields, lane: SessionKeys, entry: CatalogEntry) -> None:
        """Delete the entry of a removed document."""
        await fields.write("sources", {entry.field: "", entry.digest_field: await self._without(lane, entry)})

    async def _alike(self, lane: SessionKeys, name: str) -> list[str]:
        """The sources that are noted for a content, by the name of its field."""
        with translated():
            raw = await self._store.hget(lane.sources, name)
        return [] if raw is None else _loaded_sources(self._keyring.open(lane.sources, name, raw).decode())

    async def _without(self, lane: SessionKeys, entry: CatalogEntry) -> str:
        """The value of the digest field of an entry that goes; '' if no other document has its content."""
        return _dumped([source for source in await self._alike(lane, entry.digest_field) if source != entry.source])


def _stored(entry: CatalogEntry | None) -> dict[str, Any] | None:
    """The fields of an entry. Older workers refuse fields that they do not know, so the newest is omitted if empty."""
    if entry is None:
        return None
    fields = asdict(entry)
    return fields if entry.recognised_pages else {name: fields[name] for name in fields if name != "recognised_pages"}


def _dumped(sources: Sequence[str]) -> str:
    """The value of a digest field; one source is stored as versions wrote it that knew one document per content."""
    if len(sources) == 1 and not sources[0].startswith(_SEVERAL):
        return sources[0]
    return _SEVERAL + json.dumps(sources) if sources else ""


def _loaded_sources(value: str) -> list[str]:
    if not value.startswith(_SEVERAL):
        return [value]
    try:
        return [str(source) for source in json.loads(value.removeprefix(_SEVERAL))]
    except (ValueError, TypeError):  # an older version's single source, whose name happens to begin so
        return [value]

"""What a document says: its bytes, from wherever they were sent, read while its pages are told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from broker_config.settings import Settings
from sessions.errors import DocumentCorrupt, DocumentUnsupported
from sessions.protocol.knowledge_requests import AddKnowledge
from sessions.store.scripts import translated
from sessions.store.sealing import KeyRing
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.reader import read_document
from workers.retrieval.fetching import FetchLimits, fetch_url
from workers.retrieval.operation_context import OperationContext
from workers.retrieval.ports import Document
from workers.retrieval.tenant_slots import FairPlaces

_TELL_PAGES: Final = 0.3


@dataclass(frozen=True, slots=True)
class Content:
    """A document's bytes, and what they are said to be."""

    data: bytes
    name: str
    content_type: str | None


class _Pages:
    """How many pages were read, told now and then: a book has thousands."""

    def __init__(self) -> None:
        self._read = (0, 0)

    def note(self, number: int, of: int) -> None:
        """A page was read."""
        self._read = (number, of)

    async def tell(self, op: OperationContext) -> None:
        """Say so whenever there are more, until cancelled."""
        told = self._read
        while True:
            await asyncio.sleep(_TELL_PAGES)
            if self._read != told:
                told = self._read
                await op.progress("reading", done=told[0], total=told[1], pages=told[1])


class Contents:
    """Gets and reads documents, a few at a time: each takes a process."""

    def __init__(self, settings: Settings, store: Any, keyring: KeyRing) -> None:
        self._settings = settings
        self._store = store
        self._keyring = keyring
        self._reading = FairPlaces()

    async def of(self, op: OperationContext, request: AddKnowledge) -> Content:
        """The document that a request means.

        Raises:
            DocumentError: it is gone, or cannot be fetched.
        """
        if request.origin == "text":
            return Content(request.text.encode(), request.source, request.content_type or "text/plain")
        if request.origin == "url":
            return await self._fetched(request)
        with translated():
            data = await self._store.get(op.keys.upload(op.part))
        if data is None:
            raise DocumentCorrupt(f"the content of {request.source!r} is gone from the store; send it again")
        opened = await asyncio.to_thread(self._keyring.open, op.keys.upload(op.part), "", data)  # 32 MiB take 0.15 s
        return Content(opened, request.source, request.content_type)

    async def _fetched(self, request: AddKnowledge) -> Content:
        allowed = self._settings.knowledge_urls
        if allowed == "off":
            raise DocumentUnsupported(
                f"the workers fetch no documents, so {request.url!r} was not: set SESSIONFLEET_KNOWLEDGE_URLS=public "
                "for the retrieval workers, or send the bytes"
            )
        limits = FetchLimits(document_bytes=self._settings.document_limit_bytes)
        hosts = self._settings.allowed_hosts
        fetched = await fetch_url(request.url, limits=limits, allow_private=allowed == "any", allowed_hosts=hosts)
        return Content(fetched.data, fetched.name, request.content_type or fetched.content_type)

    async def read(self, op: OperationContext, content: Content) -> Document:
        """What it says, while its pages are told as they come.

        Raises:
            DocumentError: it cannot be read.
        """
        await op.progress("reading")
        pages = _Pages()
        telling = asyncio.create_task(pages.tell(op))
        try:
            async with self._reading.place(op.keys.tenant):
                return await read_document(
                    content.data,
                    name=content.name,
                    content_type=content.content_type,
                    limits=DocumentLimits(document_bytes=self._settings.document_limit_bytes),
                    on_page=pages.note,
                )
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

"""Loads a document's bytes from the request, the store or a URL, and parses them, reporting progress by page."""

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
from workers.retrieval.documents.recognition.limits import RecognitionLimits
from workers.retrieval.fetching import FetchLimits, fetch_url
from workers.retrieval.operation_context import OperationContext
from workers.retrieval.ports import Document
from workers.retrieval.tenant_slots import TenantSlots

_REPORT_INTERVAL: Final = 0.3


@dataclass(frozen=True, slots=True)
class RawDocument:
    """A document's bytes, with its name, the content type that its sender gave, and the charset that the user named."""

    data: bytes
    name: str
    content_type: str | None
    charset: str | None = None


class _PageProgress:
    """Reports how many pages were read, at intervals: a book has thousands of pages."""

    def __init__(self) -> None:
        self._read = (0, 0)

    def on_page(self, number: int, of: int) -> None:
        """Note that a page was read."""
        self._read = (number, of)

    async def report(self, op: OperationContext) -> None:
        """Report progress whenever it has changed, until cancelled."""
        reported = self._read
        while True:
            await asyncio.sleep(_REPORT_INTERVAL)
            if self._read != reported:
                reported = self._read
                await op.progress("reading", done=reported[0], total=reported[1], pages=reported[1])


class DocumentLoader:
    """Loads and parses documents. Only a few are parsed concurrently, since each takes a process."""

    def __init__(self, settings: Settings, store: Any, keyring: KeyRing) -> None:
        self._settings = settings
        self._store = store
        self._keyring = keyring
        self._parsing = TenantSlots()

    async def load(self, op: OperationContext, request: AddKnowledge) -> RawDocument:
        """The bytes of the document that a request adds.

        Raises:
            DocumentError: its upload has expired, or it cannot be fetched.
        """
        if request.origin == "text":
            return RawDocument(request.text.encode(), request.source, request.content_type or "text/plain", "utf-8")
        if request.origin == "url":
            return await self._fetched(request)
        with translated():
            data = await self._store.get(op.keys.upload(op.part))
        if data is None:
            raise DocumentCorrupt(f"the content of {request.source!r} is no longer in the store; send it again")
        opened = await asyncio.to_thread(self._keyring.open, op.keys.upload(op.part), "", data)  # 32 MiB take 0.15 s
        return RawDocument(opened, request.source, request.content_type, request.charset)

    async def _fetched(self, request: AddKnowledge) -> RawDocument:
        allowed = self._settings.knowledge_urls
        if allowed == "off":
            raise DocumentUnsupported(
                f"the workers may not fetch {request.url!r}: set SESSIONFLEET_KNOWLEDGE_URLS=public for the retrieval "
                "workers, or send the document's bytes"
            )
        limits = FetchLimits(document_bytes=self._settings.document_limit_bytes)
        hosts = self._settings.allowed_hosts
        fetched = await fetch_url(request.url, limits=limits, allow_private=allowed == "any", allowed_hosts=hosts)
        return RawDocument(fetched.data, fetched.name, request.content_type or fetched.content_type, request.charset)

    async def parse(self, op: OperationContext, content: RawDocument) -> Document:
        """Parse a document, reporting each page.

        Raises:
            DocumentError: it cannot be parsed.
        """
        await op.progress("reading")
        pages = _PageProgress()
        reporting = asyncio.create_task(pages.report(op))
        try:
            async with self._parsing.slot(op.keys.tenant):
                return await read_document(
                    content.data,
                    name=content.name,
                    content_type=content.content_type,
                    charset=content.charset,
                    limits=DocumentLimits(document_bytes=self._settings.document_limit_bytes),
                    recognition=RecognitionLimits.of(self._settings),
                    on_page=pages.on_page,
                )
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)

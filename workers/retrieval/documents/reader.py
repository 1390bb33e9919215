"""Reads a document: `read_document` finds its kind, has it parsed where it does no harm, and names it in errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from sessions import errors
from workers.retrieval.documents.child_process import read_in_child
from workers.retrieval.documents.kinds import PARSED_IN_CHILD, find_kind
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.parsing import parse
from workers.retrieval.documents.plain import named_charset
from workers.retrieval.documents.refusal import Reason, Refusal
from workers.retrieval.ports import Document

_ERRORS: Final = {
    Reason.UNSUPPORTED: errors.DocumentUnsupported,
    Reason.EMPTY: errors.DocumentEmpty,
    Reason.CORRUPT: errors.DocumentCorrupt,
    Reason.ENCRYPTED: errors.DocumentEncrypted,
    Reason.TOO_LARGE: errors.DocumentTooLarge,
}
_DEFAULT: Final = DocumentLimits()


async def read_document(
    data: bytes,
    *,
    name: str,
    content_type: str | None = None,
    limits: DocumentLimits = _DEFAULT,
    on_page: Callable[[int, int], None] | None = None,
) -> Document:
    """What a document says, in sections.

    PDF, DOCX, HTML and everything that is not small are parsed in a child process: their parsers hold the
    interpreter for minutes, and a hostile file takes only the child with it. Each call has a child of its own; how
    many run at once is the caller's to bound.

    Args:
        data: the document.
        name: what its user calls it; errors name it, and its suffix tells the kind where nothing better does.
        content_type: as a server sent it, with its charset.
        limits: what it may cost.
        on_page: is told the number of each page of a PDF when it has been read, and how many there are.

    Raises:
        DocumentUnsupported: a kind that cannot be read. DocumentEmpty: no text in it.
        DocumentCorrupt: damaged, cut short, or not what its name says. DocumentEncrypted: needs a password.
        DocumentTooLarge: beyond a limit. MissingExtra: the library for its kind is not installed.
    """
    try:
        return await _read(data, name, content_type, limits, on_page or _nobody)
    except Refusal as refusal:
        raise _ERRORS[refusal.reason](f"{name!r} {refusal.problem}") from refusal


async def _read(
    data: bytes, name: str, content_type: str | None, limits: DocumentLimits, on_page: Callable[[int, int], None]
) -> Document:
    if not data.strip():
        raise Refusal(Reason.EMPTY, "is empty")
    if len(data) > limits.document_bytes:
        raise Refusal(Reason.TOO_LARGE, f"has {len(data):,} bytes, more than {limits.document_bytes:,}; split it")
    kind = find_kind(data, name=name, content_type=content_type)
    charset = named_charset(content_type)
    if kind in PARSED_IN_CHILD or len(data) > limits.inline_bytes:
        return await read_in_child(kind, data, limits, charset=charset, on_page=on_page)
    # In a thread: even 64 kB of Markdown can take half a second, in which the leases of other work must be kept.
    return await asyncio.to_thread(parse, kind, data, limits, charset=charset, on_page=on_page)


def _nobody(number: int, of: int) -> None:
    """Nobody wants to know."""

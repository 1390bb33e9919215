"""Reads a document: `read_document` detects its kind, parses it in a safe place, and adds its name to errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from sessions import errors
from workers.retrieval.documents.charsets import Labels, label_in
from workers.retrieval.documents.child_process import read_in_child
from workers.retrieval.documents.decoding import settled
from workers.retrieval.documents.kinds import PARSED_IN_CHILD, Kind, find_kind, may_contain_html
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.parsing import parse
from workers.retrieval.documents.recognition.limits import RecognitionLimits
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
_NO_RECOGNITION: Final = RecognitionLimits()


async def read_document(
    data: bytes,
    *,
    name: str,
    content_type: str | None = None,
    charset: str | None = None,
    limits: DocumentLimits = _DEFAULT,
    recognition: RecognitionLimits = _NO_RECOGNITION,
    on_page: Callable[[int, int], None] | None = None,
) -> Document:
    """Parse a document into sections.

    PDF, DOCX, HTML, mails, Markdown and notebooks that may contain HTML, large documents, and texts whose charset must
    be detected are parsed in a child process: their parsers can hold the GIL for minutes, and a malicious file can only
    crash the child. Each call starts its own child; the caller must limit concurrency.

    Args:
        data: the document's bytes.
        name: the user's name for the document. Errors quote it, and its suffix is the last resort to detect the kind.
        content_type: the content type as a server sent it, with its charset, which is believed if it fits.
        charset: the charset of a text, if the user named one.
        limits: the limits for the document.
        recognition: the limits of text recognition, or why there is none.
        on_page: called after each page of a PDF with the page's number and the number of pages.

    Raises:
        DocumentUnsupported: the kind is not supported.
        DocumentEmpty: the document contains no text.
        DocumentCorrupt: it is damaged, truncated, or not what its name says.
        DocumentEncrypted: it needs a password.
        DocumentTooLarge: it exceeds a limit.
        MissingExtra: the library for its kind is not installed.
    """
    try:
        return await _read(data, name, content_type, charset, limits, recognition, on_page or _ignore_page)
    except Refusal as refusal:
        raise _ERRORS[refusal.reason](f"{name!r} {refusal.problem}") from refusal


async def _read(
    data: bytes,
    name: str,
    content_type: str | None,
    charset: str | None,
    limits: DocumentLimits,
    recognition: RecognitionLimits,
    on_page: Callable[[int, int], None],
) -> Document:
    if not data.strip():
        raise Refusal(Reason.EMPTY, "is empty")
    if len(data) > limits.document_bytes:
        raise Refusal(Reason.TOO_LARGE, f"has {len(data):,} bytes, more than {limits.document_bytes:,}; split it")
    kind = find_kind(data, name=name, content_type=content_type)
    labels = Labels(charset, label_in(content_type))
    if not _is_parsed_here(kind, data, limits, labels):
        return await read_in_child(kind, data, limits, labels=labels, recognition=recognition, on_page=on_page)
    # In a thread: even 64 kB of Markdown can take half a second, and other work's leases must be renewed meanwhile.
    return await asyncio.to_thread(parse, kind, data, limits, labels=labels, on_page=on_page)


def _is_parsed_here(kind: Kind, data: bytes, limits: DocumentLimits, labels: Labels) -> bool:
    """Whether a document is small, needs no detection of its charset, and none of the parsers that can be attacked."""
    if kind in PARSED_IN_CHILD or len(data) > limits.inline_bytes:
        return False
    text = settled(data, labels)
    return text is not None and not may_contain_html(kind, text)


def _ignore_page(number: int, of: int) -> None:
    """The default `on_page`."""

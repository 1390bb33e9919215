"""PDF: one section for each page that has text, and for each chapter in its bookmarks."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from typing import Final

import pypdfium2
import pypdfium2.raw as pdfium

from workers.retrieval.documents.layout.lines import join_lines, words_with_hyphens
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.pdf.bookmarks import Bookmark, cut_pages, read_bookmarks
from workers.retrieval.documents.pdf.damage import find_damage
from workers.retrieval.documents.pdf.glyph_names import GlyphNames
from workers.retrieval.documents.pdf.legibility import is_noise
from workers.retrieval.documents.pdf.page_text import PageText, read_page
from workers.retrieval.documents.pdf.recognised import recognise_pages
from workers.retrieval.documents.pdf.stand_in_font import install as install_stand_in_font
from workers.retrieval.documents.pdf.unread import UnreadPages
from workers.retrieval.documents.recognition.ports import NO_RECOGNITION, Recognition
from workers.retrieval.documents.refusal import Reason, Refusal, encrypted
from workers.retrieval.ports import Document, Section

_LINEARIZED: Final = re.compile(rb"/Linearized\b[^>]{0,200}?/L\s+(\d{1,12})")
_HEAD_BYTES: Final = 2048
# The second look at damaged pages may take this share of the processor time.
_CHECK_SHARE: Final = 0.2
# So may the names of glyphs.
_NAMES_SHARE: Final = 0.1
_SAVE_AGAIN: Final = "open it in a PDF program and save it again"


def read_pdf(
    data: bytes,
    limits: DocumentLimits,
    on_page: Callable[[int, int], None],
    *,
    skipped: Collection[int] = (),
    recognition: Recognition = NO_RECOGNITION,
) -> Document:
    """Parse a PDF, calling `on_page` with each page's number and the number of pages.

    Pages that cannot be read do not hinder the others; the document's warnings name them.

    Args:
        skipped: pages (1-based) not to read, because they crashed an earlier child process.

    Raises:
        Refusal: it is damaged, encrypted, too large, has no text, or most of its text cannot be read.
    """
    _check_whole(data)
    install_stand_in_font()
    document = _open(data)
    try:
        count = len(document)
        if count > limits.pages:
            raise Refusal(Reason.TOO_LARGE, f"has {count:,} pages, more than {limits.pages:,}; split it")
        unread = UnreadPages(recognition.problem)
        names = GlyphNames(data, seconds=_NAMES_SHARE * limits.seconds)
        pages = _read_pages(document, limits, on_page, skipped, unread, names)
        if needing := unread.needing_recognition(pages):
            recognition.wanted(needing)
            if recognition.recogniser:
                recognise_pages(document, pages, needing, unread, recognition.recogniser, recognition.on_page)
                limits.check_chars(sum(len(page.text) for page in pages))
        bookmarks = read_bookmarks(document)
    finally:
        document.close()
    for number, damage in find_damage(data, seconds=_CHECK_SHARE * limits.seconds).items():
        if number < count:
            unread.damaged(number + 1, damage.problem)
            pages[number] = pages[number] if damage.is_read else PageText("")
    unread.check(pages)
    recognised = tuple(number for number, page in enumerate(pages, start=1) if page.recognised)
    return Document("pdf", _sections(pages, bookmarks), count, unread.warnings(), unread.numbers(), recognised)


def _check_whole(data: bytes) -> None:
    """Refuse a truncated PDF, of which PDFium would read what has arrived.

    A linearized PDF states its length at the start; others end with the place of their table of objects.
    """
    if (found := _LINEARIZED.search(data[:_HEAD_BYTES])) and int(found[1]) > len(data):
        raise Refusal(Reason.CORRUPT, f"is truncated: it has {len(data):,} of {int(found[1]):,} bytes; send all of it")
    last = data.rfind(b"endobj")
    if last >= 0 and b"startxref" not in data[last:] and b"trailer" not in data[last:]:
        raise Refusal(Reason.CORRUPT, f"is truncated: its end is missing; send all of it, or {_SAVE_AGAIN}")


def _open(data: bytes) -> pypdfium2.PdfDocument:
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        # Many documents have a password against changes only; PDFium opens them without one.
        if error.err_code == pdfium.FPDF_ERR_PASSWORD:
            raise encrypted() from error
        if error.err_code == pdfium.FPDF_ERR_SECURITY:
            problem = "is encrypted in a way that is not supported; save it without encryption and send it again"
            raise Refusal(Reason.ENCRYPTED, problem) from error
        raise Refusal(Reason.CORRUPT, f"is damaged or truncated ({error}); {_SAVE_AGAIN}") from error
    with suppress(pypdfium2.PdfiumError):  # gives an appearance to fields without one; the others can do without
        document.init_forms()
    return document


def _read_pages(
    document: pypdfium2.PdfDocument,
    limits: DocumentLimits,
    on_page: Callable[[int, int], None],
    skipped: Collection[int],
    unread: UnreadPages,
    names: GlyphNames,
) -> list[PageText]:
    pages = []
    chars = 0
    count = len(document)
    for number in range(1, count + 1):
        page = PageText("")
        if number in skipped:
            unread.damaged(number, "reading it crashed the PDF reader")
        else:
            try:
                page = read_page(document, number - 1, names)
            except pypdfium2.PdfiumError:
                unread.damaged(number, "it cannot be loaded")
        if is_noise(page.text):
            page = replace(page, text="", unmapped=page.glyphs)
        chars += len(page.text)
        limits.check_chars(chars)
        pages.append(page)
        on_page(number, count)
    return pages


def _sections(pages: list[PageText], bookmarks: list[Bookmark]) -> list[Section]:
    texts = [page.text for page in pages]
    hyphened = words_with_hyphens(texts)
    return cut_pages([join_lines(text, hyphened) for text in texts], bookmarks)

"""PDF: one section for each page that has text, and for each chapter in its bookmarks."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Final

from pypdf import PasswordType, PdfReader
from pypdf.errors import DependencyError, LimitReachedError, PyPdfError

from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.outline import check_chars
from workers.retrieval.documents.pdf_lines import join_lines, words_with_hyphens
from workers.retrieval.documents.pdf_outline import Bookmark, cut_pages, read_bookmarks
from workers.retrieval.documents.refusal import Reason, Refusal
from workers.retrieval.ports import Document, Section

_LINEARIZED: Final = re.compile(rb"/Linearized\b[^>]{0,200}?/L\s+(\d{1,12})")
_HEAD_BYTES: Final = 2048
# pypdf raises all kinds of exceptions for damaged files, including AssertionError.
_DAMAGE: Final = (
    PyPdfError, ArithmeticError, AssertionError, AttributeError, LookupError,
    OSError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


def read_pdf(data: bytes, limits: DocumentLimits, on_page: Callable[[int, int], None]) -> Document:
    """Parse a PDF, calling `on_page` with each page's number and the number of pages.

    Raises:
        Refusal: it is damaged, encrypted, too large, or has no text.
    """
    _check_whole(data)
    try:
        reader = _open(data)
        count = len(reader.pages)
        if count > limits.pages:
            raise Refusal(Reason.TOO_LARGE, f"has {count:,} pages, more than {limits.pages:,}; split it")
        pages = _read_pages(reader, limits, on_page)
        bookmarks = read_bookmarks(reader)
    except LimitReachedError as error:
        raise Refusal(Reason.TOO_LARGE, f"exceeds a limit of the PDF reader ({error})") from error
    except DependencyError as error:
        problem = "is encrypted in a way that needs the package 'cryptography'; install it, or save without encryption"
        raise Refusal(Reason.ENCRYPTED, problem) from error
    except _DAMAGE as error:
        what = str(error) or type(error).__name__
        problem = f"is damaged or truncated ({what}); open it in a PDF program and save it again"
        raise Refusal(Reason.CORRUPT, problem) from error
    sections = _sections(pages, bookmarks)
    if not sections:
        problem = f"has no text on its {count:,} pages; a scanned document needs text recognition first"
        raise Refusal(Reason.EMPTY, problem)
    return Document("pdf", sections, pages=count)


def _check_whole(data: bytes) -> None:
    """Refuse a truncated linearized PDF, which states its length at the start; pypdf would read what has arrived."""
    if (found := _LINEARIZED.search(data[:_HEAD_BYTES])) and int(found[1]) > len(data):
        raise Refusal(Reason.CORRUPT, f"is truncated: it has {len(data):,} of {int(found[1]):,} bytes; send all of it")


def _open(data: bytes) -> PdfReader:
    reader = PdfReader(io.BytesIO(data))
    # Many documents have a password against changes only, and can be read with an empty one.
    if reader.is_encrypted and reader.decrypt("") is PasswordType.NOT_DECRYPTED:
        raise Refusal(Reason.ENCRYPTED, "is encrypted; save it without a password and send it again")
    return reader


def _read_pages(reader: PdfReader, limits: DocumentLimits, on_page: Callable[[int, int], None]) -> list[str]:
    pages = []
    chars = 0
    count = len(reader.pages)
    for number, page in enumerate(reader.pages, start=1):
        text = page.extract_text()
        chars += len(text)
        check_chars(chars, limits)
        pages.append(text)
        on_page(number, count)
    return pages


def _sections(pages: list[str], bookmarks: list[Bookmark]) -> list[Section]:
    hyphened = words_with_hyphens(pages)
    return cut_pages([join_lines(text, hyphened) for text in pages], bookmarks)

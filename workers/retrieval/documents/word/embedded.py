"""Reads documents that a DOCX embeds in place of paragraphs (`w:altChunk`): HTML, web archives, text, DOCX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Final
from xml.etree.ElementTree import Element

from workers.retrieval.documents.charsets import Labels
from workers.retrieval.documents.decoding import decode, decode_page
from workers.retrieval.documents.html import read_html
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.mail import read_saved_page
from workers.retrieval.documents.plain import clean
from workers.retrieval.documents.refusal import Reason, Refusal
from workers.retrieval.documents.word.package import Package
from workers.retrieval.ports import Document, Section

_HTML: Final = frozenset({".htm", ".html", ".xhtml"})
_ARCHIVES: Final = frozenset({".mht", ".mhtml"})
_WORD: Final = frozenset({".docx", ".docm", ".dotx", ".dotm"})


def read_embedded(
    package: Package, part: str, element: Element, limits: DocumentLimits, read_docx: Callable[[bytes], Document]
) -> Document:
    """The document to which an element of a part refers.

    Raises:
        Refusal: it is of another kind, outside of the DOCX, or cannot be read.
    """
    target = package.target(part, element)
    data = None if target is None else package.bytes_of(target)
    if target is None or data is None:
        where = "" if target is None else f" ({target!r})"
        raise Refusal(Reason.CORRUPT, f"embeds a document{where} that is not in it; save it again in Word")
    suffix = PurePosixPath(target.lower()).suffix
    if suffix in _WORD:
        return read_docx(data)
    if suffix in _HTML:
        return read_html(decode_page(data, Labels()), limits)
    if suffix in _ARCHIVES:
        page = read_saved_page(data, limits)
        if page is None:
            raise Refusal(Reason.CORRUPT, "embeds a web archive without a page; open it in Word and save it again")
        return page
    if suffix == ".txt":
        text = clean(decode(data, Labels()))
        limits.check_chars(len(text))
        return Document("text", [Section(text)] if text else ())
    raise Refusal(
        Reason.UNSUPPORTED,
        f"embeds a document of another kind ({target!r}); open it in Word and save it again",
    )

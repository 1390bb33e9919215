"""DOCX: the text as a reader sees it, divided at headings; what repeats on each page comes last, once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from xml.etree.ElementTree import Element, ParseError

from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.outline import Outline
from workers.retrieval.documents.refusal import Reason, Refusal, nested_too_deeply
from workers.retrieval.documents.word.archive import Archive
from workers.retrieval.documents.word.fields import LISTS, PAGE_NUMBERS
from workers.retrieval.documents.word.names import names, qn
from workers.retrieval.documents.word.notes import Notes
from workers.retrieval.documents.word.numbering import Numbering
from workers.retrieval.documents.word.package import Package
from workers.retrieval.documents.word.properties import has
from workers.retrieval.documents.word.source import Source
from workers.retrieval.documents.word.story import Embedded, Paragraph, Story, TableBlock
from workers.retrieval.documents.word.styles import Styles
from workers.retrieval.ports import Document

_DEEPEST_EMBEDDED: Final = 3
_BODY, _SECTION, _TITLE_PAGE, _EVEN = names("w", "body", "sectPr", "titlePg", "evenAndOddHeaders")
_MARGINS, _TYPE = names("w", "headerReference", "footerReference"), qn("w:type")
# What remains of 'Page 1 of 3' without its numbers, in the languages that we know.
_PAGE_WORDS: Final = frozenset({
    "page", "pages", "pag", "p", "pg", "of", "seite", "seiten", "von", "s", "página", "páginas", "pág", "de", "pagina",
    "pagine", "di", "van", "side", "sida", "av", "af", "strona", "z", "ze", "страница", "стр", "из", "第", "页", "共",
    "頁", "ページ",
})  # fmt: skip
_WORD: Final = re.compile(r"\w+")


def read_docx(data: bytes, limits: DocumentLimits) -> Document:
    """Parse a DOCX: one section for each heading, then one with the headers and footers.

    Raises:
        Refusal: it is not a valid DOCX, too large, or embeds a document that cannot be read.
    """
    return _read(data, limits, 0)


def _read(data: bytes, limits: DocumentLimits, depth: int) -> Document:
    try:
        package = Package(Archive(data, limits))
        part, root = package.main_part()
        source = _source(package, part, limits, depth)
        outline = Outline(limits)
        story = Story(source, part, root)
        for body in root.iterfind(_BODY):
            _read_body(story, body, outline)
        outline.apart("\n".join(_new_lines(_margins(source, part, root), outline)))
    except ParseError as error:
        raise Refusal(Reason.CORRUPT, f"is not a valid DOCX ({error}); save it again and send that file") from error
    except RecursionError as error:
        raise nested_too_deeply() from error
    return Document("docx", outline.sections())


def _source(package: Package, part: str, limits: DocumentLimits, depth: int) -> Source:
    def embedded(part: str, element: Element) -> Document:
        # Few documents embed others, and it loads the parser of HTML.
        from workers.retrieval.documents.word.embedded import read_embedded  # noqa: PLC0415

        if depth == _DEEPEST_EMBEDDED:
            raise nested_too_deeply()
        return read_embedded(package, part, element, limits, lambda data: _read(data, limits, depth + 1))

    styles, numbering = package.related(part, "styles"), package.related(part, "numbering")
    known = Styles(styles[1] if styles else None)
    return Source(package, known, Numbering(numbering[1] if numbering else None, known), Notes(package, part), embedded)


def _read_body(story: Story, body: Element, outline: Outline) -> None:
    listed: list[str] = []
    for block in story.blocks(body):
        if isinstance(block, Paragraph) and block.item is not None:
            listed += ("  " * block.item + block.text, *block.boxes, *block.notes)
            continue
        outline.text("\n".join(listed))
        listed = []
        match block:
            case Paragraph():
                _add_paragraph(block, outline)
            case TableBlock():
                outline.text("\n".join(block.above))
                outline.table(block.table)
                outline.text("\n".join(block.notes))
            case Embedded():
                outline.include(block.document.sections)
    outline.text("\n".join(listed))


def _add_paragraph(block: Paragraph, outline: Outline) -> None:
    if block.heading is not None:
        outline.heading(block.heading, block.text)
    else:
        outline.text(block.text)
    for text in (*block.boxes, *block.notes):
        outline.text(text)


def _margins(source: Source, part: str, root: Element) -> Iterator[str]:
    """The lines of the headers and footers that Word shows, without page numbers."""
    settings = source.package.related(part, "settings")
    even = settings is not None and has(settings[1], _EVEN)
    read: set[str] = set()  # sections share headers
    for section in root.iter(_SECTION):
        shown = {"default", *(["even"] if even else []), *(["first"] if has(section, _TITLE_PAGE) else [])}
        for reference in section:
            if reference.tag not in _MARGINS or reference.get(_TYPE, "default") not in shown:
                continue
            name = source.package.target(part, reference)
            if name is None or name in read:
                continue
            read.add(name)
            if (margin := source.package.xml(name)) is not None:
                story = Story(source, name, margin, without=LISTS | PAGE_NUMBERS, has_notes=False)
                yield from story.lines(margin, [])


def _new_lines(lines: Iterator[str], outline: Outline) -> Iterator[str]:
    """The lines that are neither in the text nor repeated, and more than what surrounds a page's number."""
    seen: set[str] = set()
    for line in lines:
        words = _WORD.findall(line.lower())
        if line not in seen and not _PAGE_WORDS.issuperset(words) and not outline.has(line):
            yield line
        seen.add(line)

"""DOCX: paragraphs, lists and tables in document order, divided at headings. Notes, headers and footers are ignored."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import docx
from docx.document import Document as Docx
from docx.oxml.ns import qn
from docx.text.paragraph import Paragraph

from workers.retrieval.documents.archive import repack
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.outline import Outline
from workers.retrieval.documents.plain import flow, one_line
from workers.retrieval.documents.refusal import Reason, Refusal
from workers.retrieval.ports import Document

_HEADING: Final = re.compile(r"heading ([1-9])", re.IGNORECASE)
_DEEPEST_STYLE: Final = 10
_PARAGRAPH, _TABLE, _ROW, _CELL = (qn(f"w:{tag}") for tag in ("p", "tbl", "tr", "tc"))
_STYLE, _STYLE_NAME = qn("w:pStyle"), qn("w:val")
# Word writes drawings twice; the second copy is for programs that cannot read the first.
_SECOND: Final = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"


def read_docx(data: bytes, limits: DocumentLimits) -> Document:
    """Parse a DOCX: one section for each heading; each row of a table is a line, with ' | ' between its cells.

    Raises:
        Refusal: it is not a valid DOCX, or too large.
    """
    archive = repack(data, limits)
    try:
        document = docx.Document(archive)
        outline = Outline(limits)
        _read_body(document, outline)
    except (KeyError, ValueError, AttributeError, SyntaxError) as error:  # lxml's XMLSyntaxError is a SyntaxError
        raise Refusal(Reason.CORRUPT, f"is not a valid DOCX ({error}); save it again and send that file") from error
    return Document("docx", outline.sections())


def _read_body(document: Docx, outline: Outline) -> None:
    levels = _Levels(document)
    listed: list[str] = []
    for element in _blocks(document.element.body):
        if element.tag == _TABLE:
            text, level, item = "\n".join(_rows(element)), None, False
        else:
            level, item = levels.of(element)
            text = flow(Paragraph(element, document).text)
        if listed and not item:
            outline.text("\n".join(listed))
            listed = []
        if level is not None:
            outline.heading(level, one_line(text))
        elif item and text:
            listed.append(f"- {text}")
        else:
            outline.text(text)
    outline.text("\n".join(listed))


def _blocks(body: Any) -> Iterator[Any]:
    """Paragraphs and outermost tables, including those in content controls and text boxes, which python-docx skips."""
    for element in body.iter(_PARAGRAPH, _TABLE):
        if next(element.iterancestors(_TABLE, _SECOND), None) is None:
            yield element


def _rows(table: Any) -> Iterator[str]:
    for row in table.iterchildren(_ROW):
        cells = (_cell(cell) for cell in row.iter(_CELL) if next(cell.iterancestors(_ROW)) is row)
        if text := " | ".join(cells).strip(" |"):
            yield text


def _cell(cell: Any) -> str:
    """All paragraphs of a cell in one line, including those of a nested table."""
    paragraphs = (one_line(Paragraph(paragraph, cell).text) for paragraph in cell.iter(_PARAGRAPH))
    return " ".join(text for text in paragraphs if text)


class _Levels:
    """Determines from paragraph styles which paragraphs are headings, with their levels, and which are list items."""

    def __init__(self, document: Docx) -> None:
        # Computed once, because python-docx searches all styles for each paragraph.
        self._by_style = {style.style_id: self._of_style(style) for style in document.styles if style.type == 1}

    def of(self, paragraph: Any) -> tuple[int | None, bool]:
        """The level of a heading, or None; and whether the paragraph is a list item."""
        style = next(paragraph.iter(_STYLE), None)
        return self._by_style.get(style.get(_STYLE_NAME) if style is not None else None, (None, False))

    @staticmethod
    def _of_style(style: Any) -> tuple[int | None, bool]:
        """Decide by the name of the style or of a base style; 'Heading 2' is called so in every language of Word."""
        for _ in range(_DEEPEST_STYLE):
            name = style.name or ""
            if found := _HEADING.match(name):
                return int(found[1]), False
            if name == "Title":
                return 0, False
            if name.startswith("List"):
                return None, True
            style = style.base_style
            if style is None:
                break
        return None, False

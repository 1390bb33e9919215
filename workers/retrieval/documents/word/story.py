"""Reads stories of a DOCX (body, headers, notes, text boxes) as blocks: paragraphs, tables, embedded documents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from xml.etree.ElementTree import Element

from workers.retrieval.documents.plain import flow, one_line
from workers.retrieval.documents.table import Table, table_lines
from workers.retrieval.documents.word.fields import LISTS, skipped_by_fields
from workers.retrieval.documents.word.graphics import graphic_text
from workers.retrieval.documents.word.inline import SKIPPED, TEXT_BOX, Inline, InlineReader, Reference
from workers.retrieval.documents.word.names import names, qn
from workers.retrieval.documents.word.properties import value_of
from workers.retrieval.documents.word.rows import Row, filled_table, table_rows
from workers.retrieval.documents.word.source import Source
from workers.retrieval.documents.word.styles import heading_of, numbering_of
from workers.retrieval.ports import Document

_PARAGRAPH, _TABLE, _EMBEDDED, _TEXT = names("w", "p", "tbl", "altChunk", "t")
_BLOCKS: Final = frozenset({_PARAGRAPH, _TABLE, _EMBEDDED, qn("m:oMathPara"), qn("m:oMath")})
_PROPERTIES, _MARK_PROPERTIES = qn("w:pPr"), qn("w:rPr")
_DELETED, _MOVED, _FRAME, _DROP_CAP = names("w", "del", "moveFrom", "framePr", "dropCap")
_ALTERNATIVES, _ALTERNATIVE = qn("mc:AlternateContent"), frozenset({qn("mc:Choice"), qn("mc:Fallback")})
_CONTROL, _GALLERY = qn("w:sdt"), "/".join(names("w", "sdtPr", "docPartObj", "docPartGallery"))
_CONTENTS: Final = "Table of Contents"


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph.

    Attributes:
        text: its text, with its number if it has one.
        heading: the level of a heading; None for text.
        item: the level of a list item, from 0; None if it is none.
        boxes: the texts of drawings and text boxes that are anchored in it.
        notes: the footnotes and endnotes that it refers to.
    """

    text: str
    heading: int | None = None
    item: int | None = None
    boxes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TableBlock:
    """A table, the lines above its header that cover all of its columns, and the notes that its cells refer to."""

    above: list[str]
    table: Table
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Embedded:
    """A document that is embedded in place of a paragraph."""

    document: Document


Block = Paragraph | TableBlock | Embedded


class Story:
    """Reads the stories of one part."""

    def __init__(
        self, source: Source, part: str, root: Element, *, without: frozenset[str] = LISTS, has_notes: bool = True
    ) -> None:
        """Prepare for a part.

        Args:
            source: the document.
            part: the part's name.
            root: its root.
            without: fields whose results are not text.
            has_notes: whether its paragraphs can refer to notes.
        """
        self._source = source
        self._part = part
        self._has_notes = has_notes
        self._notes_stories: dict[str, Story] = {}
        self._inline = InlineReader(
            source.styles,
            skipped=skipped_by_fields(root, without),
            fields=without,
            mark=source.notes.next_mark if has_notes else _no_mark,
        )

    def blocks(self, container: Element) -> Iterator[Block]:
        """The blocks of a story or a cell, in document order.

        Raises:
            Refusal: a document of an unknown kind is embedded.
        """
        carried: list[str] = []
        for element in _blocks_below(container):
            if element.tag == _TABLE:
                yield from self._table(element)
            elif element.tag == _EMBEDDED:
                yield Embedded(self._source.embedded(self._part, element))
            else:
                properties = element.find(_PROPERTIES)
                inline = self._inline.read(element, self._source.styles.paragraph(properties))
                inline.parts[:0] = carried
                between = _joined_by(properties)
                is_joined = between is not None
                carried = [*inline.parts, between] if between is not None and inline.parts else []
                block = self._paragraph(inline, properties, is_joined=is_joined)
                if not is_joined or block.boxes or block.notes:
                    yield block
        if carried:
            yield Paragraph(flow("".join(carried)))

    def lines(self, container: Element, notes: list[str]) -> Iterator[str]:
        """The blocks as lines of plain text, without headings. The notes are appended to `notes`."""
        for block in self.blocks(container):
            if isinstance(block, Paragraph):
                yield from filter(None, (block.text, *block.boxes))
                notes += block.notes
            elif isinstance(block, TableBlock):
                yield from (*block.above, *table_lines(block.table))
                notes += block.notes
            else:
                yield from (section.text for section in block.document.sections)

    def _paragraph(self, inline: Inline, properties: Element | None, *, is_joined: bool) -> Paragraph:
        boxes, notes = self._boxes(inline), list(filter(None, map(self._note, inline.references)))
        if is_joined:
            return Paragraph("", boxes=boxes, notes=notes)
        numbered = numbering_of(properties, inline.style.numbered)
        label = self._source.numbering.label(numbered, inline.style)
        if label is None and numbered is None and inline.style.is_bullet:
            label = ("-", 0)
        heading = heading_of(properties, inline.style)
        if heading is not None:
            marks = {reference.mark for reference in inline.references}
            text = one_line("".join(part for part in inline.parts if part not in marks))
            number = label[0] if label and label[0] != "-" else ""
            return Paragraph(f"{number} {text}".lstrip() if text else "", heading, None, boxes, notes)
        text = flow("".join(inline.parts))
        if label is None or not label[0] or not text:
            return Paragraph(text, boxes=boxes, notes=notes)
        return Paragraph(f"{label[0]} {text}", None, label[1], boxes, notes)

    def _boxes(self, inline: Inline) -> list[str]:
        texts = []
        for element in inline.objects:
            if element.tag == TEXT_BOX:
                notes: list[str] = []
                texts.append("\n".join([*self.lines(element, notes), *notes]))
            else:
                texts.append(graphic_text(element, self._source.package, self._part))
        return list(filter(None, texts))

    def _note(self, reference: Reference) -> str:
        """A note after its mark; '' if it was already read or does not exist."""
        found = self._source.notes.take(reference) if self._has_notes else None
        if found is None:
            return ""
        part, root, note = found
        if part not in self._notes_stories:
            self._notes_stories[part] = Story(self._source, part, root, has_notes=False)
        text = " ".join(map(one_line, self._notes_stories[part].lines(note, [])))
        return f"{reference.mark} {text}".strip() if text else ""

    def _table(self, element: Element) -> Iterator[Block]:
        rows = table_rows(element)
        if _is_layout(rows):
            for cell in (cell.element for row in rows for cell in row.cells):
                if cell is not None:
                    yield from self.blocks(cell)
            return
        notes: list[str] = []
        above, table = filled_table(rows, lambda cell: " ".join(map(one_line, self.lines(cell, notes))))
        yield TableBlock(above, table, notes)


def _blocks_below(container: Element) -> Iterator[Element]:
    for child in container:
        if child.tag in _BLOCKS:
            yield child
        elif child.tag == _ALTERNATIVES:
            branches = [list(_blocks_below(each)) for each in child if each.tag in _ALTERNATIVE]
            yield from next(filter(None, branches), [])
        elif child.tag not in SKIPPED and not _is_contents(child):
            yield from _blocks_below(child)


def _is_contents(element: Element) -> bool:
    """Whether an element is a table of contents, which repeats the headings."""
    return element.tag == _CONTROL and value_of(element, _GALLERY) == _CONTENTS


def _joined_by(properties: Element | None) -> str | None:
    """What joins a paragraph to the next one: nothing after a drop cap, a space after a deleted paragraph mark.

    None for all other paragraphs.
    """
    if properties is None:
        return None
    frame = properties.find(_FRAME)
    if frame is not None and frame.get(_DROP_CAP, "none") != "none":
        return ""
    mark = properties.find(_MARK_PROPERTIES)
    return " " if mark is not None and (mark.find(_DELETED) is not None or mark.find(_MOVED) is not None) else None


def _is_layout(rows: list[Row]) -> bool:
    """Whether a table only places paragraphs: it has one column, or one row with several paragraphs in a cell."""
    if all(len(row.cells) == 1 for row in rows):
        return True
    cells = [cell.element for cell in rows[0].cells if cell.element is not None]
    return len(rows) == 1 and any(sum(map(_has_text, _blocks_below(cell))) > 1 for cell in cells)


def _has_text(block: Element) -> bool:
    return any(text.text for text in block.iter(_TEXT))


def _no_mark(kind: str) -> str:
    return ""

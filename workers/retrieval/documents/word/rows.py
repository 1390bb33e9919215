"""The rows of a Word table, with merged cells in every row and column that they cover."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final
from xml.etree.ElementTree import Element

from workers.retrieval.documents.table import Table, repeated
from workers.retrieval.documents.word.inline import SKIPPED
from workers.retrieval.documents.word.names import names
from workers.retrieval.documents.word.properties import VAL, has, integer, value_of

_ROW, _CELL, _ROW_PROPERTIES, _CELL_PROPERTIES = names("w", "tr", "tc", "trPr", "tcPr")
_IS_HEADER, _IS_HIDDEN, _IS_DELETED, _BEFORE = names("w", "tblHeader", "hidden", "del", "gridBefore")
_SPAN, _MERGED, _CELL_DELETED = names("w", "gridSpan", "vMerge", "cellDel")
_MOST_COLUMNS: Final = 63  # of a table in Word


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a row.

    Attributes:
        element: the cell (`w:tc`); None for the space before the first cell.
        span: how many columns it covers.
        continues: whether it belongs to the cell above it.
    """

    element: Element | None
    span: int = 1
    continues: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row that was not deleted; `is_header` if it is repeated on each page."""

    cells: list[Cell]
    is_header: bool

    @property
    def width(self) -> int:
        """The number of columns that the row covers."""
        return sum(cell.span for cell in self.cells)

    @property
    def starts(self) -> list[int]:
        """The columns in which its cells begin."""
        return list(accumulate((cell.span for cell in self.cells[:-1]), initial=0))


def table_rows(table: Element) -> list[Row]:
    """The rows of a table (`w:tbl`)."""
    return [row for element in _below(table, _ROW) if (row := _row(element)) is not None]


def filled_table(rows: list[Row], text_of: Callable[[Element], str]) -> tuple[list[str], Table]:
    """The texts of the rows above the header that cover the whole table, and the table of the other rows."""
    width = max((row.width for row in rows), default=0)
    covers: dict[int, str] = {}  # the text of the cell that reaches down to the current row, by column
    above: list[str] = []
    while len(rows) > 1 and _covers_all(rows[0], width):
        above += filter(None, _texts(rows[0], covers, text_of, repeat=False)[:1])
        rows = rows[1:]
    header_rows = _header_rows(rows, width)
    filled = []
    for number, row in enumerate(rows):
        texts = _texts(row, covers, text_of, repeat=number < (header_rows or 0))
        if _covers_all(row, width):
            texts = texts[:1]
        elif header_rows == 0:
            texts = list(filter(None, texts))
        filled.append(texts)
    return above, Table(filled, header_rows=header_rows)


def _header_rows(rows: list[Row], width: int) -> int | None:
    """How many rows are the header; None if their form does not tell.

    People seldom mark the header in Word. But where a cell of the first row stands above several columns and another
    one reaches into the second row, both are the header. A table whose rows are all divided differently is a form.
    """
    marked = next((number for number, row in enumerate(rows) if not row.is_header), len(rows))
    if marked or len(rows) < 2:
        return marked or None
    if any(cell.span > 1 for cell in rows[0].cells) and any(cell.continues for cell in rows[1].cells):
        return 2
    alike = sum(row.starts == rows[0].starts or _covers_all(row, width) for row in rows[1:])
    return None if alike * 2 >= len(rows) - 1 else 0


def _covers_all(row: Row, width: int) -> bool:
    return len(row.cells) == 1 and row.width == width > 1


def _texts(row: Row, covers: dict[int, str], text_of: Callable[[Element], str], *, repeat: bool) -> list[str]:
    """The texts of a row's columns. A cell of several columns occurs in each if `repeat`, else in the first."""
    texts: list[str] = []
    for cell in row.cells:
        column = len(texts)
        if cell.continues:
            text = covers.get(column, "")
        else:
            text = text_of(cell.element) if cell.element is not None else ""
            covers[column] = repeated(text)
        texts.append(text)
        texts.extend([covers.get(column, "") if repeat else ""] * (cell.span - 1))
    return texts


def _row(element: Element) -> Row | None:
    properties = element.find(_ROW_PROPERTIES)
    if properties is not None and (has(properties, _IS_DELETED) or has(properties, _IS_HIDDEN)):
        return None
    before = _number(properties, _BEFORE)
    cells = [Cell(None)] * before + [_cell(cell) for cell in _below(element, _CELL)]
    return Row(cells[:_MOST_COLUMNS], properties is not None and has(properties, _IS_HEADER))


def _cell(element: Element) -> Cell:
    properties = element.find(_CELL_PROPERTIES)
    if properties is None:
        return Cell(element)
    merged = properties.find(_MERGED)
    return Cell(
        None if properties.find(_CELL_DELETED) is not None else element,
        max(1, _number(properties, _SPAN)),
        continues=merged is not None and merged.get(VAL) != "restart",
    )


def _below(element: Element, tag: str) -> Iterator[Element]:
    """Rows of a table or cells of a row, including those in content controls; not those of a nested table."""
    for child in element:
        if child.tag == tag:
            yield child
        elif child.tag not in SKIPPED:
            yield from _below(child, tag)


def _number(properties: Element | None, name: str) -> int:
    return 0 if properties is None else min(max(integer(value_of(properties, name)), 0), _MOST_COLUMNS)

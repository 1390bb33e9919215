"""Reads a table of an HTML page as rows of cells. A table that only arranges parts of the page is not read here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from selectolax.lexbor import LexborNode

from workers.retrieval.documents.html.inline import InlineText
from workers.retrieval.documents.html.tree import HEADINGS, Tree, Walk, number_in
from workers.retrieval.documents.table import Table, repeated

_ROLES: Final = frozenset({"presentation", "none"})
# A table without header cells arranges a page if it contains one of these elements, or a cell longer than this.
_PARTS_OF_PAGES: Final = frozenset({*HEADINGS, "pre", "form", "article", "section"})
_LONGEST_CELL: Final = 1_000
_MOST_COLUMNS: Final = 1_000
# Merged cells are repeated in the rows and columns that they cover, up to this number of cells.
_MOST_REPEATED: Final = 100_000


@dataclass(slots=True)
class _Cell:
    text: str
    names: bool
    columns: int
    rows: int


@dataclass(slots=True)
class _Row:
    cells: list[_Cell] = field(default_factory=list)
    in_head: bool = False


def read_table(tree: Tree, node: LexborNode, hidden: Callable[[LexborNode], bool]) -> tuple[str, Table] | None:
    """A table's caption and rows; None if it is no table of data."""
    if node.attributes.get("role") in _ROLES:
        return None
    reader = _Reader(Walk(tree, node, hidden))
    if not reader.read(node) or not _has_data(reader):
        return None
    cells = _grid(reader.rows)
    header_rows = 0
    for row in reader.rows:
        if not row.in_head and not all(cell.names for cell in row.cells):
            break
        header_rows += 1
    header_rows = header_rows if header_rows < len(cells) or reader.rows[0].in_head else 0
    names = sum(row.cells[0].names and not row.cells[-1].names for row in reader.rows) * 2 > len(reader.rows)
    unmarked = not header_rows and not any(cell.names for row in reader.rows for cell in row.cells)
    return reader.caption, Table(cells, None if unmarked else header_rows, row_names=names)


def _has_data(reader: _Reader) -> bool:
    rows = reader.rows
    if not rows:
        return False
    if any(cell.names for row in rows for cell in row.cells) or any(row.in_head for row in rows):
        return True
    longest = max(len(cell.text) for row in rows for cell in row.cells)
    return (
        not reader.arranges and len(rows) > 1 and max(len(row.cells) for row in rows) > 1 and longest <= _LONGEST_CELL
    )


class _Reader:
    """Reads the rows of one table; stops at a table within it."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self.rows: list[_Row] = []
        self.caption = ""
        self.arranges = False
        self._in_head = False

    def read(self, table: LexborNode) -> bool:
        """Whether the table contains no other one."""
        text = InlineText()
        for node, opens in self._walk:
            tag = node.tag or ""
            if tag == "table" and node.mem_id != table.mem_id:
                return False
            if tag == "math" and opens:
                text.formula(node)
                self._walk.skip()
            elif tag == "thead":
                self._in_head = opens
            elif tag == "tr":
                self._row(opens)
            elif tag in ("td", "th", "caption"):
                self._cell(node, tag, opens, text.take_line())
            elif tag != "table":
                self.arranges = self.arranges or tag in _PARTS_OF_PAGES
                text.add(node, opens)
        return True

    def _row(self, opens: bool) -> None:
        if opens:
            self.rows.append(_Row(in_head=self._in_head))
        elif not any(cell.text for cell in self.rows[-1].cells):
            self.rows.pop()

    def _cell(self, node: LexborNode, tag: str, opens: bool, text: str) -> None:
        if opens:
            return
        if tag == "caption":
            self.caption = text
        elif self.rows:
            columns, rows = (number_in(node, name) or 1 for name in ("colspan", "rowspan"))
            self.rows[-1].cells.append(_Cell(text, tag == "th", columns, rows))


def _grid(rows: list[_Row]) -> list[list[str]]:
    """The texts of the cells, with merged cells in each row and column that they cover."""
    width = min(_MOST_COLUMNS, max(sum(cell.columns for cell in row.cells) for row in rows))
    below: dict[int, tuple[int, str]] = {}  # the rows that a cell above still covers, by column
    budget = _MOST_REPEATED
    grid = []
    for number, row in enumerate(rows):
        if len(row.cells) == 1 and row.cells[0].columns >= width > 1 and not below:
            grid.append([row.cells[0].text])
            continue
        texts: list[str] = []
        for cell in row.cells:
            budget -= _carry_down(below, texts)
            spread = min(cell.columns, max(1, width - len(texts))) if budget > 0 else 1
            budget -= spread - 1
            for copy in range(spread):
                if cell.rows > 1 and number + 1 < len(rows) and budget > 0:
                    below[len(texts)] = (cell.rows - 1, repeated(cell.text))
                texts.append(cell.text if copy == 0 else repeated(cell.text))
        budget -= _carry_down(below, texts)
        if budget <= 0:
            below.clear()
        grid.append(texts)
    return grid


def _carry_down(below: dict[int, tuple[int, str]], texts: list[str]) -> int:
    """Add the cells from rows above that cover the next columns; return their number."""
    start = len(texts)
    while (found := below.pop(len(texts), None)) is not None:
        left, text = found
        if left > 1:
            below[len(texts)] = (left - 1, text)
        texts.append(text)
    return len(texts) - start

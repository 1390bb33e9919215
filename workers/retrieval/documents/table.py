"""Tables of any format: each row becomes a line that names its columns, so that every passage has the header.

A reader hands over a `Table` (to `Outline.table`, unless the table is the whole document), and nothing else has to know
about tables: a chunk begins and ends between lines, and each line says which columns its values are in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from workers.retrieval.documents.headings import heading_path
from workers.retrieval.documents.table_header import find_header
from workers.retrieval.ports import Section

_SECTION_ROWS: Final = 50
# Half of a chunk, because the headings above a passage may take up to half of it.
_LINE_CHARS: Final = 400
_NAME_CHARS: Final = 100
# Of a longer name each row has the beginning; the whole of it stands before the rows.
_LONGEST_NAME: Final = 200
_LONGEST_REPEATED: Final = 200


@dataclass(frozen=True, slots=True)
class Table:
    """A table as a reader found it.

    Attributes:
        rows: the rows with their cells, each cell without line breaks. A merged cell occurs in each row and column that
            it covers; a row with a single cell, in a table that has more columns, is a remark on the rows around it.
        header_rows: how many of the first rows the document marks as header. None if it marks none: then the table
            decides whether the first row is one. Two columns of mere texts are taken for a list of properties.
        row_names: whether the first cell of each row names the row, as in a list of properties. Ignored with a header.
    """

    rows: Sequence[Sequence[str]]
    header_rows: int | None = None
    row_names: bool = False


def table_lines(table: Table) -> list[str]:
    """The table's rows as lines; a long row has several. Without a header, ' | ' separates the cells of a row."""
    rows = [list(row) for row in table.rows if any(row)]
    count = table.header_rows
    if count is None:
        width = max(map(len, rows), default=0)
        count = int(width > 1 and find_header(rows, in_doubt=width > 2))
    names = column_names(rows[:count])
    if not any(names):
        row_names = table.row_names or sum(row[0].endswith(":") for row in rows) * 2 > len(rows)
        return [_unnamed(row, row_names) for row in rows]
    header = " | ".join(filter(None, names))
    if len(rows) == count:
        return [header]
    header_rows = set(map(tuple, rows[:count]))
    body = [row for row in rows[count:] if tuple(row) not in header_rows]
    # The rows do not name a column without values (a form to fill in), nor the whole of a long name.
    incomplete = any(len(name) > _LONGEST_NAME for name in names) or any(_empty_columns(names, body))
    names = [_shortened(name) for name in names]
    return [header] * incomplete + [line for row in body for line in row_lines(names, row)]


def column_names(header: Sequence[Sequence[str]]) -> list[str]:
    """One name for each column: from all rows of the header, numbered if several columns have the same name."""
    width = max(map(len, header), default=0)
    names = []
    seen: Counter[str] = Counter()
    for column in range(width):
        name = " ".join(dict.fromkeys(row[column] for row in header if column < len(row) and row[column]))
        seen[name] += 1
        names.append(f"{name} ({seen[name]})" if name and seen[name] > 1 else name)
    return names


def _empty_columns(names: Sequence[str], body: Sequence[Sequence[str]]) -> Iterator[str]:
    """The names of columns in which no row has a value."""
    filled = {column for row in body for column, cell in enumerate(row) if cell}
    return (name for column, name in enumerate(names) if name and column not in filled)


def row_lines(names: Sequence[str], row: Sequence[str]) -> list[str]:
    """A row as `name: value; name: value`.

    A row that is too long for a passage becomes several lines. Each begins with the row's first value, which usually
    says what the row is about, and names the columns of what it contains.
    """
    if len(row) == 1 < len(names):
        return [row[0]]
    names = [*names, *(f"column {number}" for number in range(len(names) + 1, len(row) + 1))]
    cells = [(name, cell) for name, cell in zip(names, row, strict=False) if cell]
    line = "; ".join(map(_named, cells))
    return [line] if len(line) <= _LINE_CHARS else list(_broken(cells))


def repeated(text: str) -> str:
    """What a merged cell with this text has in the other rows and columns that it covers.

    A long text is no name of them, and occurs once.
    """
    return text if len(text) <= _LONGEST_REPEATED else ""


def group(lines: Sequence[str], what: str, between: str, *, title: str = "") -> list[Section]:
    """Group lines into sections, so that a hit says where in a long table it is. The title is in each heading."""
    sections = []
    for start in range(0, len(lines), _SECTION_ROWS):
        part = lines[start : start + _SECTION_ROWS]
        if body := between.join(filter(None, part)):
            where = f"{what} {start + 1} to {start + len(part)}"
            sections.append(Section(body, heading=heading_path(title, where)))
    return sections


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3].rstrip()}..."


def _named(cell: tuple[str, str]) -> str:
    name, value = cell
    return f"{name}: {value}" if name else value


def _unnamed(row: Sequence[str], row_names: bool) -> str:
    if row_names and len(row) > 1 and row[0]:
        values = " | ".join(filter(None, row[1:]))
        return _named((row[0].rstrip(" :"), values)) if values else row[0].rstrip(" :")
    filled = [column for column, cell in enumerate(row) if cell]
    return " | ".join(row[filled[0] : filled[-1] + 1])


def _broken(cells: Sequence[tuple[str, str]]) -> Iterator[str]:
    """The cells in lines of at most `_LINE_CHARS`, if their names are not very long."""
    key = _named(cells[0])
    lead = f"{key}; " if len(key) <= _NAME_CHARS and len(cells) > 1 else ""
    line = ""
    for name, value in cells[1:] if lead else cells:
        room = _LINE_CHARS - len(lead) - (len(name) + 2 if len(name) <= _NAME_CHARS else 0)
        for number, piece in enumerate(_pieces(value, room)):
            part = _named((name if number == 0 or len(name) <= _NAME_CHARS else "", piece))
            if line and len(lead) + len(line) + len(part) + 2 > _LINE_CHARS:
                yield lead + line
                line = ""
            line = f"{line}; {part}" if line else part
    yield lead + line


def _pieces(text: str, room: int) -> Iterator[str]:
    """A text in pieces of whole words."""
    start = 0
    while len(text) - start > room:
        end = text.rfind(" ", start + 1, start + room + 1)
        end = end if end > 0 else start + room
        yield text[start:end]
        start = end + (text[end] == " ")
    yield text[start:]

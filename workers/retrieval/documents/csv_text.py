"""CSV: each row becomes a line that names its columns, so that it can be found and understood on its own."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Final

from workers.retrieval.documents.base64_data import without_data_uris
from workers.retrieval.documents.headings import LONGEST_TITLE
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.plain import one_line
from workers.retrieval.documents.refusal import Reason, Refusal
from workers.retrieval.documents.table import column_names, group, row_lines
from workers.retrieval.documents.table_header import find_header
from workers.retrieval.ports import Document, Section

# If several divide a table evenly, the first of them is chosen. The comma is the last one, since texts contain commas.
_DELIMITERS: Final = "\t;|,"
_SAMPLE_CHARS: Final = 65_536
_SAMPLE_ROWS: Final = 100
_LONGEST_CELL: Final = 100_000
_LEAST_EVENNESS: Final = 0.5
_MOST_TITLES: Final = 5
_EXCEL_LINE: Final = re.compile(r"\s*\"?sep=(\t|[^\w\s\"])\"?\s*(?:\n|\Z)", re.IGNORECASE)

_REMARK: Final = re.compile(r"\A[*#(\u2020]|:")


def read_csv(text: str, limits: DocumentLimits) -> Document:
    """Parse CSV into sections of 50 rows. A section's heading says which rows it has, counted from 1 after the header.

    Rows above the header, such as a title, are the first section's first lines; a short title is in all headings.

    Raises:
        Refusal: it is not a table, or a cell is too large.
    """
    text = without_data_uris(text).replace("\r\n", "\n").replace("\r", "\n")
    excel = _EXCEL_LINE.match(text)
    text = text[excel.end() :] if excel else text
    above, rows = _without_titles(_rows(text, excel[1] if excel else _delimiter(text)))
    names, rows = _header(rows)
    lines = list(_lines(names, rows, limits)) or [", ".join(filter(None, names))]
    titles = [", ".join(filter(None, row)) for row in above]
    title = titles[0] if titles and len(titles[0]) <= LONGEST_TITLE else ""
    sections = group(lines, "rows", "\n", title=title)
    if titles and sections:
        sections[0] = Section("\n".join((*titles, sections[0].text)), heading=sections[0].heading)
    return Document("csv", sections)


def _lines(names: Sequence[str], rows: Sequence[Sequence[str]], limits: DocumentLimits) -> Iterator[str]:
    """The lines of each row. Their length is checked while they grow: long names are repeated in each row."""
    chars = 0
    for row in rows:
        line = "\n".join(row_lines(names, row))
        chars += len(line)
        limits.check_chars(chars)
        yield line


def _header(rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and the rows below them."""
    groups = int(len(rows) > 2 and _names_groups(rows[0]) and find_header(rows[1:], in_doubt=False))
    if not find_header(rows[groups:], in_doubt=True):
        return [f"column {number}" for number in range(1, len(rows[0]) + 1)] if rows else [], rows
    header = rows[groups]
    above = [_filled_right(rows[0])] if groups else []
    return column_names([*above, header]), [_whole(row) for row in rows[groups + 1 :] if row != header]


def _whole(row: list[str]) -> list[str]:
    """A row; one with a single cell that does not read like a remark ('Source: ...') only lacks its empty cells."""
    return row if len(row) > 1 or _REMARK.search(row[0]) else [*row, ""]


def _names_groups(row: Sequence[str]) -> bool:
    """Whether a row names groups of columns: `,2023,,2024,` above `Region,Q1,Q2,Q1,Q2`."""
    return not row[0] and sum(map(bool, row)) > 1 and "" in row[1:]


def _filled_right(row: Sequence[str]) -> list[str]:
    last = ""
    return [last := cell or last for cell in row]


def _without_titles(rows: list[list[str]]) -> tuple[list[list[str]], list[list[str]]]:
    """The rows above the table, which have far fewer cells than most rows, and the others."""
    filled = [sum(map(bool, row)) for row in rows]
    widths = Counter(each for each in filled[:_SAMPLE_ROWS] if each > 1).most_common(1)
    width = widths[0][0] if widths else 1
    first = next((number for number, row in enumerate(rows) if filled[number] > max(1, (width - 1) // 2)), 0)
    if width == 1 or any(row[0] == "" for row in rows[:first]):
        return [], rows
    if filled[first] < width:  # a title can contain the delimiter; below it is a full row that is clearly a header
        full = next((number for number in range(first, len(rows)) if filled[number] >= width), first)
        if full <= first + _MOST_TITLES and find_header(rows[full:], in_doubt=False):
            first = full
    return rows[:first], rows[first:]


def _rows(text: str, delimiter: str) -> list[list[str]]:
    """The rows that are not empty.

    Where quotation marks break the rules, the most likely reason is chosen: they are escaped by backslashes, or one is
    never closed and would swallow all further rows, or they are part of the text.
    """
    try:
        return _parsed(text, delimiter, strict=True)
    except csv.Error as error:
        if "unexpected end" in str(error):
            return _parsed(text, delimiter, quoting=csv.QUOTE_NONE)
    if '\\"' in text:
        with suppress(csv.Error):
            return _parsed(text, delimiter, strict=True, escapechar="\\")
    try:
        return _parsed(text, delimiter)
    except csv.Error as error:
        if "field limit" in str(error):
            problem = f"has a cell of more than {_LONGEST_CELL:,} characters; is a quotation mark missing?"
            raise Refusal(Reason.TOO_LARGE, problem) from error
        raise Refusal(Reason.CORRUPT, f"is not valid CSV ({error})") from error


def _parsed(text: str, delimiter: str, **how: Any) -> list[list[str]]:
    rows = []
    for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, **how):
        if any(len(cell) > _LONGEST_CELL for cell in row):
            raise csv.Error("field larger than field limit")
        if any(cell.strip() for cell in row):
            rows.append([one_line(cell) for cell in row])
    return rows


def _delimiter(text: str) -> str:
    """The delimiter that divides most of the first rows evenly, with quotation marks taken into account.

    `csv.Sniffer` can take minutes, and choose a letter.
    """
    sample = text[:_SAMPLE_CHARS]
    sample = sample if len(sample) == len(text) or "\n" not in sample else sample[: sample.rindex("\n")]
    shares = {each: _evenness(sample, each) for each in _DELIMITERS if each in sample}
    best = max(shares, key=shares.__getitem__, default=",")
    if shares.get(best, 0) >= _LEAST_EVENNESS:
        return best
    first = sample.lstrip().partition("\n")[0]
    return max(_DELIMITERS, key=first.count)


def _evenness(sample: str, delimiter: str) -> float:
    """The share of rows with the most frequent number of cells; a row that is not divided does not count."""
    try:
        reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)
        widths = [len(row) for row in islice(reader, _SAMPLE_ROWS) if row]
    except csv.Error:
        return 0
    divided = Counter(width for width in widths if width > 1).most_common(1)
    return divided[0][1] / len(widths) if divided else 0

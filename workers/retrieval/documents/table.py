"""CSV: each row becomes a line that names its columns, so that it can be found and understood on its own."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Final

from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.outline import check_chars
from workers.retrieval.documents.plain import one_line
from workers.retrieval.documents.refusal import Reason, Refusal
from workers.retrieval.ports import Document, Section

_DELIMITERS: Final = ",;\t|"
_SAMPLE_CHARS: Final = 16_384
_SECTION_ROWS: Final = 50
_LONGEST_CELL: Final = 100_000


def read_csv(text: str, limits: DocumentLimits) -> Document:
    """Parse CSV into sections of 50 rows. A section's heading says which rows it has, counted from 1 after the header.

    Raises:
        Refusal: it is not a table, or a cell is too large.
    """
    rows = _rows(text)
    first = next(rows, None)
    if first is None:
        return Document("csv", ())
    header = first if _is_header(first) else [f"column {number}" for number, _ in enumerate(first, start=1)]
    lines = [] if header is first else [_line(header, first)]
    lines.extend(_line(header, row) for row in rows)
    if not lines:
        lines = [", ".join(filter(None, header))]
    check_chars(sum(map(len, lines)), limits)
    return Document("csv", group(lines, "rows", "\n"))


def group(lines: Sequence[str], what: str, between: str) -> list[Section]:
    """Group lines into sections, so that a hit says where in a long table it is."""
    sections = []
    for start in range(0, len(lines), _SECTION_ROWS):
        part = lines[start : start + _SECTION_ROWS]
        if body := between.join(filter(None, part)):
            sections.append(Section(body, heading=f"{what} {start + 1} to {start + len(part)}"))
    return sections


def _rows(text: str) -> Iterator[list[str]]:
    """The rows that are not empty."""
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text)):
            if any(len(cell) > _LONGEST_CELL for cell in row):
                raise csv.Error("field larger than field limit")
            if any(cell.strip() for cell in row):
                yield [one_line(cell) for cell in row]
    except csv.Error as error:
        if "field limit" in str(error):
            problem = f"has a cell of more than {_LONGEST_CELL:,} characters; is a quotation mark missing?"
            raise Refusal(Reason.TOO_LARGE, problem) from error
        raise Refusal(Reason.CORRUPT, f"is not valid CSV ({error})") from error


def _delimiter(text: str) -> str:
    """The most frequent delimiter in the first line. `csv.Sniffer` can take minutes, and choose a letter."""
    first = text.lstrip().partition("\n")[0][:_SAMPLE_CHARS]
    return max(_DELIMITERS, key=first.count)


def _is_header(row: Sequence[str]) -> bool:
    """Whether the row has names that are unique and not numbers."""
    names = [name for name in row if name]
    return bool(names) and len(set(names)) == len(names) and not any(_is_number(name) for name in names)


def _is_number(text: str) -> bool:
    return text.lstrip("+-").replace(".", "").replace(",", "").rstrip("%").isdigit()


def _line(header: Sequence[str], row: Sequence[str]) -> str:
    names = [*header, *(f"column {number}" for number in range(len(header) + 1, len(row) + 1))]
    return "; ".join(f"{name}: {cell}" if name else cell for name, cell in zip(names, row, strict=False) if cell)

"""Decides whether the first row of a table that does not mark its header is one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Final

_SAMPLE_ROWS: Final = 50
_LONGEST_NAME: Final = 300
_MISSING: Final = frozenset({"", "-", "\u2013", "\u2014", "n/a", "na", "null", "none", "nan", "."})
_DATE: Final = re.compile(
    r"\d{4}[-/.]\d{1,2}([-/.]\d{1,2}([T ].*)?)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}|\d\d?:\d\d(:\d\d)?"
)
_YEAR: Final = re.compile(r"(1[5-9]|20|21)\d\d")
_AROUND_NUMBER: Final = "%+-()~<>\u2212\u00b1$\u20ac\u00a3\u00a5\u2030 "
_NUMBER: Final = re.compile(r"\d[\d.,'\u2019 ]*(e[+-]?\d+)?", re.IGNORECASE)


class _Look(StrEnum):
    MISSING = "missing"
    TEXT = "text"
    NUMBER = "number"
    YEAR = "year"
    DATE = "date"


def find_header(rows: Sequence[Sequence[str]], *, in_doubt: bool) -> bool:
    """Whether the first row names the columns. Years and other numbers can be names.

    Each column is compared with its first cell: a text above numbers speaks for a header, a number above numbers and a
    value that the column repeats speak against one.

    Args:
        rows: at least the first rows, without empty ones.
        in_doubt: the answer if all columns contain only texts of the same kind.
    """
    if not rows:
        return False
    first, body = rows[0], rows[1 : _SAMPLE_ROWS + 1]
    looks = [_look(cell) for cell in first]
    if max(map(len, first)) > _LONGEST_NAME:
        return False
    if _Look.TEXT not in looks and looks[0] is not _Look.MISSING and not _is_sequence(first):
        return False
    counts = _is_sequence(first) and not (body and _is_sequence(body[0]))
    evidence = sum(
        2 if counts and looks[column] in (_Look.NUMBER, _Look.YEAR) else _evidence(cell, looks[column], values)
        for column, cell, values in _columns(first, body)
    )
    if evidence == 0:
        return in_doubt and all(look in (_Look.TEXT, _Look.MISSING) for look in looks)
    return evidence > 0


def _columns(first: Sequence[str], body: Sequence[Sequence[str]]) -> Iterator[tuple[int, str, list[str]]]:
    """The columns whose first cell is not empty: number, first cell, further values."""
    rows = [row for row in body if list(row) != list(first)]  # a header may be repeated on each page
    for column, cell in enumerate(first):
        if cell:
            yield column, cell, [row[column] for row in rows if column < len(row) and not _is_missing(row[column])]


def _evidence(cell: str, look: _Look, values: Sequence[str]) -> int:
    """How much a column speaks for a header (positive) or against one."""
    if not values or look is _Look.MISSING:
        return 0
    if cell in values:
        return -2
    usual, count = Counter(map(_look, values)).most_common(1)[0]
    if look is _Look.TEXT:
        if usual is not _Look.TEXT:
            return 1 if count * 2 > len(values) else 0
        return 1 if len(values) > 1 and _differs(cell, values) else 0
    if usual is _Look.TEXT:
        return 0
    return -1 if look is usual or usual is _Look.YEAR or look is _Look.NUMBER else 1


def _differs(cell: str, values: Sequence[str]) -> bool:
    """Whether a text is of another kind than the texts below: without their digits, or far shorter."""
    if not _has_digit(cell) and sum(map(_has_digit, values)) >= 0.8 * len(values):
        return True
    return len(cell) * 3 < sorted(map(len, values))[len(values) // 4]


def _is_sequence(row: Sequence[str]) -> bool:
    """Whether the numbers of a row are two or more years, or three or more numbers that count up or down by one."""
    looks = [_look(cell) for cell in row]
    found = [cell for cell, look in zip(row, looks, strict=True) if look in (_Look.NUMBER, _Look.YEAR)]
    if not all(cell.isdecimal() and len(cell) < 10 for cell in found):
        return False
    numbers = [int(cell) for cell in found]
    steps = {after - before for before, after in pairwise(numbers)}
    if _Look.NUMBER not in looks:
        return len(steps) == 1 and (abs(max(steps)) == 1 or (len(numbers) > 2 and steps != {0}))
    return len(numbers) > 2 and steps in ({1}, {-1}) and len(found) < len(row)


def _look(cell: str) -> _Look:
    if _is_missing(cell):
        return _Look.MISSING
    if _YEAR.fullmatch(cell):
        return _Look.YEAR
    if _DATE.fullmatch(cell):
        return _Look.DATE
    return _Look.NUMBER if _NUMBER.fullmatch(cell.strip(_AROUND_NUMBER)) else _Look.TEXT


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in _MISSING


def _has_digit(text: str) -> bool:
    return any(char.isdigit() for char in text)

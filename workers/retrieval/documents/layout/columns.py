"""Puts the lines of a page into reading order where a file draws columns row by row.

Most files draw one column after the other, and their order is kept. Some programs draw the first line of each column,
then the second: read in that order, sentences of different columns alternate. A table is drawn in the same way but must
be read by rows; the difference is that lines of columns are full of words, and cells mostly are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from statistics import median
from typing import Final

from workers.retrieval.documents.layout.word import Line, Word, smaller_height

# Rows that must have text on both sides of a gutter. Fewer are a heading, an address or a small table.
_LEAST_ROWS: Final = 4
# A gutter is at least this wide, in line heights. Spaces in justified text rarely are.
_GUTTER: Final = 1.0
# A line of a column has this many words, and fills this share of the column's width, in the median.
_LEAST_WORDS: Final = 3
_FILLED: Final = 0.7
_MOST_COLUMNS: Final = 6


def in_reading_order(lines: Sequence[Line]) -> list[str]:
    """The lines of a page as text; those of columns that were drawn row by row are put one column after the other.

    Args:
        lines: in the order in which they were drawn.
    """
    words = [word for line in lines for word in line]
    if len(words) < _LEAST_ROWS * 2 * _LEAST_WORDS or _is_right_to_left(words):
        return [_text(line) for line in lines]
    drawn = {id(word): number for number, word in enumerate(words)}
    found = rows(words)
    ordered = [_text(row) for row in _ordered(found, drawn, _MOST_COLUMNS)]
    # Without columns, the order and the line breaks of the file are better than those of the rows.
    return ordered if len(ordered) > len(found) else [_text(line) for line in lines]


def _text(words: Sequence[Word]) -> str:
    return " ".join(word.text for word in words)


def _is_right_to_left(words: Sequence[Word]) -> bool:
    return sum(word.is_right_to_left for word in words) > len(words) // 10


def rows(words: Sequence[Word]) -> list[Line]:
    """All words of each height on the page, from top to bottom, each row from left to right."""
    found: list[list[Word]] = []
    for word in sorted(words, key=lambda word: (-(word.bottom + word.top), word.left)):
        middle = (word.bottom + word.top) / 2
        if found and found[-1][0].bottom < middle < found[-1][0].top:
            found[-1].append(word)
        else:
            found.append([word])
    return [tuple(sorted(row, key=lambda word: word.left)) for row in found]


def _ordered(rows: Sequence[Line], drawn: dict[int, int], most: int) -> list[Line]:
    """The rows, with those that form columns divided and put one column after the other."""
    out: list[Line] = []
    for gutter, group in _bands(rows) if most > 1 else [(None, rows)]:
        if gutter is None or not _are_columns(group, gutter, drawn):
            out += group
            continue
        sides = [_divided(row, gutter) for row in group]
        for side in (0, 1):
            out += _ordered([parts[side] for parts in sides if parts[side]], drawn, most - 1)
    return out


def _bands(rows: Sequence[Line]) -> Iterator[tuple[float | None, list[Line]]]:
    """Successive rows that the same gutter divides, with the place of the gutter; and those between, with None.

    A heading across the columns, or a picture's caption, ends a band.
    """
    gutter = _gutter(rows)
    if gutter is None:
        yield None, list(rows)
        return
    for crossed, group in groupby(rows, lambda row: _crosses(row, gutter)):
        yield (None if crossed else gutter), list(group)


def _gutter(rows: Sequence[Line]) -> float | None:
    """The place that gaps of most rows have in common; None if too few have one."""
    ends = [end for row in rows for left, right in _gaps(row) for end in ((left, 1), (right, -1))]
    ends.sort()
    best, most, shared = None, _LEAST_ROWS - 1, 0
    for (place, step), (following, _) in pairwise(ends):
        shared += step
        if shared > most:
            best, most = (place + following) / 2, shared
    return best


def _gaps(row: Line) -> Iterator[tuple[float, float]]:
    for before, after in pairwise(row):
        if after.left - before.right >= _GUTTER * smaller_height(before, after):
            yield before.right, after.left


def _crosses(row: Line, gutter: float) -> bool:
    """Whether a row has text at the gutter, or only the space between two words."""
    sides = _divided(row, gutter)
    if not all(sides):
        return any(word.left < gutter < word.right for word in row)
    return not any(left <= gutter <= right for left, right in _gaps(row))


def _divided(row: Line, gutter: float) -> tuple[Line, Line]:
    return (
        tuple(word for word in row if word.left + word.right <= 2 * gutter),
        tuple(word for word in row if word.left + word.right > 2 * gutter),
    )


def _are_columns(rows: Sequence[Line], gutter: float, drawn: dict[int, int]) -> bool:
    """Whether rows with this gutter are columns of prose that were drawn row by row."""
    both = [sides for sides in (_divided(row, gutter) for row in rows) if all(sides)]
    if len(both) < _LEAST_ROWS:
        return False
    alternating = sum(drawn[id(right[0])] == drawn[id(left[-1])] + 1 for left, right in both)
    if alternating < len(both) / 2:
        return False
    return all(_is_prose([sides[side] for sides in both]) for side in (0, 1))


def _is_prose(lines: Sequence[Line]) -> bool:
    width = max(line[-1].right for line in lines) - min(line[0].left for line in lines)
    filled = median(line[-1].right - line[0].left for line in lines)
    return median(len(line) for line in lines) >= _LEAST_WORDS and filled >= _FILLED * width

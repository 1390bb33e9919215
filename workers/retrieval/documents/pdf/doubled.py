"""Finds characters that are drawn twice, a little apart, to look bold: "MMaapp" instead of "Map".

PDFium leaves out a text that is drawn again in the same place, but not one that is moved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from workers.retrieval.documents.pdf.spaces import Box

# In heights of the line. The narrowest letters that follow each other, such as two l, are 0.16 apart.
_MOVED: Final = 0.08
# So many characters in a row must be doubled. Where a font has wrong widths, double letters are as close.
_LEAST: Final = 3


def doubled(chars: Sequence[tuple[int, str]], box: Callable[[int], Box]) -> set[int]:
    """The indexes of characters that repeat the one before them, in almost the same place.

    Args:
        chars: each character with its index.
        box: the place of the character with an index.
    """
    drawn = [one for one in chars if not one[1].isspace()]
    again: set[int] = set()
    row: list[int] = []
    at = 0
    while at < len(drawn) - 1:
        (before, first), (index, second) = drawn[at : at + 2]
        if first == second and _is_moved(box(before), box(index)):
            row.append(index)
            at += 2
            continue
        if len(row) >= _LEAST:
            again.update(row)
        row = []
        at += 1
    return again.union(row) if len(row) >= _LEAST else again


def _is_moved(before: Box, after: Box) -> bool:
    left, _, bottom, top = before
    most = _MOVED * (top - bottom)
    return abs(after[0] - left) < most and abs(after[2] - bottom) < most

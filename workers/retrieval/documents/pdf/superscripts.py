"""Joins what stands on one line of a page although its heights differ: superscripts, subscripts and initials.

PDFium ends a line where the next character is higher or lower, and sees a space there even if there is no room.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from workers.retrieval.documents.layout.word import Line, Word, smaller_height

# Gaps between two words, in heights of the smaller one: below the first they are one word, above the second they are
# on different lines. The third is how far a word may reach back into the one before.
_ONE_WORD: Final = 0.1
_ONE_LINE: Final = 2.0
_BACK: Final = 0.5
# Both must share this part of the smaller one's height.
_SHARED: Final = 0.3
_RAISED: Final = 0.1


def joined(lines: Sequence[Line]) -> list[Line]:
    """The lines, in their order, with those joined that are parts of one, and words that touch made one."""
    whole: list[list[Word]] = []
    for line in lines:
        if whole and _is_continued(whole[-1][-1], line[0]):
            whole[-1] += line
        else:
            whole.append(list(line))
    return [tuple(_words(line)) for line in whole]


def _is_continued(before: Word, after: Word) -> bool:
    height = smaller_height(before, after)
    gap = after.left - before.right
    return _is_beside(before, after) and -_BACK * height <= gap <= _ONE_LINE * height


def _is_beside(before: Word, after: Word) -> bool:
    height = smaller_height(before, after)
    return min(before.top, after.top) - max(before.bottom, after.bottom) > _SHARED * height > 0


def _is_raised(before: Word, after: Word) -> bool:
    height = smaller_height(before, after)
    moved = max(abs(before.bottom - after.bottom), abs(before.top - after.top))
    return _is_beside(before, after) and moved > _RAISED * height


def _words(line: Sequence[Word]) -> Iterator[Word]:
    word = line[0]
    for before, after in pairwise(line):
        height = smaller_height(before, after)
        touches = _is_raised(before, after) and -_BACK * height <= after.left - before.right < _ONE_WORD * height
        if touches and not after.is_apart and not after.is_right_to_left:
            word = Word(
                word.text + after.text,
                min(word.left, after.left),
                max(word.right, after.right),
                min(word.bottom, after.bottom),
                max(word.top, after.top),
                word.is_apart,
            )
        else:
            yield word
            word = after
    yield word

"""Finds spaces within words, which PDFium adds and no reader sees.

PDFium concludes from gaps where words end. It also sees ends within words whose letters are spaced out, or whose size
is given by a matrix instead of the font.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Final

Box = tuple[float, float, float, float]
"""Left, right, bottom and top."""

_WITHOUT_SPACES: Final = re.compile("[\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_RIGHT_TO_LEFT: Final = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]")
# Gaps are measured in heights of the line. `True` is for files with spaces of their own: PDFium's are needed less
# there, so a gap must be wider to count.
# A narrower gap separates no words. It decides where a word has too few letters to compare with.
_NARROW: Final = {False: 0.08, True: 0.13}
# Otherwise a gap separates words if it is wider than the median of those between letters, by this much ...
_MORE: Final = {False: 0.03, True: 0.07}
# ... and by this factor,
_ALIKE: Final = 1.15
# or if it is as wide as this, which no gap between letters is.
_WIDE: Final = 0.4
# The share of spaces in a text that has them; most languages have about 0.15.
_OWN_SPACES: Final = 0.08
# Scripts that put no spaces between words may be spaced out so far. What is further away is another column.
_APART: Final = 1.0
_NEIGHBOURS: Final = 4
_SHARED: Final = 0.5


def false_spaces(
    chars: Sequence[tuple[int, str]], box: Callable[[int], Box], is_added: Callable[[int], bool]
) -> set[int]:
    """The indexes of spaces that are none.

    Args:
        chars: each character with its index.
        box: the place of the character with an index.
        is_added: whether PDFium added the character with an index.
    """
    spaces = [at for at, (_, char) in enumerate(chars) if char == " "]
    added = {at for at in spaces if is_added(chars[at][0])}
    has_own = len(spaces) - len(added) >= _OWN_SPACES * len(chars)
    within = (at for at in added if 0 < at < len(chars) - 1)
    return {chars[at][0] for at in within if _is_false(chars, at, box, has_own=has_own)}


def _is_false(chars: Sequence[tuple[int, str]], at: int, box: Callable[[int], Box], *, has_own: bool) -> bool:
    (before, first), (after, second) = chars[at - 1], chars[at + 1]
    if first.isspace() or second.isspace():
        return False
    gap = _gap(box(before), box(after))
    if gap is None or _RIGHT_TO_LEFT.match(first) or _RIGHT_TO_LEFT.match(second):
        return False
    if _WITHOUT_SPACES.match(first) and _WITHOUT_SPACES.match(second):
        return gap < _APART
    left, right = range(at - 1, at - 1 - _NEIGHBOURS, -1), range(at + 1, at + 1 + _NEIGHBOURS)
    others = [*_gaps(chars, left, box), *_gaps(chars, right, box)]
    if len(others) < (1 if has_own else 2):
        return gap < _NARROW[has_own]
    usual = median(others)
    return gap < min(_WIDE, max(_ALIKE * usual, usual + _MORE[has_own]))


def _gaps(chars: Sequence[tuple[int, str]], places: range, box: Callable[[int], Box]) -> Iterator[float]:
    """The gaps between the characters of a word, from one of its ends."""
    step = places.step
    for at in places:
        if not 0 <= at + step < len(chars) or chars[at + step][1].isspace():
            return
        one, other = sorted((chars[at][0], chars[at + step][0]))
        gap = _gap(box(one), box(other))
        if gap is not None:
            yield gap


def _gap(before: Box, after: Box) -> float | None:
    """How far two characters of a line are apart, in heights; None if they are not beside each other."""
    height = min(before[3] - before[2], after[3] - after[2])
    if min(before[3], after[3]) - max(before[2], after[2]) < _SHARED * height or height <= 0:
        return None
    gap = (after[0] - before[1]) / height
    return gap if gap > -_SHARED else None

"""Puts accents on letters, where a file draws them as two characters in the same place.

Programs of the TeX family do so with fonts that have no accented letters: an acute accent, then the letter, or the
other way round.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final

_COMBINING: Final = {
    "`": "\u0300", "\u00b4": "\u0301", "\u02ca": "\u0301", "\u02c6": "\u0302", "^": "\u0302", "\u02dc": "\u0303",
    "\u00af": "\u0304", "\u02d8": "\u0306", "\u02d9": "\u0307", "\u00a8": "\u0308", "\u02da": "\u030a",
    "\u02dd": "\u030b", "\u02c7": "\u030c", "\u00b8": "\u0327", "\u02db": "\u0328",
}  # fmt: skip
ACCENTS: Final = frozenset(_COMBINING)
# The letter below an accent; a dotless i gets its dot back, which NFC then replaces.
_DOTLESS: Final = {"\u0131": "i", "\u0237": "j"}
_OVERLAP: Final = 0.5


def with_accents(text: str, places: Sequence[tuple[float, float]]) -> str:
    """A word with its accents on the letters that they overlap.

    Args:
        places: left and right of each character.
    """
    out: list[str] = []
    at = 0
    while at < len(text):
        mark = _COMBINING.get(text[at])
        if mark and at and _makes_letter(text[at - 1], mark) and _overlap(places[at], places[at - 1]):
            out[-1] = _composed(text[at - 1], mark)
        elif mark and at + 1 < len(text) and _makes_letter(text[at + 1], mark) and _overlap(places[at], places[at + 1]):
            out.append(_composed(text[at + 1], mark))
            at += 1
        else:
            out.append(text[at])
        at += 1
    return "".join(out)


def _composed(letter: str, mark: str) -> str:
    return unicodedata.normalize("NFC", _DOTLESS.get(letter, letter) + mark)


def _makes_letter(letter: str, mark: str) -> bool:
    return letter.isalpha() and len(_composed(letter, mark)) == 1


def _overlap(accent: tuple[float, float], letter: tuple[float, float]) -> bool:
    shared = min(accent[1], letter[1]) - max(accent[0], letter[0])
    return shared >= _OVERLAP * min(accent[1] - accent[0], letter[1] - letter[0])

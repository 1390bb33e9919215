"""Mends the text of fonts whose mapping to Unicode is in UTF-8, where UTF-16 is required.

Of two bytes that are one letter in UTF-8, Cyrillic or Greek for instance, UTF-16 makes one Korean syllable.
"""

from __future__ import annotations

from typing import Final

_SYLLABLES: Final = range(0xAC00, 0xD7A4)
# A quarter of all syllables could be a letter: fewer than these may all be so by chance.
_LEAST: Final = 16


def with_letters(text: str) -> str:
    """The text of a page with letters in the place of its Korean syllables, if all of them are letters in UTF-8."""
    syllables = [char for char in text if ord(char) in _SYLLABLES]
    if len(syllables) < _LEAST:
        return text
    letters = {ord(char): _in_utf8(char) for char in set(syllables)}
    return text.translate(letters) if all(letters.values()) else text


def _in_utf8(char: str) -> str:
    try:
        letter = char.encode("utf-16-be").decode("utf-8")
    except UnicodeDecodeError:
        return ""
    return letter if len(letter) == 1 and letter.isalpha() else ""

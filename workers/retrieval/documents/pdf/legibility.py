"""Tells text from noise: the characters of fonts that have a wrong mapping to Unicode, or none.

A font may number its glyphs in any order, and a file may omit what the numbers mean. Printed and on a screen such text
looks right; as characters it is noise, which must not be indexed. Where the mapping is missing, PDFium returns the
numbers themselves. They are right if the font is in the order of some usual character set, which its text shows.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import Final

# Quotation marks, dashes and the like are right even without a mapping: no font has glyphs at these numbers by chance.
_PUNCTUATION: Final = range(0x2010, 0x2040)
# Of the characters that are not spaces, this share must be letters and digits, and of the letters this share must be of
# one script. Latin letters occur in all texts.
_LETTERS_AND_DIGITS: Final = 0.7
_ONE_SCRIPT: Final = 0.9
_JAPANESE: Final = frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"})
# The share of vowels in Latin text is 0.35 to 0.5 in most languages. Of fewer letters than these nothing can be said.
_VOWELS: Final = frozenset("aeiouy")
_FEWEST_VOWELS: Final = 0.2
_LEAST_LETTERS: Final = 16

_WORD: Final = re.compile(r"[^\W\d_]{5,}")
_VOWEL: Final = re.compile(r"[aeiouyw]")
_LEAST_WORDS: Final = 20
_MUTE_SHARE: Final = 0.4


def is_legible(char: str) -> bool:
    """Whether a character is right even if its font has no mapping."""
    return ord(char) in _PUNCTUATION


def is_text(chars: str) -> bool:
    """Whether the unmapped characters of a font are text."""
    signs = [char for char in chars if not char.isspace()]
    kinds = [unicodedata.category(char) for char in signs]
    if any(kind in ("Cc", "Cn", "Co", "Cs") for kind in kinds):
        return False
    letters = [char for char, kind in zip(signs, kinds, strict=True) if kind[0] == "L"]
    digits = sum(kind[0] == "N" for kind in kinds)
    if len(letters) + digits < _LETTERS_AND_DIGITS * len(signs):
        return False
    return _is_of_one_script(letters) and _has_vowels(letters)


def is_noise(text: str) -> bool:
    """Whether the words of a page are Latin letters that were exchanged for others, by a wrong mapping.

    In every language that we looked at, hardly any word of five letters has no vowel.
    """
    words = [word.casefold() for word in _WORD.findall(text)]
    latin = [word for word in words if word.isascii()]
    if len(latin) < _LEAST_WORDS or len(latin) < len(words) / 2:
        return False
    return sum(_VOWEL.search(word) is None for word in latin) > _MUTE_SHARE * len(latin)


def _is_of_one_script(letters: list[str]) -> bool:
    scripts = Counter(unicodedata.name(letter, "?").partition(" ")[0] for letter in letters)
    japanese = sum(count for script, count in scripts.items() if script in _JAPANESE)
    latin = scripts.pop("LATIN", 0)
    most = max([japanese, *scripts.values()])
    return latin + most >= _ONE_SCRIPT * len(letters)


def _has_vowels(letters: list[str]) -> bool:
    latin = [unicodedata.normalize("NFD", letter)[0].lower() for letter in letters]
    latin = [letter for letter in latin if letter.isascii()]
    if len(latin) < _LEAST_LETTERS or len(latin) < len(letters) / 2:
        return True
    return sum(letter in _VOWELS for letter in latin) >= _FEWEST_VOWELS * len(latin)

"""Other spellings of the same words: compatibility characters, digits of other scripts, and umlauts as two letters."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

# Ü is written ue where a keyboard has none; the engine itself makes it u. The same for ä, ö, and å and ø of the north.
_AS_TWO: Final = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "æ": "ae"})
_TWO: Final = re.compile(r"(?:ae|oe|aa|(?<![aeouäöq])ue)")
_ARABIC_MARKS: Final = re.compile("[\u0640\u064b-\u065f\u0670]")  # the lengthening stroke and vowel signs


def normalised(text: str) -> str:
    """The text in composed, compatible characters, with decimal digits of any script as 0 to 9.

    Lone surrogates (half an emoji) are replaced, since the engine would reject the whole text.
    """
    text = unicodedata.normalize("NFKC", text.encode("utf-8", "replace").decode("utf-8"))
    if text.isascii():
        return text
    text = _ARABIC_MARKS.sub("", text)
    return "".join(str(unicodedata.decimal(one)) if one > "\x7f" and one.isdecimal() else one for one in text)


def respelled(word: str) -> list[str]:
    """The word with its umlauts as two letters, and with two letters as the plain letter that an umlaut becomes."""
    lower = word.lower()
    others = (lower.translate(_AS_TWO), _TWO.sub(lambda two: two.group()[0], lower))
    return [other for other in dict.fromkeys(others) if other != lower]
